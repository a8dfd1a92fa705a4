"""Triton through nvidia-pytriton: this project's decode, fit, engine and score as its model.

Image bytes go in, scores come out: Triton is given all that this server computes with, so that
only the serving differs. Two instances, as many as the engine takes calls at once on
two cores, so that decoding and inference overlap as Triton would have them. Needs an
environment of its own (`make bench-peers` makes it).
"""

import argparse
import os
from pathlib import Path
from typing import Any

os.environ.setdefault("OPENBLAS_NUM_THREADS", "1")  # as this server does; read by numpy

import numpy as np
from pytriton.decorators import batch
from pytriton.model_config import ModelConfig, Tensor
from pytriton.triton import Triton, TritonConfig

from cxr_server.bundles.load import load_bundle, readout
from cxr_server.engines.choose import choose_engine
from cxr_server.pipeline import score
from cxr_server.pipeline.decode import decode
from cxr_server.pipeline.fit import fit


def main() -> None:
    """Serve until a signal."""
    parser = argparse.ArgumentParser()
    parser.add_argument("--port", type=int, required=True)
    parser.add_argument("--bundle", type=Path, required=True)
    parser.add_argument("--cache-dir", type=Path, required=True)
    args = parser.parse_args()
    bundle = load_bundle(args.bundle)
    engine = choose_engine(bundle, "openvino", cache_dir=args.cache_dir)
    side_px, outputs = bundle.manifest.input_side_px, readout(bundle)

    @batch  # type: ignore[untyped-decorator]
    def infer(image: Any) -> dict[str, Any]:
        rows = []
        for data in image[:, 0]:
            image_chw = fit(decode(data), side_px)
            evidence_khw = engine.evidence(image_chw[None])[0]
            rows.append([finding.score for finding in score.findings(evidence_khw, outputs)])
        return {"scores": np.array(rows, np.float64)}

    config = TritonConfig(
        grpc_port=args.port, http_port=args.port + 1, metrics_port=args.port + 2, log_verbose=0
    )
    with Triton(config=config) as triton:
        triton.bind(
            model_name="cxr",
            infer_func=[infer] * engine.max_in_flight,
            inputs=[Tensor(name="image", dtype=bytes, shape=(1,))],
            outputs=[Tensor(name="scores", dtype=np.float64, shape=(len(outputs.labels),))],
            config=ModelConfig(max_batch_size=1),
        )
        triton.serve()


if __name__ == "__main__":
    main()
