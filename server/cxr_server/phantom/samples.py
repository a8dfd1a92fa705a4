"""Samples: phantoms as PNG files, named by what is planted in them. Needs no torch."""

from collections.abc import Sequence
from pathlib import Path

import numpy as np
from PIL import Image

from cxr_server.phantom.draw import Phantom, draw_phantom
from cxr_server.phantom.findings import FINDINGS

NOTHING = "nothing"


def write_samples(
    output: Path, count: int = 8, size_px: int = 512, *, masks: bool = False, first_seed: int = 0
) -> list[Path]:
    """Writes phantoms with seeds `first_seed`, `first_seed + 1`, ...

    They take turns: each finding alone, then none, then whatever the seed chooses. A file is
    named after its findings and its seed, as in `phantom-cardiomegaly-17.png`.

    Args:
        output: folder, made if need be.
        count: how many phantoms.
        size_px: side of the square image.
        masks: also write each finding's mask (255 on the finding), into `output/masks`, apart
            from the films so that a whole folder of films can be sent to a server.
        first_seed: of the first phantom. The shipped model never learned from seeds below ten
            million.

    Returns:
        The films' paths, in order of their seeds.

    Raises:
        ValueError: see `draw_phantom`.
        OSError: the folder cannot be written.
    """
    output.mkdir(parents=True, exist_ok=True)
    return [
        _write(output, draw_phantom(first_seed + index, _turn(index), size_px), masks=masks)
        for index in range(count)
    ]


def _turn(index: int) -> Sequence[str] | None:
    turns: tuple[Sequence[str] | None, ...] = (*((name,) for name in FINDINGS), (), None)
    return turns[index % len(turns)]


def _write(output: Path, phantom: Phantom, *, masks: bool) -> Path:
    planted = [name.lower() for name in FINDINGS if name in phantom.masks] or [NOTHING]
    stem = "-".join(["phantom", *planted, str(phantom.seed)])
    path = output / f"{stem}.png"
    Image.fromarray(phantom.pixels_hw).save(path)
    if masks:
        folder = output / "masks"
        folder.mkdir(exist_ok=True)
        for name, mask in phantom.masks.items():
            white = mask.astype(np.uint8) * np.uint8(255)
            Image.fromarray(white).save(folder / f"{stem}.{name.lower()}.png")
    return path
