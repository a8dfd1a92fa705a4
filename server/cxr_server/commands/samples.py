"""`cxr-server phantom-samples`: copies the shipped synthetic radiographs."""

import argparse
import shutil
from pathlib import Path

from cxr_server.bundles.store import SAMPLES_PATH


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Add the arguments of the command."""
    parser.add_argument(
        "--output", type=Path, default=Path("phantoms"), metavar="DIR", help="default: phantoms"
    )


def run(args: argparse.Namespace) -> int:
    """Copy the files and print their paths. Returns 0."""
    args.output.mkdir(parents=True, exist_ok=True)
    for path in sorted(SAMPLES_PATH.glob("*.png")):
        print(shutil.copyfile(path, args.output / path.name))
    return 0
