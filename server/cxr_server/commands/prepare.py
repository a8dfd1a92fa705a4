"""`cxr-server prepare`: converts published or fine-tuned weights to a bundle. Needs no torch."""

import argparse
import re
import sys
import time
from pathlib import Path

from cxr_server.bundles.fields import NAME_PATTERN
from cxr_server.bundles.load import load_bundle
from cxr_server.bundles.manifest import BundleError
from cxr_server.bundles.store import PHANTOM, WantedModel, bundle_home, cache_home, resolve
from cxr_server.convert.catalog import CATALOG
from cxr_server.convert.convert import prepare
from cxr_server.convert.int8 import require_nncf
from cxr_server.convert.quantize import quantize
from cxr_server.convert.source import Source
from cxr_server.errors import OperatorError, UsageError
from cxr_server.inference.engines.cpu import int8_doubt
from cxr_server.inference.engines.registry import choose_engine

OF_ONE_MODEL = ("file", "labels", "url", "sha256", "output", "int8_name")


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Add the arguments of the command."""
    parser.add_argument(
        "name",
        metavar="NAME",
        help="a model that `cxr-server models` lists, or with --from the name of the new bundle",
    )
    parser.add_argument(
        "--from", dest="file", type=Path, metavar="FILE", help="convert this file, don't download"
    )
    parser.add_argument(
        "--labels", metavar="A,B,...", help="findings, one per output (default: as in the file)"
    )
    parser.add_argument("--url", help="download from here instead of the catalogue's address")
    parser.add_argument("--sha256", metavar="HEX", help="the SHA-256 that the file must have")
    parser.add_argument(
        "--trust-download",
        action="store_true",
        help="accept a file whose SHA-256 is not known, and record it in the bundle",
    )
    parser.add_argument(
        "--output", type=Path, metavar="DIR", help="folder of the bundle (default: by name)"
    )
    parser.add_argument(
        "--if-missing",
        action="store_true",
        help="do nothing if the bundle exists and is intact, as the phantom's always is; NAME may"
        " then be several, written as CXR_MODEL is: [NAME=]BUNDLE,...",
    )
    parser.add_argument(
        "--precision",
        choices=("float32", "int8"),
        default="float32",
        help="int8: also quantise the bundle NAME to a second one, which is faster on most CPUs;"
        " how its answers differ is measured (default: float32)",
    )
    group = parser.add_argument_group("with --precision int8")
    group.add_argument(
        "--name",
        dest="int8_name",
        metavar="NEW",
        help="name of the bundle in int8 (default: NAME-int8)",
    )
    group.add_argument(
        "--calibrate",
        type=Path,
        metavar="FOLDER",
        help="your own films, half to calibrate with and half to measure on (default: drawings)",
    )
    group.add_argument(
        "--accept", action="store_true", help="keep the bundle even if its answers differ too much"
    )


def run(args: argparse.Namespace) -> int:
    """Write the bundle, or several. Returns 0. Raises OperatorError and OSError."""
    names = _wanted(args.name) if args.if_missing else [args.name]
    if len(names) > 1 and any(getattr(args, option) for option in OF_ONE_MODEL):
        raise UsageError(
            "--from, --labels, --url, --sha256, --output and --name are for one model, not for "
            + " and ".join(names)
        )
    write = _write_int8 if args.precision == "int8" else _write
    for name in names:
        write(argparse.Namespace(**{**vars(args), "name": name}))
    return 0


def _wanted(text: str) -> list[str]:
    """Return the bundles in a text that is written as CXR_MODEL is, each once."""
    models = filter(None, map(str.strip, text.split(",")))
    return list(dict.fromkeys(WantedModel.parse(model).bundle for model in models)) or [text]


def _write(args: argparse.Namespace) -> None:
    """Convert a checkpoint to a bundle in float32."""
    if args.int8_name or args.calibrate or args.accept:
        raise UsageError("--name, --calibrate and --accept need --precision int8")
    if args.if_missing and (folder := _intact(args.output or args.name)):
        print(f"{folder} is prepared already")
        return
    output = _converted(args, args.output)
    _compile(output)
    print(f"prepared {output}: serve it with `cxr-server serve --model {args.output or args.name}`")


def _write_int8(args: argparse.Namespace) -> None:
    """Quantise a bundle, which is prepared first if it is not there."""
    name = args.int8_name or f"{Path(args.name).name}-int8"
    if not re.match(NAME_PATTERN, name) or name in (PHANTOM, *CATALOG):
        raise UsageError(f"{name!r} cannot be the name of a bundle in int8: give another --name")
    output = args.output or _home() / name
    if args.if_missing and (folder := _intact(output)):
        print(f"{folder} is prepared already")
        return
    require_nncf()
    made_here = args.file or args.url
    parent = None if made_here else _intact(args.name)
    if parent is None:
        parent = _converted(args, None)
    folder = quantize(
        load_bundle(parent), name, output, films=args.calibrate, accept=args.accept, say=print
    )
    _compile(folder)
    if doubt := int8_doubt():
        print(f"note: {doubt}")
    print(f"prepared {folder}: serve it with `cxr-server serve --model {args.output or name}`")


def _converted(args: argparse.Namespace, output: Path | None) -> Path:
    """Convert a checkpoint; return the folder of the bundle in float32."""
    source = Source(
        name=args.name,
        file=args.file,
        url=args.url,
        sha256=args.sha256,
        trust=args.trust_download,
        labels=tuple(map(str.strip, args.labels.split(","))) if args.labels else (),
        downloads=_cache() / "downloads",
    )
    bar = _bar if sys.stderr.isatty() else None
    return prepare(source, output or _home() / args.name, say=print, progress=bar)


def _compile(folder: Path) -> None:
    """Compile the model into the cache, so that the server starts faster."""
    start = time.perf_counter()
    choose_engine(load_bundle(folder), "openvino", cache_dir=_cache()).close()
    print(f"compiled for this machine in {time.perf_counter() - start:.1f} s")


def _home() -> Path:
    return _known(bundle_home())


def _cache() -> Path:
    return _known(cache_home())


def _known(folder: Path | None) -> Path:
    if folder is None:
        raise OperatorError(
            "this user has no home folder: set CXR_BUNDLE_HOME (or --output) and CXR_CACHE_DIR"
        )
    return folder


def _intact(model: str | Path) -> Path | None:
    """Return the folder that `serve --model` would load, or None if it is missing or damaged."""
    try:
        return load_bundle(model if isinstance(model, Path) else resolve(model)).path
    except BundleError:
        return None


def _bar(done: int, total: int | None) -> None:
    """Draw a progress bar on standard error."""
    line = f"{done / 2**20:6.1f} MiB"
    if total:
        line = f"[{'#' * (30 * done // total):30}] {line} of {total / 2**20:.1f} MiB"
    print(f"\r{line}", end="\n" if done == total else "", file=sys.stderr, flush=True)
