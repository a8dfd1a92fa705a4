"""Lifecycle: the phase of the process, which decides whether calls are answered."""

import asyncio
import os
import signal
import time
from enum import StrEnum
from typing import NoReturn

import structlog

from cxr_server.errors import Draining, ModelLoading, Unavailable
from cxr_server.observability import logs

log = structlog.get_logger("cxr_server")


class Phase(StrEnum):
    """Phase of the process. Only SERVING and LAME_DUCK answer calls for the model."""

    LOADING = "LOADING"
    SERVING = "SERVING"
    LAME_DUCK = "LAME_DUCK"  # answers, but reports NOT_SERVING: load balancers go elsewhere
    DRAINING = "DRAINING"
    FAILED = "FAILED"


class Lifecycle:
    """Holds the phase, and wakes those that watch it.

    `change` is set, and replaced, when a phase is entered. `given_up` is set when the model cannot
    be restored, so that the process should end.
    """

    def __init__(self) -> None:
        self.phase = Phase.LOADING
        self.given_up = asyncio.Event()
        self._failed_engines: set[object] = set()
        self._started = time.monotonic()
        self.change = asyncio.Event()

    @property
    def uptime_s(self) -> float:
        """Seconds since the process started."""
        return time.monotonic() - self._started

    def enter(self, phase: Phase) -> None:
        """Go to a phase. Shutting down is final: later phases of other kinds are ignored."""
        if self.is_ending and phase not in (Phase.LAME_DUCK, Phase.DRAINING):
            return
        self.phase = phase
        self.change.set()
        self.change = asyncio.Event()

    def engine_failed(self, engine: object) -> None:
        """Enter FAILED until `engine_restored` is called with the same key."""
        self._failed_engines.add(engine)
        self.enter(Phase.FAILED)

    def engine_restored(self, engine: object) -> None:
        """Enter SERVING if this was the last failed engine: it was replaced or is not needed.

        Does nothing if it had not failed, or if `given_up` is set.
        """
        if engine not in self._failed_engines or self.given_up.is_set():
            return
        self._failed_engines.remove(engine)
        if not self._failed_engines:
            self.enter(Phase.SERVING)

    @property
    def is_ending(self) -> bool:
        """Whether the process is shutting down."""
        return self.phase in (Phase.LAME_DUCK, Phase.DRAINING)

    def refusal(self) -> Unavailable | None:
        """Return why a call for the model is refused now, or None if it is answered."""
        if self.phase in (Phase.SERVING, Phase.LAME_DUCK):
            return None
        if self.phase is Phase.DRAINING:
            return Draining("the server is shutting down", retry_after_ms=100)
        return ModelLoading("the model is not ready yet", retry_after_ms=500)


def exit_at_once(status: int) -> NoReturn:
    """End the process without waiting for anything but the log, and for that only shortly."""
    logs.flush()
    os._exit(status)


def exit_by_signal(number: int) -> NoReturn:
    """End the process at once, with the status of a process that the signal has killed."""
    log.warning("stopped at once", signal=signal.Signals(number).name)
    exit_at_once(128 + number)
