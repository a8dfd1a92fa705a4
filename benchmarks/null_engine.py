"""Null engine: `cxr-server` with an engine that costs nothing, which leaves the front end.

`python benchmarks/null_engine.py DECODE_MS serve ...` takes the arguments of `cxr-server`. Unless
`DECODE_MS` is 0, decoding costs nothing either, and takes that long: as if other cores did it.
"""

import sys
import time
from dataclasses import replace
from typing import Any

import numpy as np
from numpy.typing import NDArray

from cxr_server.__main__ import main
from cxr_server.bundles.load import Bundle
from cxr_server.inference.decode_processes.pool import DecodeProcesses
from cxr_server.inference.engines import EngineOptions
from cxr_server.inference.engines.registry import ENGINES
from cxr_server.inference.model_input import ModelInput


class NullEngine:
    """Gives every image the scores of the bundle's probe, at once, in batches as on a GPU."""

    max_batch, max_in_flight = 64, 2

    def __init__(self, bundle: Bundle, options: EngineOptions, name: str) -> None:
        manifest = bundle.manifest
        self.name, self.device, self.precision = name, options.device, options.precision
        threshold = np.array(manifest.probe_thresholds)
        score = np.array(manifest.probe.scores if manifest.probe else threshold)
        probability = np.where(
            score < 0.5, 2 * threshold * score, 1 - 2 * (1 - threshold) * (1 - score)
        ).clip(1e-7, 1 - 1e-7)
        logit = np.log(probability / (1 - probability)) - manifest.bias
        shape_khw = (len(logit), manifest.evidence_side, manifest.evidence_side)
        self._evidence_khw = np.broadcast_to(logit[:, None, None], shape_khw).astype(np.float32)

    def evidence(self, batch_nchw: NDArray[np.float32]) -> NDArray[np.float32]:
        """Return the same evidence for every image."""
        return np.stack([self._evidence_khw] * len(batch_nchw))

    def close(self) -> None:
        """Do nothing."""


def install(name: str) -> None:
    """Put it in the place of an engine of the registry."""
    ENGINES[name] = replace(
        ENGINES[name], open=lambda bundle, options: NullEngine(bundle, options, name)
    )


def decode_elsewhere(decode_ms: float) -> None:
    """Answer every image with what the first one became, after a time in which nothing is done."""
    decode, made = DecodeProcesses.preprocess, list[ModelInput]()

    def preprocess(*args: Any, **rest: Any) -> ModelInput:
        if not made:
            made.append(decode(*args, **rest))
        elif find_key := rest.get("meanwhile"):  # `--against` an older checkout: found before
            find_key()
        time.sleep(decode_ms / 1000)
        return made[0]

    DecodeProcesses.preprocess = preprocess  # type: ignore[method-assign]


if __name__ == "__main__":
    install("openvino")
    if decode_ms := float(sys.argv.pop(1)):
        decode_elsewhere(decode_ms)
    sys.exit(main())
