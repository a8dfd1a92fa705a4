"""`cxr-server phantom-samples`: draws radiographs to try the service with."""

import argparse
import sys
from pathlib import Path


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Add the arguments of the command."""
    parser.add_argument(
        "--output", type=Path, default=Path("phantoms"), metavar="DIR", help="default: phantoms"
    )
    parser.add_argument("--count", type=int, default=8, metavar="N", help="default: 8")
    parser.add_argument(
        "--size", type=int, default=512, metavar="PX", help="side in pixels, default: 512"
    )
    parser.add_argument("--masks", action="store_true", help="also write where the findings are")
    parser.add_argument("--seed", type=int, default=0, metavar="S", help="of the first; default: 0")


def run(args: argparse.Namespace) -> int:
    """Draw the files and print their paths. Returns 0, or 1 when that failed."""
    from cxr_server.phantom.samples import write_samples

    try:
        if args.count < 1:
            raise ValueError("--count must be at least 1")
        paths = write_samples(
            args.output, args.count, args.size, masks=args.masks, first_seed=args.seed
        )
    except (ValueError, OSError) as error:
        print(f"cxr-server: {error}", file=sys.stderr)
        return 1
    for path in paths:
        print(path)
    return 0
