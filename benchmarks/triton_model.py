"""Triton through nvidia-pytriton, with this project's engine as its model.

Image bytes go in, scores come out. `--parts reference`: Pillow and torchxrayvision's transforms
before the engine, as in `baseline` (the scikit-image calls that they make; torch does not install
beside pytriton's numpy). `--parts ours`: this project's decoder and preprocessing, so that only the
serving differs. Needs a virtual environment of its own (`make bench-peers` creates it).
"""

import argparse
import os
from collections.abc import Callable
from io import BytesIO
from pathlib import Path
from typing import Any

os.environ.setdefault("OPENBLAS_NUM_THREADS", "1")  # as this server does; read by numpy

import numpy as np
import skimage.transform
from numpy.typing import NDArray
from PIL import Image
from pytriton.decorators import batch
from pytriton.model_config import ModelConfig, Tensor
from pytriton.triton import Triton, TritonConfig

from cxr_server.bundles.load import load_bundle
from cxr_server.imaging.codecs import decode
from cxr_server.inference import scoring as score
from cxr_server.inference.engines.registry import choose_engine
from cxr_server.inference.preprocess import XRV

INSTANCES = 3
"""One more than the cores of the machine that was measured: Triton's best of 2, 3 and 4."""


def reference(data: bytes, side_px: int) -> NDArray[np.float32]:
    """Image file -> [1, side, side]: `normalize`, `XRayCenterCrop` and `XRayResizer` of 1.5.7."""
    image = Image.open(BytesIO(data))
    deep = image.mode.startswith("I")
    stored = np.array(image if deep else image.convert("L")).astype(np.float32)
    pixels = (2 * (stored / (65535 if deep else 255)) - 1) * 1024
    height, width = pixels.shape
    side = min(height, width)
    top, left = height // 2 - side // 2, width // 2 - side // 2
    square = pixels[None, top : top + side, left : left + side]
    shape = (1, side_px, side_px)
    resize: Any = skimage.transform.resize  # it has no annotations
    return np.asarray(resize(square, shape, mode="constant", preserve_range=True), np.float32)


PARTS: dict[str, Callable[[bytes, int], NDArray[np.float32]]] = {
    "reference": reference,
    "ours": lambda data, side_px: XRV.image_chw(decode(data), side_px),
}


def main() -> None:
    """Serve until a signal."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--parts", choices=PARTS, required=True)
    parser.add_argument("--port", type=int, required=True)
    parser.add_argument("--bundle", type=Path, required=True)
    parser.add_argument("--cache-dir", type=Path, required=True)
    args = parser.parse_args()
    bundle = load_bundle(args.bundle)
    engine = choose_engine(bundle, "openvino", cache_dir=args.cache_dir)
    manifest = bundle.manifest
    prepare = PARTS[args.parts]

    @batch  # type: ignore[untyped-decorator]
    def infer(image: Any) -> dict[str, Any]:
        rows = []
        for data in image[:, 0]:
            evidence_khw = engine.evidence(prepare(data, manifest.input_side_px)[None])[0]
            rows.append([finding.score for finding in score.findings(evidence_khw, manifest)])
        return {"scores": np.array(rows, np.float64)}

    config = TritonConfig(
        grpc_port=args.port, http_port=args.port + 1, metrics_port=args.port + 2, log_verbose=0
    )
    with Triton(config=config) as triton:
        triton.bind(
            model_name="cxr",
            infer_func=[infer] * INSTANCES,
            inputs=[Tensor(name="image", dtype=bytes, shape=(1,))],
            outputs=[Tensor(name="scores", dtype=np.float64, shape=(len(manifest.labels),))],
            config=ModelConfig(max_batch_size=1),
        )
        triton.serve()


if __name__ == "__main__":
    main()
