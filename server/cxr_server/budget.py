"""Budget: bytes that calls share, taken in order and given back when the call has ended."""

import asyncio
import math
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager

from cxr_server.errors import DeadlineExpired
from cxr_server.interactive_calls import TURN_S


class ByteBudget:
    """Bytes that calls take, first come, first served. For the event loop.

    A call takes all that it may need at once, so calls cannot deadlock. Bulk calls wait behind the
    others and hold at most half of the bytes together; a single one may hold more. So that they go
    on at all, one that has waited for `TURN_S` is next, once it fits and no other bulk call holds
    bytes.
    """

    def __init__(self, limit_bytes: int) -> None:
        self.limit_bytes = limit_bytes
        self.held_bytes = 0
        self._held_by_bulk_bytes = 0
        self._waiting: tuple[dict[asyncio.Future[None], int], ...] = {}, {}  # interactive, bulk
        self._bulk_waits_since_s = math.inf  # or since the last one was granted its bytes

    async def take(
        self, wanted_bytes: int, *, deadline: float = math.inf, bulk: bool = False
    ) -> "Share":
        """Wait for the bytes, which are at most the limit. Raises DeadlineExpired.

        The deadline is on the clock of `time.monotonic`.
        """
        turn: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        if bulk and not self._waiting[bulk]:
            self._bulk_waits_since_s = time.monotonic()
        self._waiting[bulk][turn] = wanted_bytes
        self._grant()
        if turn.done():
            return Share(self, wanted_bytes, bulk)
        left_s = None if math.isinf(deadline) else deadline - time.monotonic()
        try:
            async with asyncio.timeout(left_s):
                await turn
        except BaseException as error:
            if self._waiting[bulk].pop(turn, None) is None:  # granted at the same time
                self._hold(-wanted_bytes, bulk)
            self._grant()
            if isinstance(error, TimeoutError):
                waited = "the deadline passed while the call waited for memory"
                raise DeadlineExpired(waited) from None
            raise
        return Share(self, wanted_bytes, bulk)

    def give_back(self, count_bytes: int, *, bulk: bool = False) -> None:
        """Return bytes that a share holds, for the next in line."""
        self._hold(-count_bytes, bulk)
        self._grant()

    def _hold(self, more_bytes: int, bulk: bool) -> None:
        self.held_bytes += more_bytes
        self._held_by_bulk_bytes += more_bytes if bulk else 0

    def _grant(self) -> None:
        if not self._held_by_bulk_bytes and time.monotonic() - self._bulk_waits_since_s >= TURN_S:
            self._grant_first(bulk=True)
        for bulk, waiting in enumerate(self._waiting):
            while waiting:
                if not self._grant_first(bulk=bool(bulk)):
                    return

    def _grant_first(self, *, bulk: bool) -> bool:
        """Give the first that waits its bytes. Returns False if none waits or they do not fit."""
        waiting = self._waiting[bulk]
        if not waiting:
            return False
        turn, wanted_bytes = next(iter(waiting.items()))
        if not self._fits(wanted_bytes, bulk):
            return False
        del waiting[turn]
        self._hold(wanted_bytes, bulk)
        if bulk:
            self._bulk_waits_since_s = time.monotonic()
        if not turn.done():
            turn.set_result(None)
        return True

    def _fits(self, wanted_bytes: int, bulk: bool) -> bool:
        # The limit may have fallen below what a call already waits for.
        if self.held_bytes and self.held_bytes + wanted_bytes > self.limit_bytes:
            return False
        by_bulk_bytes = self._held_by_bulk_bytes
        return not (bulk and by_bulk_bytes and by_bulk_bytes + wanted_bytes > self.limit_bytes // 2)


class Share:
    """Bytes that one call holds of a `ByteBudget`."""

    def __init__(self, budget: ByteBudget, held_bytes: int, bulk: bool = False) -> None:
        self._budget = budget
        self._bulk = bulk
        self.held_bytes = held_bytes

    def shrink(self, held_bytes: int) -> None:
        """Give back what is held above this; nothing if it holds less already."""
        more_bytes = max(0, self.held_bytes - held_bytes)
        self.held_bytes -= more_bytes
        self._budget.give_back(more_bytes, bulk=self._bulk)

    def release(self) -> None:
        """Give back everything."""
        self.shrink(0)


class ThreadBudget:
    """Bytes that threads hold while they work on one image each, first come, first served."""

    def __init__(self, limit_bytes: int) -> None:
        self.limit_bytes = limit_bytes
        self.held_bytes = 0
        self._turn = threading.Lock()  # held by the one that waits: smaller ones do not overtake
        self._lock = threading.Lock()
        self._freed = threading.Condition(self._lock)

    @contextmanager
    def hold(self, wanted_bytes: int, check: Callable[[], None]) -> Iterator[None]:
        """Wait for the bytes, which are at most the limit, and hold them while the block runs.

        `check` is called before and while it waits; what it raises ends the wait.
        """
        with self._turn, self._lock:
            check()
            while self.held_bytes + wanted_bytes > self.limit_bytes:
                self._freed.wait(0.1)
                check()
            self.held_bytes += wanted_bytes
        try:
            yield
        finally:
            with self._lock:
                self.held_bytes -= wanted_bytes
                self._freed.notify_all()
