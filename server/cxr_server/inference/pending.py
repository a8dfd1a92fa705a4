"""Pending request: one image on its way through the scheduler."""

import asyncio
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any, Generic, TypeVar

import numpy as np
from numpy.typing import NDArray

from cxr_server.errors import DeadlineExpired
from cxr_server.inference.stages import Stage, Stages

P = TypeVar("P")
NO_EVIDENCE = np.empty((0, 0, 0), np.float32)


@dataclass(frozen=True, slots=True)
class InferenceResult(Generic[P]):
    """What `prepare` returned, and its evidence [K, h, w]; or `NO_EVIDENCE`."""

    prepared: P
    evidence_khw: NDArray[np.float32]


@dataclass(slots=True, eq=False)
class PendingRequest:
    """Completed exactly once: with a result, an error, or not at all if the caller cancelled.

    Attributes:
        prepare: Makes the network's input, in a decode thread.
        infer: Whether the engine runs on it.
        deadline: On the clock of `time.monotonic`.
        stages: Records waiting, decoding and inference.
        answer: What the caller awaits; only the event loop completes it.
        prepared: What `prepare` returned.
        failures: Number of failed engine calls with this image.
        waiting_since_s: Start of the current wait.
    """

    prepare: Callable[[], Any]
    infer: bool
    deadline: float
    stages: Stages
    answer: asyncio.Future[Any]
    prepared: Any = None
    failures: int = 0
    waiting_since_s: float = field(default_factory=time.monotonic)

    def refusal(self) -> DeadlineExpired | None:
        """Return an error if the caller no longer waits or the deadline has passed."""
        if self.answer.done() or time.monotonic() >= self.deadline:
            return DeadlineExpired("the deadline passed in the queue")
        return None

    def complete(self, outcome: InferenceResult[Any] | BaseException) -> None:
        """Give the result or the error, unless the request is complete."""
        if self.answer.done():
            return
        if isinstance(outcome, InferenceResult):
            self.answer.set_result(outcome)
        elif isinstance(outcome, Exception) and not isinstance(outcome, StopIteration):
            self.answer.set_exception(outcome)
        else:  # futures accept no others
            self.answer.set_exception(RuntimeError(f"{type(outcome).__name__} was raised"))

    def decode(self) -> InferenceResult[Any] | BaseException | None:
        """Run `prepare`, unless nobody wants the result.

        Returns:
            The result or the error that completes the request, or None if the engine is next.
        """
        if refusal := self.refusal():
            return refusal
        start_s = time.monotonic()
        try:
            self.prepared = self.prepare()
        except BaseException as error:
            return error
        self.record(Stage.DECODE, start_s, time.monotonic())
        return None if self.infer else InferenceResult(self.prepared, NO_EVIDENCE)

    def record(self, stage: Stage, start_s: float, end_s: float) -> None:
        """Record a stage, and the wait before it."""
        self.stages.add(Stage.QUEUE, self.waiting_since_s, start_s)
        self.stages.add(stage, start_s, end_s)
        self.waiting_since_s = end_s
