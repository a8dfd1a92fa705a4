"""Parity: does a bundle give the scores of torchxrayvision's own forward pass?"""

from collections.abc import Sequence
from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray

from cxr_server.bundles.load import Bundle
from cxr_server.bundles.manifest import BundleError
from cxr_server.convert.upstream import UpstreamModel
from cxr_server.inference.engines import Engine
from cxr_server.inference.engines.registry import choose_engine
from cxr_server.inference.engines.torch.network import build_densenet
from cxr_server.inference.scoring import OutputSpec, findings

TOLERANCE = 1e-4
"""Largest difference of a score, in float32 on the CPU."""


def check_images(side_px: int, count: int = 3) -> NDArray[np.float32]:
    """Return images [N, 1, side, side] in [-1024, 1024]: soft blobs on a ramp, no two alike."""
    random = np.random.default_rng(20)
    rows, columns = np.mgrid[0:side_px, 0:side_px] / side_px
    images = np.zeros((count, 1, side_px, side_px))
    for image_hw in images[:, 0]:
        image_hw += rows * random.uniform(-1, 1) + columns * random.uniform(-1, 1)
        for row, column, width in random.uniform(0.05, 1, (40, 3)):
            distance = (rows - row) ** 2 + (columns - column) ** 2
            image_hw += random.uniform(-1, 1) * np.exp(-distance / (0.02 * width))
        image_hw -= image_hw.min()
        image_hw *= 2048 / image_hw.max()
    return (images - 1024).astype(np.float32)


def reference_scores(model: UpstreamModel, images_nchw: NDArray[np.float32]) -> NDArray[np.float32]:
    """Return the scores [N, K] that torchxrayvision's `model(x)` gives, of the kept outputs."""
    densenet = build_densenet(model.network, len(model.labels), model.state)
    densenet.op_threshs = torch.tensor(model.thresholds)
    with torch.inference_mode():
        scores: NDArray[np.float32] = densenet(torch.from_numpy(images_nchw)).numpy()
    return scores[:, list(model.kept)]


def engine_scores(
    engine: Engine, bundle: Bundle, images_nchw: NDArray[np.float32]
) -> NDArray[np.float64]:
    """Return the scores [N, K] that are served."""
    read = OutputSpec.of(bundle.manifest)
    return np.array(
        [
            [finding.score for finding in findings(engine.evidence(image_chw[None])[0], read)]
            for image_chw in images_nchw
        ]
    )


def check_parity(
    bundle: Bundle,
    model: UpstreamModel,
    engines: Sequence[str] = ("openvino", "torch"),
    cache_dir: Path | None = None,
) -> dict[str, float]:
    """Return the largest difference of a score from torchxrayvision's, by engine.

    Raises:
        BundleError: It is above `TOLERANCE`.
    """
    images = check_images(bundle.manifest.input_side_px)
    expected = reference_scores(model, images)
    differences = {}
    for name in engines:
        device = "cpu" if name == "torch" else None
        engine = choose_engine(bundle, name, device=device, cache_dir=cache_dir)
        try:
            difference = float(np.abs(engine_scores(engine, bundle, images) - expected).max())
        finally:
            engine.close()
        if not difference <= TOLERANCE:
            raise BundleError(f"{name} differs from torchxrayvision by {difference:.1e} in a score")
        differences[name] = difference
    return differences
