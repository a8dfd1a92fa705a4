"""Interactive calls: those in flight anywhere in the server. Bulk calls give way to them."""

import math
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager

GRACE_S = 0.1
"""After an interactive call, time in which its caller may send the next one."""
TURN_S = 1.0
"""Time without a pause of interactive calls after which bulk items begin all the same, and the most
time between such items."""


class InteractiveCalls:
    """Counts them, from admission to answer. They begin and end on the event loop.

    The first one after a pause calls all `interrupts`, which end bulk work that has begun.
    """

    def __init__(self) -> None:
        self.interrupts: set[Callable[[], None]] = set()
        self._in_flight = 0
        self._last_ended_s = self._since_s = -math.inf

    @contextmanager
    def in_flight(self) -> Iterator[None]:
        """Count a call while the block runs."""
        is_first = self.idle_s() >= GRACE_S
        if is_first:
            self._since_s = time.monotonic()
        self._in_flight += 1
        try:
            if is_first:
                for interrupt in self.interrupts:
                    interrupt()
            yield
        finally:
            self._last_ended_s = time.monotonic()
            self._in_flight -= 1

    def idle_s(self) -> float:
        """Return the seconds since the last one ended, 0 while one is in flight. For any thread."""
        return 0.0 if self._in_flight else time.monotonic() - self._last_ended_s

    def steady_s(self) -> float:
        """Return for how long they have come without a pause of `GRACE_S`. For any thread."""
        return time.monotonic() - self._since_s
