"""`cxr-server`, as it is or with an engine that differs: python variant.py VARIANTS serve ...

VARIANTS is a list with commas, or "none":

    null        the engine costs nothing, which leaves the front end
    search      cuDNN searches the fastest kernel for each shape, instead of its first choice
    faulty      SIGUSR1 makes the next batch fail as out of memory; SIGUSR2 makes it lose the
                CUDA context, as an assertion in a kernel does

With GPU_CHECK_CPU=1 the torch engine has on a CPU what it has on CUDA alone: batches and other
precisions than float32.
"""

import os
import signal
import sys
from collections.abc import Callable, Sequence
from dataclasses import replace

import numpy as np
from numpy.typing import NDArray

from cxr_server.__main__ import main
from cxr_server.bundles.load import Bundle
from cxr_server.inference.engines import DeviceLost, Engine, EngineOptions, Inferred
from cxr_server.inference.engines.registry import ENGINES

CPU = os.environ.get("GPU_CHECK_CPU") == "1"
CPU_BATCH_SIZES = (1, 2, 4, 8)


class NullEngine:
    """Gives every image the scores of the bundle's probe, at once."""

    name, max_batch, max_in_flight = "torch", 64, 2

    def __init__(self, bundle: Bundle, options: EngineOptions) -> None:
        manifest = bundle.manifest
        self.device, self.precision = options.device, options.precision
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


class Faults:
    """What the next batch meets: signals set it."""

    due = ""

    def meet(self) -> None:
        """Fail as is due."""
        import torch

        due, self.due = self.due, ""
        if due == "memory":
            raise torch.OutOfMemoryError("CUDA out of memory (gpu-check)")
        if due == "context" and CPU:
            raise DeviceLost("CUDA error: device-side assert triggered (gpu-check)")
        if due == "context":  # CUDA reports it in the batch
            torch.zeros(4, device="cuda:0")[torch.tensor([9], device="cuda:0")].sum()


def on_torch(faults: Faults) -> Callable[[Bundle, EngineOptions], Engine]:
    """Return how a torch engine is started that meets faults."""

    def start(bundle: Bundle, options: EngineOptions) -> Engine:
        from cxr_server.inference.engines.torch.engine import TorchEngine

        class FaultyEngine(TorchEngine):
            """The engine as it is, but for faults."""

            def infer(self, images: Sequence[NDArray[np.float32]]) -> Inferred:
                """Meet what is due, and run the batch."""
                faults.meet()
                return super().infer(images)

        return FaultyEngine(
            bundle,
            device=options.device,
            precision=options.precision,
            threads=options.threads,
            batch_sizes=CPU_BATCH_SIZES if CPU else None,
        )

    return start


def install(variants: set[str]) -> None:
    """Change the torch engine in the registry."""
    faults = Faults()
    spec = ENGINES["torch"]
    if CPU:
        spec = replace(spec, open=on_torch(faults), reduced_devices=spec.devices)
    if "null" in variants:
        spec = replace(spec, open=NullEngine)
    if "faulty" in variants:
        spec = replace(spec, open=on_torch(faults))
        signal.signal(signal.SIGUSR1, lambda *_: setattr(faults, "due", "memory"))
        signal.signal(signal.SIGUSR2, lambda *_: setattr(faults, "due", "context"))
    if "search" in variants:
        import torch

        torch.backends.cudnn.benchmark = True
    ENGINES["torch"] = spec


if __name__ == "__main__":
    install(set(sys.argv.pop(1).split(",")))
    sys.exit(main(sys.argv[1:]))
