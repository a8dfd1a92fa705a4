"""Bfloat16: how answers differ from those in float32. `python -m benchmarks.bfloat16`.

Takes a CPU with AMX. Measured on what a bundle in int8 is measured on: phantoms, or films of a
folder.
"""

import argparse
from contextlib import closing
from pathlib import Path

from benchmarks import model
from cxr_server.bundles.load import load_bundle
from cxr_server.bundles.store import PHANTOM_PATH
from cxr_server.convert.fidelity import differences, infer_by, told
from cxr_server.convert.films import find_films
from cxr_server.convert.quantize import TOLERANCE
from cxr_server.inference.engines import BFLOAT16
from cxr_server.inference.engines.registry import choose_engine
from cxr_server.inference.verify import REDUCED_TOLERANCE, probe_difference


def main() -> None:
    """Print the differences of each bundle: the phantom, and the benchmark's DenseNet-121."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--bundles", type=Path, nargs="+")
    parser.add_argument("--films", type=Path, help="a folder, in place of phantoms")
    args = parser.parse_args()
    for path in args.bundles or (PHANTOM_PATH, model.bundle()):
        bundle = load_bundle(path)
        stated = bundle.manifest
        films = find_films(args.films, stated).measured
        with (
            closing(choose_engine(bundle, "openvino", device="CPU")) as float32,
            closing(choose_engine(bundle, "openvino", device="CPU", precision=BFLOAT16)) as reduced,
        ):
            found = differences(
                *(stated, stated.bias, films),
                float32=infer_by(float32),
                reduced=infer_by(reduced),
                margin=TOLERANCE,
            )
            print(
                f"{stated.name}, {len(films)} films: {reduced.precision} beside {float32.precision}"
            )
            print(*told(found, TOLERANCE), sep="\n")
            probe = probe_difference(reduced, bundle)
            print(f"score of the probe: differs by {probe:.4f} (allowed: {REDUCED_TOLERANCE:g})")


if __name__ == "__main__":
    main()
