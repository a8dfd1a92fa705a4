"""Engines that fail on demand."""

import asyncio
import threading
from collections.abc import Sequence

import numpy as np

from cxr_server.inference.engines import Engine, Inferred
from cxr_server.inference.engines.registry import ENGINES, EngineUnavailable


class Engines:
    """Opens engines that fail on demand."""

    def __init__(self) -> None:
        self.made: list[Fragile] = []
        self.can_be_made = asyncio.Event()
        self.can_be_made.set()
        self.broken = False
        self.asked = self.refused = 0
        self._spec = ENGINES["openvino"]
        self._loop = asyncio.get_running_loop()

    def make(self, *args: object) -> "Fragile":
        self.asked += 1
        asyncio.run_coroutine_threadsafe(self.can_be_made.wait(), self._loop).result(60)
        if self.broken:
            self.refused += 1
            raise EngineUnavailable("no device")
        self.made.append(Fragile(self._spec.open(*args)))  # type: ignore[arg-type]
        return self.made[-1]


class Fragile:
    """The real engine until `broken`; then every call raises `error`, if one is given.

    Otherwise the evidence is NaN, also for images whose middle is black in any case.
    """

    def __init__(self, whole: Engine) -> None:
        self._whole = whole
        self.broken = self.closed = False
        self.error: Exception | None = RuntimeError("device lost")
        self.called, self.free = threading.Event(), threading.Event()
        self.free.set()

    def __getattr__(self, name: str) -> object:
        return getattr(self._whole, name)

    def evidence(self, batch_nchw: np.ndarray) -> np.ndarray:
        self.called.set()
        assert self.free.wait(60)
        if self.broken and self.error:
            raise self.error
        evidence = self._whole.evidence(batch_nchw)
        black = batch_nchw[:, 0, 112, 112] < -1000
        evidence[black | self.broken] = np.nan
        return evidence

    def infer(self, images: Sequence[np.ndarray]) -> Inferred:
        return Inferred(self.evidence(np.stack(images)), None)

    infer_for_throughput = infer

    def close(self) -> None:
        self.closed = True
        self._whole.close()
