"""Whether a thumbnail shows an upright frontal chest, and whether borders surround it."""

from io import BytesIO
from pathlib import Path

import numpy as np
import pydicom.data
import pytest
import skimage.data
from PIL import Image

from cxr_phantom.draw import draw_phantom
from cxr_server.imaging.codecs import decode
from cxr_server.imaging.gate import View, thumbnail, view_of
from cxr_server.imaging.quality import UNLIKELY, inspect
from cxr_server.imaging.radiograph import InputWarning, Radiograph
from images import chest_like

PHOTOGRAPHS = [
    "astronaut",
    "brick",
    "camera",
    "cell",
    "chelsea",
    "clock",
    "coffee",
    "coins",
    "grass",
    "gravel",
    "horse",
    "hubble_deep_field",
    "immunohistochemistry",
    "logo",
    "microaneurysms",
    "moon",
    "page",
    "retina",
    "rocket",
    "text",
]
FILMS_HW = [draw_phantom(seed, size_px=256).pixels_hw for seed in range(6)]


def warnings_on(pixels_hw: np.ndarray, padding_hw: np.ndarray | None = None) -> set[InputWarning]:
    max_value = int(np.iinfo(pixels_hw.dtype).max)
    return set(inspect(Radiograph(pixels_hw, max_value, "PNG", 8, padding_hw=padding_hw), 224))


@pytest.mark.parametrize("film_hw", FILMS_HW)
def test_an_upright_film_is_frontal_mirrored_or_not_at_any_contrast_and_size(
    film_hw: np.ndarray,
) -> None:
    wide_hw = np.pad(film_hw, ((0, 0), (30, 30)), mode="reflect")
    dark_hw = (255 * (film_hw / 255) ** 1.7).astype(np.uint8)
    pale_hw = film_hw // 8 + 100
    for pixels_hw in (film_hw, film_hw[:, ::-1], wide_hw, dark_hw, pale_hw, film_hw[::4, ::4]):
        assert view_of(pixels_hw) is View.FRONTAL


@pytest.mark.parametrize(
    "shape_hw", [(256, 255), (255, 256), (511, 512), (1024, 1023), (320, 390), (766, 640)]
)
@pytest.mark.parametrize("film_hw", FILMS_HW)
def test_a_film_that_is_not_quite_square_is_judged_without_distortion(
    film_hw: np.ndarray, shape_hw: tuple[int, int]
) -> None:
    rows, columns = shape_hw
    side_px = max(shape_hw)
    large = Image.fromarray(film_hw).resize((side_px, side_px), Image.Resampling.LANCZOS)
    left, top = (side_px - columns) // 2, (side_px - rows) // 2
    cut_hw = np.asarray(large)[top : top + rows, left : left + columns].copy()
    doubts = {InputWarning.POSSIBLY_NOT_CHEST, InputWarning.POSSIBLY_ROTATED}
    assert not warnings_on(cut_hw) & doubts


@pytest.mark.parametrize("turns", [1, 2, 3])
@pytest.mark.parametrize("film_hw", FILMS_HW)
def test_a_turned_film_is_possibly_rotated_and_refused_by_strict_input(
    film_hw: np.ndarray, turns: int
) -> None:
    for upright_hw in (film_hw, film_hw[:, ::-1]):
        seen = warnings_on(np.ascontiguousarray(np.rot90(upright_hw, turns)))
        assert InputWarning.POSSIBLY_ROTATED in seen & UNLIKELY
        assert InputWarning.POSSIBLY_NOT_CHEST not in seen


def test_real_radiographs_are_frontal_and_turned_ones_are_noticed(radiographs: list[Path]) -> None:
    for file in radiographs:
        pixels_hw = decode(file.read_bytes()).pixels_hw
        assert view_of(pixels_hw) is View.FRONTAL
        for turns in (1, 2, 3):
            turned_hw = np.ascontiguousarray(np.rot90(pixels_hw, turns))
            assert InputWarning.POSSIBLY_ROTATED in warnings_on(turned_hw)


def test_the_real_film_of_pydicom_data_is_frontal() -> None:
    path = pydicom.data.get_testdata_file("RG1_UNCR.dcm", download=False)
    assert path, "pydicom-data is not installed"
    assert view_of(decode(Path(path).read_bytes()).pixels_hw) is View.FRONTAL


@pytest.mark.parametrize("name", PHOTOGRAPHS)
def test_photographs_are_not_frontal_and_refused_by_strict_input(name: str) -> None:
    picture = np.asarray(getattr(skimage.data, name)())
    grey_hw = np.asarray(Image.fromarray(picture).convert("L"))
    assert view_of(grey_hw) is not View.FRONTAL
    doubts = {InputWarning.POSSIBLY_NOT_CHEST, InputWarning.POSSIBLY_ROTATED}  # the latter: retina
    assert warnings_on(grey_hw) & UNLIKELY & doubts


@pytest.mark.parametrize("film_hw", FILMS_HW)
def test_a_quarter_of_a_film_is_possibly_no_chest(film_hw: np.ndarray) -> None:
    for rows in (slice(128), slice(128, None)):
        for columns in (slice(128), slice(128, None)):
            assert InputWarning.POSSIBLY_NOT_CHEST in warnings_on(film_hw[rows, columns].copy())


def test_what_has_no_structure_or_any_other_is_possibly_no_chest() -> None:
    rows, columns = np.mgrid[0:256, 0:256]
    noise = np.random.default_rng(0).integers(0, 256, (256, 256))
    for pixels_hw in (np.zeros((256, 256)), noise, rows, columns, (rows + columns) % 256):
        seen = warnings_on(pixels_hw.astype(np.uint8))
        assert InputWarning.POSSIBLY_NOT_CHEST in seen


def test_thumbnails_average_the_centred_square_of_any_size() -> None:
    tall_hw = np.vstack([np.full((8, 64), 255), np.tile(np.arange(64), (64, 1)), np.zeros((8, 64))])
    np.testing.assert_allclose(thumbnail(tall_hw), np.tile(np.arange(32) / 31, (32, 1)), atol=1e-5)
    for shape_hw in ((1, 1), (2, 3), (31, 90), (100, 33)):
        assert thumbnail(np.ones(shape_hw, np.uint8)).shape == (32, 32)


def with_border(grey: int, border_px: int) -> np.ndarray:
    """A film in a window of one grey value, with a line of text above it."""
    window = Image.new("L", (512, 512), grey)
    inside_px = 512 - 2 * border_px
    window.paste(Image.fromarray(chest_like(inside_px, inside_px)), (border_px, border_px))
    window.paste(255, (40, border_px // 2, 60, border_px // 2 + 4))
    file = BytesIO()
    window.save(file, "JPEG", quality=85)
    return decode(file.getvalue()).pixels_hw


@pytest.mark.parametrize("grey", [0, 30, 255])
def test_wide_borders_of_one_value_are_letterboxing_which_strict_input_accepts(grey: int) -> None:
    assert InputWarning.LETTERBOXED in warnings_on(with_border(grey, 80))
    assert InputWarning.LETTERBOXED not in warnings_on(with_border(grey, 20))
    assert InputWarning.LETTERBOXED not in UNLIKELY


def test_bars_at_two_sides_are_letterboxing_as_well() -> None:
    film_hw = chest_like(256, 180)
    barred_hw = np.pad(film_hw, ((0, 0), (38, 38)))
    assert InputWarning.LETTERBOXED in warnings_on(barred_hw)
    assert InputWarning.LETTERBOXED in warnings_on(barred_hw.T.copy())


def test_padding_is_no_letterbox() -> None:
    barred_hw = np.pad(chest_like(256, 180), ((0, 0), (38, 38)))
    padding_hw = np.zeros(barred_hw.shape, bool)
    padding_hw[:, :38] = padding_hw[:, -38:] = True
    assert InputWarning.LETTERBOXED not in warnings_on(barred_hw, padding_hw)
