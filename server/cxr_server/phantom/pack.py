"""Pack: what training wrote -> the phantom's bundle. `python -m cxr_server.phantom.pack IN OUT`."""

import argparse
import json
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import msgspec
import torch
from safetensors.torch import load_file

from cxr_server import __version__
from cxr_server.bundles.architectures import DenseNet
from cxr_server.bundles.manifest import BundleError, Description, Reliability
from cxr_server.convert.parity import check_parity
from cxr_server.convert.upstream import UpstreamModel
from cxr_server.convert.write import write_bundle

NOTICES = (
    "A phantom: trained on drawings, to test the service with. It says nothing about patients.",
    "For research use only, not for diagnosis.",
    "A score is an operating-point score: 0.5 is the decision boundary. It is not a probability.",
)
INTENDED_USE = "Testing and demonstrating the service. Says nothing about patients."


def pack(source: Path, output: Path) -> Path:
    """Make a bundle of `weights.safetensors` and `training.json` in the folder `source`.

    The bundle is checked against torchxrayvision's own forward pass before it appears.

    Raises:
        BundleError: They do not fit each other.
        OSError: They cannot be read.
    """
    report = json.loads((source / "training.json").read_text(encoding="utf-8"))
    state = load_file(source / "weights.safetensors")
    given = {key: value for key, value in report["architecture"].items() if key != "class"}
    count = given.pop("num_classes")
    network = msgspec.convert({"family": "densenet"} | given, DenseNet)
    labels = tuple(report["labels"])
    if len(labels) != count:
        raise BundleError("training.json has not as many labels as the network has outputs")
    thresholds = tuple(torch.tensor(report["thresholds"]).tolist())  # as float32, as served
    model = UpstreamModel(state, network, labels, thresholds, ())
    description = Description(
        name="phantom",
        version=__version__,
        network=network,
        labels=labels,
        class_indices=tuple(range(len(labels))),
        thresholds=thresholds,
        license="Apache-2.0",
        notices=NOTICES,
        phantom=True,
        reliability=_reliability(report),
        intended_use=INTENDED_USE,
    )
    return write_bundle(
        output, state, description, lambda bundle: print(check_parity(bundle, model))
    )


def _reliability(report: Mapping[str, Any]) -> dict[str, Reliability]:
    """Say how each finding was recognised on phantoms that were not trained on."""
    return {
        row["label"]: Reliability(
            "consistent" if row["auc"] >= 0.97 else "uneven" if row["auc"] >= 0.9 else "weak",
            f"On phantoms only: AUC {row['auc']:.3f} on held-out drawings.",
        )
        for row in report["evaluation"]["drawn_at_224"]
    }


def main(arguments: Sequence[str] | None = None) -> int:
    """The command. Returns 0, or 1 when nothing was made."""
    parser = argparse.ArgumentParser(prog="python -m cxr_server.phantom.pack")
    parser.add_argument("source", type=Path, help="folder that training wrote")
    parser.add_argument("output", type=Path, help="the bundle's folder")
    args = parser.parse_args(arguments)
    try:
        print(f"packed {pack(args.source, args.output)}")
    except (BundleError, OSError, KeyError, ValueError) as error:
        print(f"{type(error).__name__}: {error}", file=sys.stderr)
        return 1
    return 0


if __name__ == "__main__":
    raise SystemExit(main())
