"""Samples: phantoms as PNG files, named after what is planted in them. Needs no torch."""

import argparse
from pathlib import Path

import numpy as np
from PIL import Image

from cxr_phantom.draw import Phantom, draw_phantom
from cxr_phantom.findings import FINDINGS

SELECTIONS: tuple[tuple[str, ...], ...] = (
    *((name,) for name in FINDINGS),
    (),
    ("Cardiomegaly", "Effusion"),
)
"""Findings by position, repeated as needed: each one alone, none, and two together."""


def write_samples(
    output: Path,
    count: int = len(SELECTIONS),
    size_px: int = 512,
    *,
    masks: bool = False,
    first_seed: int = 0,
) -> list[Path]:
    """Write phantoms with consecutive seeds as greyscale PNG files.

    With the defaults these are the films that the server ships
    (`cxr_server/bundles/phantom-samples`). A file is named after its findings and its seed, for
    example `phantom-cardiomegaly-0.png`.

    Args:
        output: Folder; created if it does not exist.
        count: Number of phantoms.
        size_px: Side of the square image.
        masks: Also write the mask of each finding (255 inside), to `output/masks`, so that
            `output` itself contains only radiographs.
        first_seed: Seed of the first phantom. The training sets start at seed 10,000,000.

    Returns:
        The paths of the radiographs, in order of their seeds.

    Raises:
        ValueError: `count` is less than 1, or see `draw_phantom`.
        OSError: The folder cannot be written.
    """
    if count < 1:
        raise ValueError("count must be at least 1")
    output.mkdir(parents=True, exist_ok=True)
    return [
        _write(
            output,
            draw_phantom(first_seed + index, SELECTIONS[index % len(SELECTIONS)], size_px),
            masks=masks,
        )
        for index in range(count)
    ]


def _write(output: Path, phantom: Phantom, *, masks: bool) -> Path:
    planted = [name.lower() for name in FINDINGS if name in phantom.masks] or ["nothing"]
    stem = "-".join(["phantom", *planted, str(phantom.seed)])
    path = output / f"{stem}.png"
    Image.fromarray(phantom.pixels_hw).save(path, optimize=True)
    if masks:
        folder = output / "masks"
        folder.mkdir(exist_ok=True)
        for name, mask in phantom.masks.items():
            white = mask.astype(np.uint8) * np.uint8(255)
            Image.fromarray(white).save(folder / f"{stem}.{name.lower()}.png")
    return path


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Add the arguments of `cxr-phantom draw`."""
    parser.add_argument(
        "--output", type=Path, required=True, metavar="DIR", help="folder of the PNG files"
    )
    parser.add_argument(
        "--count",
        type=int,
        default=len(SELECTIONS),
        metavar="N",
        help="number of phantoms (default: %(default)s)",
    )
    parser.add_argument(
        "--size", type=int, default=512, metavar="PX", help="side, pixels (default: %(default)s)"
    )
    parser.add_argument("--masks", action="store_true", help="also write a mask of each finding")
    parser.add_argument(
        "--seed", type=int, default=0, metavar="S", help="seed of the first phantom (default: 0)"
    )


def run(args: argparse.Namespace) -> int:
    """Draw the files and print their paths. Returns the exit status."""
    for path in write_samples(
        args.output, args.count, args.size, masks=args.masks, first_seed=args.seed
    ):
        print(path)
    return 0
