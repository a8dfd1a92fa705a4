"""Bulk turns: when a stage may begin an item of bulk calls. Part of scheduler and worker pools."""

import math
import threading
import time
from collections.abc import Callable

from cxr_server.interactive_calls import GRACE_S, TURN_S, InteractiveCalls

EXPECTED_S = 1.0
"""After an interactive call, time in which a thread is kept free for the next one."""
SHARE = 0.1
"""Share of a thread's time that such items take, unless `TURN_S` gives them more."""
POLL_S = 0.02


class BulkTurns:
    """The turns of bulk items in one stage. Guarded by the lock of the stage's condition.

    No item begins while an interactive call is in flight, and for `GRACE_S` after it. Where these
    make no pause for `TURN_S`, items begin now and then, so that bulk calls go on at all. For
    `EXPECTED_S` after an interactive call, the items leave one of the stage's threads free, if
    there are several.
    """

    def __init__(
        self, interactive: InteractiveCalls, changed: threading.Condition, thread_count: int
    ) -> None:
        self._interactive = interactive
        self._changed = changed
        self._thread_count = thread_count
        self._running = 0
        self._begun_s = -math.inf
        self._turn_s = TURN_S
        self._is_polled = False

    @property
    def gives_way(self) -> bool:
        """Whether interactive calls keep bulk items back."""
        return self._interactive.idle_s() < GRACE_S

    def may_begin(self) -> bool:
        """Return whether a further item may begin."""
        idle_s = self._interactive.idle_s()
        threads = self._thread_count if idle_s >= EXPECTED_S else max(1, self._thread_count - 1)
        if self._running >= threads:
            return False
        if idle_s >= GRACE_S:
            return True
        is_turn = time.monotonic() - self._begun_s >= self._turn_s
        return is_turn and self._interactive.steady_s() >= TURN_S

    def begin(self) -> float:
        """Note that an item begins, and return the time."""
        self._running += 1
        self._begun_s = time.monotonic()
        return self._begun_s

    def end(self, begun_s: float) -> None:
        """Note that an item has ended."""
        self._running -= 1
        self._turn_s = min(TURN_S, (time.monotonic() - begun_s) / SHARE)

    def wait_for(self, is_ready: Callable[[], bool], has_bulk: Callable[[], bool]) -> None:
        """Wait, as `Condition.wait_for` does, for what the condition is notified of, or for a turn.

        Nothing notifies of turns: while there are bulk items, one of the threads that wait looks.
        """
        while not is_ready():
            looks = has_bulk() and not self._is_polled
            self._is_polled |= looks
            self._changed.wait(POLL_S if looks else None)
            self._is_polled &= not looks
        if has_bulk():
            self._changed.notify()  # another thread has the next turn, or looks
