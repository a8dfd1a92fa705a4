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
from cxr_server.inference.engines.registry import ENGINES, PRECISIONS

CPU = os.environ.get("GPU_CHECK_CPU") == "1"
CPU_BATCH_SIZES = (1, 2, 4, 8)


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
        spec = replace(
            spec, open=on_torch(faults), reduced_precisions=lambda device: PRECISIONS[1:]
        )
    if "null" in variants:
        from benchmarks.null_engine import NullEngine

        spec = replace(spec, open=lambda bundle, options: NullEngine(bundle, options, "torch"))
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
