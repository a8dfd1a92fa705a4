"""`cxr-server prepare`: converts published or fine-tuned weights to a bundle. Needs no torch."""

import argparse
import sys
import time
from pathlib import Path

from cxr_server.bundles.load import load_bundle
from cxr_server.bundles.manifest import BundleError
from cxr_server.bundles.store import bundle_home, cache_home, resolve
from cxr_server.convert.convert import prepare
from cxr_server.convert.source import Source
from cxr_server.errors import OperatorError
from cxr_server.inference.engines.registry import choose_engine


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Add the arguments of the command."""
    parser.add_argument(
        "name",
        metavar="NAME",
        help="a model that `cxr-server models` lists, or with --from a name for the new bundle",
    )
    parser.add_argument(
        "--from", dest="file", type=Path, metavar="FILE", help="convert this file, do not download"
    )
    parser.add_argument(
        "--labels", metavar="A,B,...", help="finding of each output (default: as in the file)"
    )
    parser.add_argument("--url", help="download from here instead of the catalogue's address")
    parser.add_argument("--sha256", metavar="HEX", help="the SHA-256 that the file must have")
    parser.add_argument(
        "--trust-download",
        action="store_true",
        help="accept a file whose SHA-256 is not known, and record it in the bundle",
    )
    parser.add_argument(
        "--output", type=Path, metavar="DIR", help="the bundle's folder (default: by name)"
    )
    parser.add_argument(
        "--if-missing",
        action="store_true",
        help="do nothing for a bundle that is there and intact, as the phantom always is",
    )


def run(args: argparse.Namespace) -> int:
    """Write the bundle. Returns 0."""
    if args.if_missing and (folder := _intact(args.name, args.output)):
        print(f"{folder} is prepared already")
        return 0
    home, cache = bundle_home(), cache_home()
    output = args.output or (home and home / args.name)
    if not (output and cache):
        raise OperatorError(
            "this user has no home folder: set CXR_BUNDLE_HOME (or --output) and CXR_CACHE_DIR"
        )
    source = Source(
        name=args.name,
        file=args.file,
        url=args.url,
        sha256=args.sha256,
        trust=args.trust_download,
        labels=tuple(map(str.strip, args.labels.split(","))) if args.labels else (),
        downloads=cache / "downloads",
    )
    prepare(source, output, say=print, progress=_bar if sys.stderr.isatty() else None)
    start = time.perf_counter()  # the server starts from the cache that is filled here
    choose_engine(load_bundle(output), "openvino", cache_dir=cache).close()
    print(f"compiled for this machine in {time.perf_counter() - start:.1f} s")
    print(f"prepared {output}: serve it with `cxr-server serve --model {args.output or args.name}`")
    return 0


def _intact(name: str, output: Path | None) -> Path | None:
    """Return the folder that `serve --model` would load, or None if it is missing or damaged."""
    try:
        return load_bundle(output or resolve(name)).path
    except BundleError:
        return None


def _bar(done: int, total: int | None) -> None:
    """Draw a progress bar on standard error."""
    line = f"{done / 2**20:6.1f} MiB"
    if total:
        line = f"[{'#' * (30 * done // total):30}] {line} of {total / 2**20:.1f} MiB"
    print(f"\r{line}", end="\n" if done == total else "", file=sys.stderr, flush=True)
