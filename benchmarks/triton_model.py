"""Triton through nvidia-pytriton, with this project's engine as its model.

Image bytes go in, scores and warnings come out. `--parts reference`: Pillow and torchxrayvision's
transforms before the engine, as in `baseline` (the scikit-image calls that they make; torch does
not install beside pytriton's numpy), and no warnings. `--parts ours`: this project's decoder,
checks and preprocessing, so that only the serving differs. What this server does beside is left
out: hash and cache, decoders in processes of their own, the memory budget, limits, metrics and log.
Needs a virtual environment of its own (`make bench-peers` creates it).
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

from cxr_server.budget import ThreadBudget
from cxr_server.bundles.load import load_bundle
from cxr_server.imaging.radiograph import DecodeLimits
from cxr_server.inference import allocator
from cxr_server.inference import scoring as score
from cxr_server.inference.engine_calls import is_for_throughput
from cxr_server.inference.engines import infer as run_engine
from cxr_server.inference.engines.registry import choose_engine
from cxr_server.inference.preprocess import XRV, Job, hold_of, preprocess

INSTANCES = 4
"""Twice the cores of the machine that was measured: Triton's best of 2 to 8; see `tune`."""
Prepared = tuple[NDArray[np.float32], str]
"""The network's input [1, side, side], and warnings."""


def reference(data: bytes, side_px: int) -> Prepared:
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
    resized = resize(square, shape, mode="constant", preserve_range=True)
    return np.asarray(resized, np.float32), ""


def ours(data: bytes, side_px: int) -> Prepared:
    """Image file -> [1, side, side], as this server does before its engine."""
    job = Job(preprocessing=XRV, side_px=side_px, limits=DecodeLimits())
    prepared = preprocess(data, job, hold=hold_of(ThreadBudget(2**30), _no_end), check=_no_end)
    return prepared.image_chw, " ".join(warning.name for warning in prepared.warnings)


def _no_end() -> None:
    """No deadline ends the work."""


PARTS: dict[str, Callable[[bytes, int], Prepared]] = {"reference": reference, "ours": ours}


def main() -> None:
    """Serve until a signal."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--parts", choices=PARTS, required=True)
    parser.add_argument("--port", type=int, required=True)
    parser.add_argument("--bundle", type=Path, required=True)
    parser.add_argument("--cache-dir", type=Path, required=True)
    parser.add_argument("--instances", type=int, default=INSTANCES)
    parser.add_argument("--batch", type=int, default=1)
    args = parser.parse_args()
    allocator.keep_freed_memory()  # as this server does
    bundle = load_bundle(args.bundle)
    engine = choose_engine(bundle, "openvino", cache_dir=args.cache_dir)
    manifest = bundle.manifest
    prepare = PARTS[args.parts]
    running: list[None] = []  # one for each thread that works

    @batch  # type: ignore[untyped-decorator]
    def infer(image: Any) -> dict[str, Any]:
        rows, texts = [], []
        running.append(None)
        for data in image[:, 0]:
            image_chw, warnings = prepare(data, manifest.input_side_px)
            throughput = is_for_throughput(engine.max_in_flight, len(running) - 1)
            found = run_engine(engine, [image_chw], for_throughput=throughput)
            scored = score.findings(found.evidence_nkhw[0], manifest)
            rows.append([finding.score for finding in scored])
            texts.append([warnings.encode()])
        running.pop()
        return {"scores": np.array(rows, np.float64), "warnings": np.array(texts, np.object_)}

    config = TritonConfig(
        grpc_port=args.port, http_port=args.port + 1, metrics_port=args.port + 2, log_verbose=0
    )
    with Triton(config=config) as triton:
        triton.bind(
            model_name="cxr",
            infer_func=[infer] * args.instances,
            inputs=[Tensor(name="image", dtype=bytes, shape=(1,))],
            outputs=[
                Tensor(name="scores", dtype=np.float64, shape=(len(manifest.labels),)),
                Tensor(name="warnings", dtype=bytes, shape=(1,)),
            ],
            config=ModelConfig(max_batch_size=args.batch),
        )
        triton.serve()


if __name__ == "__main__":
    main()
