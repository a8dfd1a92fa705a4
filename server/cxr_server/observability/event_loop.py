"""Event loop: how late it runs what is due, and whether it still runs."""

import asyncio
import time
from collections.abc import Callable

INTERVAL_S = 0.25
STUCK_AFTER_S = 30.0
"""Longer than anything that holds the loop on a machine which is oversubscribed."""


class LoopWatch:
    """Looks at the event loop four times a second, from `start` to `stop`."""

    def __init__(self, observe_lag_s: Callable[[float], None]) -> None:
        self._observe_lag_s = observe_lag_s
        self._due_s = 0.0
        self._timer: asyncio.TimerHandle | None = None

    @property
    def is_stuck(self) -> bool:
        """Whether the loop has not run for so long that it may never. For any thread."""
        return self._timer is not None and time.monotonic() - self._due_s > STUCK_AFTER_S

    def start(self) -> None:
        """Begin. Call it on the event loop."""
        self._due_s = time.monotonic() + INTERVAL_S
        self._timer = asyncio.get_running_loop().call_later(INTERVAL_S, self._look)

    def stop(self) -> None:
        """End, so that nothing is stuck any more."""
        if self._timer:
            self._timer.cancel()
        self._timer = None

    def _look(self) -> None:
        self._observe_lag_s(max(0.0, time.monotonic() - self._due_s))
        self.start()
