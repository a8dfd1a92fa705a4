"""What the checks of quality say to real images, turned, cut and photographed: a table.

Run it from tests/ with a folder of radiographs: `CXR_TEST_RADIOGRAPHS=... python -m gate_table`.

Beside those it takes a chest, a leg, tomographies and ultrasounds of pydicom-data, photographs of
scikit-image, and drawings. docs/image-files.md has the result for five real films.
"""

import os
import warnings
from collections.abc import Callable, Iterator
from importlib.resources import files
from pathlib import Path

import numpy as np
import pydicom.data
import skimage.data
from numpy.typing import NDArray
from PIL import Image, ImageDraw

from cxr_phantom.canvas import stream
from cxr_phantom.dataset import HELD_OUT_SEED
from cxr_phantom.draw import draw_phantom
from cxr_phantom.film_scenes import SIDE_PX, ordinary, photographed
from cxr_server.imaging.codecs import decode
from cxr_server.imaging.quality import UNLIKELY, inspect
from cxr_server.imaging.radiograph import InputWarning, Radiograph
from imaging.test_gate import PHOTOGRAPHS

Grey = NDArray[np.uint8]
SHOWN = (
    InputWarning.POSSIBLY_ROTATED,
    InputWarning.POSSIBLY_NOT_CHEST,
    InputWarning.POSSIBLY_PHOTOGRAPH,
    InputWarning.LETTERBOXED,
)
TOMOGRAPHIES = (
    "CT_small",
    "MR_small",
    "693_UNCR",
    "693_J2KR",
    "MR2_UNCR",
    "eCT_Supplemental",
    "emri_small",
    "examples_overlay",
)
DRAWN_FILMS = 100


def real_films() -> Iterator[Grey]:
    """Yield the radiographs of the folder, and that of pydicom-data."""
    for file in sorted(Path(os.environ["CXR_TEST_RADIOGRAPHS"]).glob("*.png")):
        yield decode(file.read_bytes()).display_hw()
    yield decode(files("data_store").joinpath("data/RG1_UNCR.dcm").read_bytes()).display_hw()


def in_a_viewer(film_hw: Grey) -> Grey:
    """A screenshot: the film in a dark window with a list of series."""
    window = Image.new("L", (1600, 1000), 32)
    film = Image.fromarray(film_hw)
    film.thumbnail((900, 860))
    window.paste(film, (380, 90))
    draw = ImageDraw.Draw(window)
    draw.rectangle((0, 0, 1600, 60), fill=62)
    for line in range(20):
        draw.text((20, 90 + 40 * line), f"Series {line}  CHEST PA  W {line * 40}", fill=198)
    return np.asarray(window)


def of_a_film(film_hw: Grey) -> Grey:
    """A photograph: the film askew on grey, a little darker, with the reflection of a lamp."""
    film = Image.fromarray(film_hw).resize((900, 900))
    corners = (-60, -90, -20, 960, 930, 1000, 960, -30)
    askew = film.transform((1000, 1000), Image.Transform.QUAD, corners, fillcolor=86)
    y_hw, x_hw = np.mgrid[:1000, :1000]
    lamp_hw = 120 * np.exp(-((x_hw - 300) ** 2 + (y_hw - 250) ** 2) / (2 * 120**2))
    return np.clip(0.76 * np.asarray(askew) + lamp_hw + 12, 0, 255).astype(np.uint8)


def quarters(film_hw: Grey) -> list[Grey]:
    height, width = (side // 2 for side in film_hw.shape)
    return [
        film_hw[top : top + height, left : left + width]
        for top in (0, height)
        for left in (0, width)
    ]


def crooked(film_hw: Grey) -> list[Grey]:
    """The film turned a little on black, as crooked scans and shutters show it."""
    film = Image.fromarray(film_hw)
    return [
        np.asarray(film.rotate(angle, Image.Resampling.BICUBIC, expand=expand))
        for angle in (-10, -5, -2, 2, 5, 10)
        for expand in (False, True)
    ]


FROM_FILMS: dict[str, Callable[[Grey], list[Grey]]] = {
    "real frontal films": lambda film_hw: [film_hw],
    "the same mirrored": lambda film_hw: [film_hw[:, ::-1]],
    "rotated by 90, 180, 270 degrees, flipped vertically": lambda film_hw: [
        *(np.rot90(film_hw, turns) for turns in (1, 2, 3)),
        film_hw[::-1],
    ],
    "inverted": lambda film_hw: [255 - film_hw],
    "quarters of them": quarters,
    "with little contrast": lambda film_hw: [(0.15 * film_hw + 100).astype(np.uint8)],
    "rotated by up to 10 degrees on black": crooked,
    "with black borders of 3, 8, 15 %": lambda film_hw: [
        np.pad(film_hw, len(film_hw) * share // 100) for share in (3, 8, 15)
    ],
    "in a screenshot of a viewer": lambda film_hw: [in_a_viewer(film_hw)],
    "photographed at an angle, with glare (simulated)": lambda film_hw: [of_a_film(film_hw)],
}


def drawn(kind: Callable[..., NDArray[np.float32]], number: int, **options: bool) -> list[Grey]:
    """Return `number` scenes of each of some drawn films that no training has seen."""
    made = []
    for seed in range(HELD_OUT_SEED + 90_000, HELD_OUT_SEED + 90_000 + DRAWN_FILMS):
        film_hw = np.float32(1 / 255) * draw_phantom(seed, size_px=SIDE_PX).pixels_hw
        rng = stream(seed, 72)
        scenes = (kind(film_hw, rng, **options) for _ in range(number))
        made += [np.rint(255 * scene_hw).astype(np.uint8) for scene_hw in scenes]
    return made


def of_pydicom(*names: str) -> list[Radiograph]:
    made = []
    for name in names:
        path = files("data_store").joinpath(f"data/{name}.dcm")
        found = str(path) if path.is_file() else pydicom.data.get_testdata_file(f"{name}.dcm")
        pixels = pydicom.dcmread(str(found)).pixel_array
        if pixels.ndim > 2:
            pixels = pixels[0] if pixels.shape[-1] > 4 or pixels.ndim > 3 else pixels
        if pixels.ndim > 2:
            pixels = pixels.mean(axis=-1)
        low, high = np.percentile(pixels, [1, 99])
        shown = np.clip((pixels - low) / (high - low), 0, 1) * 255
        grey = Image.fromarray(shown.astype(np.uint8)).resize((512, 512))
        made.append(Radiograph(np.asarray(grey), 255, "PNG", 8))
    return made


def of_scikit_image() -> Iterator[Radiograph]:
    for name in PHOTOGRAPHS:
        picture = Image.fromarray(np.asarray(getattr(skimage.data, name)())).convert("L")
        yield Radiograph(np.asarray(picture), 255, "PNG", 8)


def row(name: str, radiographs: list[Radiograph]) -> None:
    """Print how many of them get each warning, and how many strict input refuses."""
    seen = [set(each.warnings) | set(inspect(each, 224)) for each in radiographs]
    counts = [sum(warning in warnings for warnings in seen) for warning in SHOWN]
    refused = sum(bool(warnings & UNLIKELY) for warnings in seen)
    print("|", " | ".join(map(str, (name, len(seen), *counts, refused))), "|", flush=True)


def grey(images: list[Grey]) -> list[Radiograph]:
    return [Radiograph(np.ascontiguousarray(image_hw), 255, "PNG", 8) for image_hw in images]


def main() -> None:
    """Print the table."""
    print("| Images |", " | ".join(("number", *SHOWN, "refused")), "|")
    print("|---" * (len(SHOWN) + 3), "|", sep="")
    row("drawn films, exported in many ways", grey(drawn(ordinary, 10)))
    row("photographs of drawn films", grey(drawn(photographed, 10)))
    row("close-ups of drawn films", grey(drawn(photographed, 10, close=True)))
    films = list(real_films())
    for name, variants in FROM_FILMS.items():
        row(name, grey([image_hw for film_hw in films for image_hw in variants(film_hw)]))
    row("photographs and pictures of scikit-image, in grey", list(of_scikit_image()))
    row("CT and MR of pydicom", of_pydicom(*TOMOGRAPHIES))
    row("leg, ultrasound", of_pydicom("RG3_UNCR", "US1_UNCR", "OBXXXX1A", "examples_rgb_color"))


if __name__ == "__main__":
    warnings.simplefilter("ignore")
    main()
