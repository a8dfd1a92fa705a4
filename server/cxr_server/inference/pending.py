"""Pending request: one image on its way through the scheduler."""

import asyncio
import time
from collections.abc import Callable, Iterable
from contextlib import suppress
from dataclasses import dataclass, field
from typing import Any

from cxr_server.errors import DeadlineExpired, RequestError
from cxr_server.inference.engines import Output
from cxr_server.observability.stages import NO_FACTS, Facts, Stage, Stages

Decoded = tuple[Any, None] | BaseException | None
"""The result or error that completes a request after decoding, or None if the engine is next."""


@dataclass(slots=True, eq=False)
class PendingRequest:
    """The arguments of `Scheduler.submit`, and how far the request has come."""

    prepare: Callable[[], Any]
    conclude: Callable[[Any, Output], Any] | None
    deadline: float
    stages: Stages
    answer: asyncio.Future[Any]  # what the caller awaits; only the event loop completes it
    bulk: bool = False
    prepared: Any = None
    failed_once: bool = False  # whether an engine call with this image has failed
    gave_way: bool = False  # whether one was interrupted, which happens once
    waiting_since_s: float = field(default_factory=time.monotonic)

    def refusal(self) -> DeadlineExpired | None:
        """Return an error if the caller no longer waits or the deadline has passed."""
        if self.answer.done() or time.monotonic() >= self.deadline:
            return DeadlineExpired("the deadline passed in the queue")
        return None

    def decode(self) -> Decoded:
        """Run `prepare`, unless nobody wants the result."""
        if refusal := self.refusal():
            return refusal
        start_s = time.monotonic()
        try:
            self.prepared = self.prepare()
        except RequestError as error:
            # The frames of a traceback keep the image, and one another in a reference cycle.
            error.__traceback__ = error.__cause__ = error.__context__ = None
            return error
        except BaseException as error:
            return error
        finally:
            self.record(Stage.DECODE, start_s, time.monotonic())
        return None if self.conclude else (self.prepared, None)

    def outcome(self, output: Output) -> tuple[Any, Any] | BaseException:
        """Return the result or error that completes the request, once the engine has answered."""
        assert self.conclude  # else the engine is not asked
        try:
            return self.prepared, self.conclude(self.prepared, output)
        except BaseException as error:
            return error

    def record(self, stage: Stage, start_s: float, end_s: float, facts: Facts = NO_FACTS) -> None:
        """Record a stage, and the wait before it."""
        self.stages.add(Stage.QUEUE, self.waiting_since_s, start_s)
        self.stages.add(stage, start_s, end_s, facts)
        self.waiting_since_s = end_s

    def complete_soon(self, outcome: object) -> None:
        """Give the caller its result or error, from any thread."""
        with suppress(RuntimeError):  # the loop is closed: nobody waits
            self.answer.get_loop().call_soon_threadsafe(complete, self.answer, outcome)


def complete(answer: asyncio.Future[Any], outcome: object) -> None:
    """Give a caller its result or error, unless it has one or was cancelled."""
    if answer.done():
        return
    if not isinstance(outcome, BaseException):
        answer.set_result(outcome)
    elif isinstance(outcome, Exception) and not isinstance(outcome, StopIteration):
        answer.set_exception(outcome)
    else:  # a future takes no StopIteration, and others would end the event loop
        answer.set_exception(RuntimeError(f"{type(outcome).__name__} was raised"))


def complete_all(answered: Iterable[tuple[asyncio.Future[Any], object]]) -> None:
    """Give several callers their results or errors."""
    for answer, outcome in answered:
        complete(answer, outcome)
