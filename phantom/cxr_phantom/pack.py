"""Pack: trained weights and their report, or a bundle -> the bundle that the server ships."""

import argparse
import json
import sys
from collections.abc import Mapping
from contextlib import closing
from pathlib import Path
from typing import Any

import msgspec
import numpy as np
from numpy.typing import NDArray
from safetensors.numpy import load_file

from cxr_phantom.dataset import VALIDATION_SEED, draw_set
from cxr_phantom.training_files import REPORT_NAME, WEIGHTS_NAME
from cxr_server import __version__
from cxr_server.bundles.architectures import DenseNet
from cxr_server.bundles.load import MANIFEST_NAME, Bundle, load_bundle
from cxr_server.bundles.manifest import BundleError, Description, Reliability
from cxr_server.convert.parity import check_parity
from cxr_server.convert.reference import add_reference
from cxr_server.convert.write import write_bundle
from cxr_server.inference.engines import infer
from cxr_server.inference.engines.registry import choose_engine
from cxr_server.inference.preprocess import HALF_RANGE

NOTICES = (
    "A phantom: trained on synthetic images, to test the service. It says nothing about patients.",
    "For research use only, not for diagnosis.",
    "A score is an operating-point score: 0.5 is the decision boundary. It is not a probability.",
)
REFERENCE_FILMS = 300
LARGE_PX = 512
INTENDED_USE = "Testing and demonstrating the service. Says nothing about patients."


def pack(source: Path, output: Path) -> Path:
    """Make a bundle of the files that `cxr-phantom train` wrote to `source`.

    `source` may also be a bundle, which is then written again from its weights and its description,
    in today's format. The new bundle is checked against torchxrayvision's own forward pass before
    it appears.

    Raises:
        BundleError: The weights and the report do not match, or `output` cannot be replaced.
        OSError: A file cannot be read.
    """
    state = load_file(source / WEIGHTS_NAME)
    if (source / MANIFEST_NAME).is_file():
        manifest = load_bundle(source).manifest
        fields = Description.__struct_fields__
        description = Description(**{name: getattr(manifest, name) for name in fields})
    else:
        description = _trained(source, len(state["classifier.bias"]))
    write_bundle(output, state, description, lambda bundle: print(check_parity(bundle)))
    bundle = load_bundle(output)
    return add_reference(bundle, drawn_embeddings(bundle, VALIDATION_SEED, REFERENCE_FILMS)).path


def drawn_embeddings(bundle: Bundle, first_seed: int, films: int) -> NDArray[np.float32]:
    """Return the embeddings [N, C] of drawn films, half of them drawn large and resized."""
    half = films // 2
    sets = (
        draw_set(range(first_seed, first_seed + half), blur=True),
        draw_set(range(first_seed + half, first_seed + films), size_px=LARGE_PX),
    )
    pixels_nhw = np.concatenate([each.pixels_nhw for each in sets])
    images_nchw = (pixels_nhw[:, None] * np.float32(2 / 255) - 1) * np.float32(HALF_RANGE)
    with closing(choose_engine(bundle, "openvino", device="CPU")) as engine:
        embedding_nc = infer(engine, [*images_nchw]).embedding_nc
    assert embedding_nc is not None  # the graph was written a moment ago
    return embedding_nc


def _trained(source: Path, outputs: int) -> Description:
    """Return the description of a model that was trained, from its report."""
    report = json.loads((source / REPORT_NAME).read_text(encoding="utf-8"))
    network = msgspec.convert(report["architecture"], DenseNet)
    labels = tuple(report["labels"])
    if len(labels) != outputs:
        raise BundleError("training.json: the number of labels differs from that of outputs")
    thresholds = tuple(np.asarray(report["thresholds"], np.float32).tolist())  # served as float32
    return Description(
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


def _reliability(report: Mapping[str, Any]) -> dict[str, Reliability]:
    """Return level and note for each finding, from its AUC on held-out phantoms."""
    return {
        row["label"]: Reliability(
            "consistent" if row["auc"] >= 0.97 else "uneven" if row["auc"] >= 0.9 else "weak",
            f"On phantoms only: AUC {row['auc']:.3f} on held-out images.",
        )
        for row in report["evaluation"]["drawn_at_224"]
    }


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Add the arguments of `cxr-phantom pack`."""
    parser.add_argument(
        "source",
        type=Path,
        metavar="SOURCE",
        help="folder that `cxr-phantom train` wrote, or a bundle",
    )
    parser.add_argument(
        "output", type=Path, metavar="OUTPUT", help="folder of the bundle; replaced if it exists"
    )


def run(args: argparse.Namespace) -> int:
    """Pack the bundle. Returns the exit status."""
    try:
        print(f"packed {pack(args.source, args.output)}")
    except (BundleError, KeyError) as error:
        print(f"cxr-phantom: {type(error).__name__}: {error}", file=sys.stderr)
        return 1
    return 0
