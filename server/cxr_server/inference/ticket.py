"""Ticket: one request on its way through the scheduler, and what comes of it."""

import asyncio
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Generic, Protocol, TypeVar

import numpy as np
from numpy.typing import NDArray

from cxr_server.errors import DeadlineExpired


class Prepared(Protocol):
    """What `prepare` returns: anything that holds the network's input."""

    @property
    def image_chw(self) -> NDArray[np.float32]:
        """The fitted image [1, H, W] in [-1024, 1024]."""
        ...


P = TypeVar("P", bound=Prepared)


@dataclass(frozen=True, slots=True)
class Turn(Generic[P]):
    """What came of one request: what was prepared, its evidence [K, h, w], its times."""

    prepared: P
    evidence_khw: NDArray[np.float32]
    decode_s: float
    queue_s: float
    inference_s: float


@dataclass(slots=True, eq=False)
class Ticket(Generic[P]):
    """A request, answered once: by a turn, by an error, or by nothing where its caller has gone.

    Attributes:
        prepare: Decodes the image, in a thread.
        caller: Whose it is.
        deadline: When it expires, on the clock of `time.monotonic`.
        answer: What the caller waits for.
        arrived: When it came, on the same clock.
        prepared: What `prepare` returned.
        decode_s: How long that took.
        failures: How many engine calls failed with it.
    """

    prepare: Callable[[], P]
    caller: str
    deadline: float
    answer: asyncio.Future[Turn[P]]
    arrived: float = field(default_factory=time.monotonic)
    prepared: P | None = None
    decode_s: float = 0.0
    failures: int = 0

    def waits(self, now: float) -> bool:
        """Whether somebody still waits for the answer; may be asked in any thread."""
        return not self.answer.done() and now < self.deadline

    def gone(self) -> bool:
        """Whether nobody waits any more; answers a caller whose deadline has passed."""
        if not self.waits(time.monotonic()):
            self.refuse(DeadlineExpired("the deadline passed in the queue"))
        return self.answer.done()

    def refuse(self, error: BaseException) -> None:
        """Answer with an error, unless that is too late."""
        if not self.answer.done():
            self.answer.set_exception(error)

    def give(self, evidence_khw: NDArray[np.float32], began: float, ended: float) -> None:
        """Answer with the evidence of an engine call, unless that is too late."""
        if self.prepared is not None and not self.answer.done():
            queue_s = max(began - self.arrived - self.decode_s, 0.0)
            turn = Turn(self.prepared, evidence_khw, self.decode_s, queue_s, ended - began)
            self.answer.set_result(turn)
