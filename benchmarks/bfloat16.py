"""Bfloat16: how answers differ from those in float32. `python -m benchmarks.bfloat16`.

Takes a CPU with AMX. Measured on what a bundle in int8 is measured on: phantoms, or films of a
folder. Typicality is that by a reference of the films that int8 would be calibrated with, whose
embeddings are in float32.
"""

import argparse
from collections.abc import Sequence
from contextlib import closing
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from benchmarks import model
from cxr_server.bundles.load import load_bundle
from cxr_server.bundles.store import PHANTOM_PATH
from cxr_server.convert.fidelity import differences, infer_by, told
from cxr_server.convert.films import Film, find_films
from cxr_server.convert.quantize import TOLERANCE
from cxr_server.inference import typicality
from cxr_server.inference.engines import BFLOAT16, Engine, infer
from cxr_server.inference.engines.registry import choose_engine
from cxr_server.inference.verify import REDUCED_TOLERANCE, probe_difference


def typicality_told(
    reference_films: Sequence[Film], films: Sequence[Film], float32: Engine, reduced: Engine
) -> str:
    """Return how much typicality differs, as a line of text."""
    if len(reference_films) < typicality.MIN_FILMS:
        return f"typicality: not measured, a reference needs {typicality.MIN_FILMS} films"
    reference = typicality.fit(_embeddings_nc(float32, reference_films))
    before_n, after_n = (
        np.array([reference.typicality(row_c) for row_c in _embeddings_nc(engine, films)])
        for engine in (float32, reduced)
    )
    limit, away_n = typicality.UNTYPICAL_BELOW, np.abs(after_n - before_n)
    changed = int(((before_n < limit) != (after_n < limit)).sum())
    return (
        f"typicality: differs by {away_n.max():.3f} at most, {away_n.mean():.4f} in the mean; "
        f"{changed} films changed side of {limit:g}"
    )


def _embeddings_nc(engine: Engine, films: Sequence[Film]) -> NDArray[np.float32]:
    rows = [infer(engine, [film.image_chw]).embedding_nc for film in films]
    return np.concatenate([row_nc for row_nc in rows if row_nc is not None])


def main() -> None:
    """Print the differences of each bundle: the phantom, and the benchmark's DenseNet-121."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--bundles", type=Path, nargs="+")
    parser.add_argument("--films", type=Path, help="a folder, in place of phantoms")
    args = parser.parse_args()
    for path in args.bundles or (PHANTOM_PATH, model.bundle()):
        bundle = load_bundle(path)
        stated = bundle.manifest
        found_films = find_films(args.films, stated)
        films = found_films.measured
        with (
            closing(choose_engine(bundle, "openvino", device="CPU")) as float32,
            closing(choose_engine(bundle, "openvino", device="CPU", precision=BFLOAT16)) as reduced,
        ):
            found = differences(
                *(stated, films),
                float32=infer_by(float32),
                reduced=infer_by(reduced),
                margin=TOLERANCE,
            )
            print(
                f"{stated.name}, {len(films)} films: {reduced.precision} beside {float32.precision}"
            )
            print(*told(found, TOLERANCE), sep="\n")
            print(typicality_told(found_films.calibration, films, float32, reduced))
            probe = probe_difference(reduced, bundle)
            print(f"score of the probe: differs by {probe:.4f} (allowed: {REDUCED_TOLERANCE:g})")


if __name__ == "__main__":
    main()
