"""`cxr-server`, as it is or with an engine that differs: python variant.py VARIANTS serve ...

VARIANTS is a list with commas, or "none":

    null        the engine costs nothing, which leaves the front end
    one         torch uses one thread of its own
    heuristic   cuDNN's first choice of a kernel is taken, without a search
    faulty      SIGUSR1 makes the next batch fail as out of memory; SIGUSR2 makes it lose the
                CUDA context, as an assertion in a kernel does
"""

import os
import signal
import sys
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from cxr_server.__main__ import main
from cxr_server.bundles.load import Bundle
from cxr_server.inference.engines import Engine
from cxr_server.inference.engines.registry import ENGINES

CPU = os.environ.get("GPU_CHECK_CPU") == "1"
Open = Callable[[Bundle, str, Path | None, int | None], Engine]


class NullEngine:
    """Answers zeros at once."""

    name, max_batch, max_in_flight = "torch", 32, 2

    def __init__(self, bundle: Bundle, device: str) -> None:
        side = bundle.manifest.evidence_side
        self.device = device
        self._shape = (len(bundle.manifest.labels), side, side)

    def evidence(self, batch_nchw: NDArray[np.float32]) -> NDArray[np.float32]:
        """Return zeros."""
        return np.zeros((len(batch_nchw), *self._shape), np.float32)

    def close(self) -> None:
        """Do nothing."""


class FaultyEngine:
    """An engine that fails when it is told to by a signal."""

    faults: tuple[str, ...] = ()
    """What the next batch meets. A lost context stays lost."""

    def __init__(self, engine: Engine) -> None:
        self.name, self.device = engine.name, engine.device
        self.max_batch, self.max_in_flight = engine.max_batch, engine.max_in_flight
        self.close = engine.close
        self._engine = engine

    def evidence(self, batch_nchw: NDArray[np.float32]) -> NDArray[np.float32]:
        """Fail if a fault is due, else run the batch."""
        raise_fault(once=True)
        return self._engine.evidence(batch_nchw)


def raise_fault(*, once: bool) -> None:
    """Raise the fault that is due, if any. Running out of memory happens in batches only."""
    import torch

    due = FaultyEngine.faults
    if "context" in due:
        if not CPU:
            numbers = torch.zeros(4, device="cuda:0")
            numbers[torch.tensor([9], device="cuda:0")].sum().item()
        raise RuntimeError("CUDA error: device-side assert triggered (gpu-check)")
    if "memory" in due and once:
        FaultyEngine.faults = ()
        raise torch.OutOfMemoryError("CUDA out of memory (gpu-check)")


def install(variants: set[str]) -> None:
    """Change the torch engine in the registry."""
    spec = ENGINES["torch"]
    start = spec.open

    def start_faulty(
        bundle: Bundle, device: str, cache_dir: Path | None, threads: int | None
    ) -> Engine:
        raise_fault(once=False)
        return FaultyEngine(start(bundle, device, cache_dir, threads))

    if "null" in variants:
        spec = replace(spec, open=lambda bundle, device, *_: NullEngine(bundle, device))
    if "faulty" in variants:
        spec = replace(spec, open=start_faulty)
        signal.signal(signal.SIGUSR1, lambda *_: setattr(FaultyEngine, "faults", ("memory",)))
        signal.signal(signal.SIGUSR2, lambda *_: setattr(FaultyEngine, "faults", ("context",)))
    if "heuristic" in variants:
        import torch

        torch.backends.cudnn.benchmark_limit = 1
    ENGINES["torch"] = spec


if __name__ == "__main__":
    chosen = set(sys.argv.pop(1).split(","))
    if "one" in chosen:
        os.environ["OMP_NUM_THREADS"] = "1"  # read when torch is imported
    install(chosen)
    sys.exit(main(sys.argv[1:]))
