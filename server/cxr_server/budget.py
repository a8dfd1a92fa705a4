"""Budget: bytes that calls share, taken in order and given back when the call has ended."""

import asyncio
import math
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager

from cxr_server.errors import DeadlineExpired


class ByteBudget:
    """Bytes that calls take, first come, first served. For the event loop.

    A call takes all that it may need at once, so calls never wait for each other in a circle.
    """

    def __init__(self, limit_bytes: int) -> None:
        self.limit_bytes = limit_bytes
        self.held_bytes = 0
        self._waiting: dict[asyncio.Future[None], int] = {}

    async def take(self, wanted_bytes: int, *, deadline: float = math.inf) -> "Share":
        """Wait for the bytes, which are at most the limit. Raises DeadlineExpired.

        The deadline is on the clock of `time.monotonic`.
        """
        turn: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        self._waiting[turn] = wanted_bytes
        self._grant()
        left_s = None if math.isinf(deadline) else deadline - time.monotonic()
        try:
            async with asyncio.timeout(left_s):
                await turn
        except BaseException as error:
            if self._waiting.pop(turn, None) is None:  # granted at the same time
                self.held_bytes -= wanted_bytes
            self._grant()
            if isinstance(error, TimeoutError):
                waited = "the deadline passed while the call waited for memory"
                raise DeadlineExpired(waited) from None
            raise
        return Share(self, wanted_bytes)

    def give_back(self, count_bytes: int) -> None:
        """Return bytes that a share holds, for the next in line."""
        self.held_bytes -= count_bytes
        self._grant()

    def _grant(self) -> None:
        while self._waiting:
            turn, wanted_bytes = next(iter(self._waiting.items()))
            if self.held_bytes + wanted_bytes > self.limit_bytes:
                return
            del self._waiting[turn]
            self.held_bytes += wanted_bytes
            if not turn.done():
                turn.set_result(None)


class Share:
    """Bytes that one call holds of a `ByteBudget`."""

    def __init__(self, budget: ByteBudget, held_bytes: int) -> None:
        self._budget = budget
        self.held_bytes = held_bytes

    def shrink(self, held_bytes: int) -> None:
        """Give back what is held above this; nothing if it holds less already."""
        more_bytes = max(0, self.held_bytes - held_bytes)
        self.held_bytes -= more_bytes
        self._budget.give_back(more_bytes)

    def release(self) -> None:
        """Give back everything."""
        self.shrink(0)


class ThreadBudget:
    """Bytes that threads hold while they work on one image each, first come, first served."""

    def __init__(self, limit_bytes: int) -> None:
        self.limit_bytes = limit_bytes
        self.held_bytes = 0
        self._turn = threading.Lock()  # held by the one that waits: smaller ones do not overtake
        self._freed = threading.Condition()

    @contextmanager
    def hold(self, wanted_bytes: int, check: Callable[[], None]) -> Iterator[None]:
        """Wait for the bytes, which are at most the limit, and hold them while the block runs.

        `check` is called before and while it waits; what it raises ends the wait.
        """
        with self._turn, self._freed:
            check()
            while self.held_bytes + wanted_bytes > self.limit_bytes:
                self._freed.wait(0.1)
                check()
            self.held_bytes += wanted_bytes
        try:
            yield
        finally:
            with self._freed:
                self.held_bytes -= wanted_bytes
                self._freed.notify_all()
