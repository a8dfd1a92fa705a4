"""Films: a folder, phantoms or the shipped samples -> network inputs. Next: quantize.

Operator's films are taken in the order of their SHA-256, so that neither their names nor their
dates decide which of them are calibrated with.
"""

import hashlib
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from dataclasses import dataclass, field
from importlib.util import find_spec
from itertools import islice
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from cxr_server.budget import ThreadBudget
from cxr_server.bundles.manifest import BundleError, Description
from cxr_server.bundles.quantization import FilmSource
from cxr_server.bundles.store import SAMPLES_PATH
from cxr_server.errors import ImageError, OperatorError
from cxr_server.imaging.radiograph import DecodeLimits
from cxr_server.inference.preprocess import Job, hold_of, preprocess, preprocessing_of

MAX_FILMS = 300
"""Maximum number of the operator's films, for calibration and for measurement each."""
MIN_FILMS = 20
DRAWN = (96, 192)
"""Number of phantoms for calibration and for measurement."""
DRAWN_SEEDS = (1_000_000, 2_000_000)
"""First seeds of these sets; phantom models are trained with seeds from ten million on."""
DRAWN_SIDE_PX = 256
DECODE_BYTES = 2**30


@dataclass(frozen=True, slots=True)
class Film:
    """The network's input [1, S, S] of a film, and the masks of a phantom's findings."""

    image_chw: NDArray[np.float32]
    masks: dict[str, NDArray[np.bool_]] = field(default_factory=dict)
    """bool [side, side] by finding in lower case: the square that the network sees."""


@dataclass(frozen=True, slots=True)
class Films:
    """Films to calibrate with and others to measure on."""

    source: FilmSource
    calibration: list[Film]
    measured: list[Film]


def find_films(folder: Path | None, description: Description) -> Films:
    """Return the films of a folder; without one, phantoms, or else the shipped samples.

    Raises BundleError for a folder with fewer than `MIN_FILMS` usable films.
    """
    if folder is not None:
        used = list(islice(_own(folder, description), 2 * MAX_FILMS))
        if len(used) < MIN_FILMS:
            raise BundleError(f"{folder} has {len(used)} usable films, and {MIN_FILMS} are needed")
        return Films("own", used[::2], used[1::2])
    if find_spec("cxr_phantom") is not None:
        calibration, measured = (
            _drawn(seed, count, description) for seed, count in zip(DRAWN_SEEDS, DRAWN, strict=True)
        )
        return Films("phantoms", calibration, measured)
    samples = [_film(path.read_bytes(), description) for path in sorted(SAMPLES_PATH.glob("*.png"))]
    return Films("samples", samples[::2], samples[1::2])


def usable_inputs(folder: Path, description: Description) -> Iterator[Film | None]:
    """Yield each file below a folder, None for one that is no image or no frontal chest."""
    for path in sorted(path for path in folder.rglob("*") if path.is_file()):
        try:
            yield _film(path.read_bytes(), description, strict=True)
        except ImageError:
            yield None


def _own(folder: Path, description: Description) -> Iterator[Film]:
    """Yield different films in the order of their hashes."""
    if not folder.is_dir():
        raise BundleError(f"{folder} is not a folder")
    by_hash = {}
    for path in folder.rglob("*"):
        if path.is_file():
            with path.open("rb") as file:
                by_hash[hashlib.file_digest(file, "sha256").digest()] = path
    for _, path in sorted(by_hash.items()):
        try:
            yield _film(path.read_bytes(), description, strict=True)
        except ImageError:
            continue


def _drawn(seed: int, count: int, description: Description) -> list[Film]:
    """Draw phantoms by the command, since the package does not depend on cxr-phantom."""
    with tempfile.TemporaryDirectory() as folder:
        options = {"output": folder, "count": count, "seed": seed, "size": DRAWN_SIDE_PX}
        words = [f"--{name}={value}" for name, value in options.items()]
        command = [sys.executable, "-m", "cxr_phantom", "draw", "--masks", *words]
        drawn = subprocess.run(command, capture_output=True, text=True)
        if drawn.returncode:
            reason = drawn.stderr.strip().splitlines()[-1:] or ["it has been ended"]
            raise OperatorError(f"cxr-phantom failed: {reason[0]}")
        films = []
        for path in sorted(Path(folder).glob("*.png")):
            film = _film(path.read_bytes(), description)
            for mask in Path(folder, "masks").glob(f"{path.stem}.*.png"):
                film.masks[mask.suffixes[0][1:]] = np.array(Image.open(mask)) > 0
            films.append(film)
    return films


def _film(file: bytes, description: Description, *, strict: bool = False) -> Film:
    job = Job(
        preprocessing=preprocessing_of(description),
        side_px=description.input_side_px,
        limits=DecodeLimits(),
        strict=strict,
    )
    hold = hold_of(ThreadBudget(DECODE_BYTES), _never_ends)
    return Film(preprocess(file, job, hold=hold, check=_never_ends).image_chw)


def _never_ends() -> None:
    """A check that never raises: commands have no deadline."""
