"""Parity: bundle -> largest difference between the served scores and independent forward passes.

The first reference is plain numpy, the second torchxrayvision itself where torch is installed.
"""

from contextlib import closing
from typing import Any

import numpy as np
from numpy.typing import NDArray
from safetensors.numpy import load_file

from cxr_server.bundles.load import Bundle
from cxr_server.bundles.manifest import WEIGHTS_NAME, BundleError, Description
from cxr_server.convert.architectures import FAMILIES
from cxr_server.convert.architectures.graph import State
from cxr_server.convert.architectures.reference import Reference
from cxr_server.inference.engines import Engine
from cxr_server.inference.engines.registry import ENGINES, choose_engine
from cxr_server.inference.scoring import findings, op_norms, sigmoids

TOLERANCE = 1e-4  # largest difference of a score, in float32 on the CPU


def check_parity(bundle: Bundle) -> dict[str, float]:
    """Return the largest difference of a score between each engine and reference that run here.

    Raises BundleError if one is above `TOLERANCE`.
    """
    images = check_images(bundle.manifest.input_side_px)
    weights = load_file(bundle.file(WEIGHTS_NAME))
    references: dict[str, NDArray[Any]] = {
        "numpy": numpy_scores(bundle.manifest, weights, images),
    }
    if ENGINES["torch"].why_not(bundle) is None:
        from cxr_server.inference.engines.torch.network import torchxrayvision_scores

        references["torchxrayvision"] = torchxrayvision_scores(bundle, images)
    differences = {}
    for name, spec in ENGINES.items():
        if spec.why_not(bundle) is not None:
            continue
        # On the first device, the CPU: it is there everywhere.
        with closing(choose_engine(bundle, name, device=spec.devices[0])) as engine:
            found = engine_scores(engine, bundle, images)
        for reference, expected in references.items():
            difference = float(np.abs(found - expected).max())
            if not difference <= TOLERANCE:
                raise BundleError(f"{name} and {reference} differ by {difference:.1e} in a score")
            differences[f"{name} and {reference}"] = difference
    return differences


def check_images(side_px: int, count: int = 3) -> NDArray[np.float32]:
    """Return different images [N, 1, side, side] in [-1024, 1024]: random 8x8 mosaics."""
    cells_nchw = np.random.default_rng(20).uniform(-1024, 1024, (count, 1, 8, 8))
    cell = np.arange(side_px) * 8 // side_px
    return cells_nchw[:, :, cell[:, None], cell].astype(np.float32)


def numpy_scores(
    description: Description, weights: State, images_nchw: NDArray[np.float32]
) -> NDArray[np.float64]:
    """Return the scores [N, K] of the numpy forward pass, in float32."""
    network = description.network
    maps_nchw = FAMILIES[type(network)].features(network, Reference(weights), images_nchw)
    # The linear layer comes after the pool, as in torchxrayvision.
    logits = maps_nchw.mean((2, 3)) @ weights["classifier.weight"].T + weights["classifier.bias"]
    found: NDArray[np.float64] = op_norms(sigmoids(logits), description.thresholds)
    return found


def engine_scores(
    engine: Engine, bundle: Bundle, images_nchw: NDArray[np.float32]
) -> NDArray[np.float64]:
    """Return the scores [N, K] that are served."""
    evidence = (engine.evidence(image_chw[None])[0] for image_chw in images_nchw)
    return np.array([[f.score for f in findings(maps, bundle.manifest)] for maps in evidence])
