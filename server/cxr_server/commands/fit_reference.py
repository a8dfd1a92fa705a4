"""`cxr-server fit-reference`: a folder of films -> the reference of a bundle."""

import argparse
from collections.abc import Iterator
from contextlib import closing
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from cxr_server.bundles.load import Bundle, load_bundle
from cxr_server.bundles.manifest import BundleError
from cxr_server.bundles.store import resolve
from cxr_server.convert.films import usable_inputs
from cxr_server.convert.reference import add_reference
from cxr_server.inference.engines import Engine, infer
from cxr_server.inference.engines.registry import choose_engine
from cxr_server.inference.verify import verify_engine


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Add the arguments of the command."""
    parser.add_argument("bundle", metavar="BUNDLE", help="name or folder of a prepared bundle")
    parser.add_argument(
        "folder", type=Path, metavar="FOLDER", help="50 or more typical frontal films of your own"
    )
    parser.add_argument("--bundle-home", type=Path, metavar="DIR", help="folder of bundles")


def run(args: argparse.Namespace) -> int:
    """Store the reference in the bundle. Returns 0. Raises BundleError and OSError."""
    bundle = load_bundle(resolve(args.bundle, args.bundle_home))
    if not args.folder.is_dir():
        raise BundleError(f"{args.folder} is not a folder")
    with closing(choose_engine(bundle, "openvino", device="CPU")) as engine:
        verify_engine(engine, bundle)
        embeddings = list(_embeddings(bundle, engine, args.folder))
    used = [each for each in embeddings if each is not None]
    skipped = len(embeddings) - len(used)
    print(
        f"{len(used)} films used; {skipped} files left out that are not frontal chest radiographs"
    )
    folder = add_reference(bundle, np.array(used)).path
    print(f"{folder} now has a reference: restart the server to use it")
    return 0


def _embeddings(
    bundle: Bundle, engine: Engine, folder: Path
) -> Iterator[NDArray[np.float32] | None]:
    """Yield the embedding of each file below the folder, None for one that is refused."""
    for film in usable_inputs(folder, bundle.manifest):
        if film is None:
            yield None
            continue
        embedding_nc = infer(engine, [film.image_chw]).embedding_nc
        if embedding_nc is None:
            raise BundleError(f"{bundle.path} gives no embedding: prepare it again")
        yield embedding_nc[0]
