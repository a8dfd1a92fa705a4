"""Time limit: the same for many blocks at once, by one timer for all of them."""

import asyncio
from types import TracebackType

_EARLY_S = 0.01
"""By which a timer of the event loop may be early."""


class TimeLimit:
    """Ends blocks that take longer than `limit_s`, on one event loop.

    `asyncio.timeout` starts a timer for each, which takes the loop 0.02 ms.
    """

    def __init__(self, limit_s: float) -> None:
        self._limit_s = limit_s
        self._ends_s: dict[TimeLimited, float] = {}  # of running blocks, the first one first
        self._has_timer = False

    def block(self) -> "TimeLimited":
        """Return a context manager for one block of the running task. Raises TimeoutError."""
        return TimeLimited(self)

    def begin(self, block: "TimeLimited") -> None:
        """Note that a block begins."""
        loop = asyncio.get_running_loop()
        self._ends_s[block] = loop.time() + self._limit_s
        if not self._has_timer:
            self._has_timer = True
            loop.call_later(self._limit_s, self._end_those_due, loop)

    def end(self, block: "TimeLimited") -> None:
        """Note that a block has ended, or was told to."""
        self._ends_s.pop(block, None)

    def _end_those_due(self, loop: asyncio.AbstractEventLoop) -> None:
        """End the blocks whose time is up, and come back for the next one."""
        now_s = loop.time()
        for block, end_s in list(self._ends_s.items()):
            if end_s > now_s + _EARLY_S:
                loop.call_at(end_s, self._end_those_due, loop)
                return
            self.end(block)
            block.expire()
        self._has_timer = False


class TimeLimited:
    """A block that has a time limit."""

    def __init__(self, limit: TimeLimit) -> None:
        self._limit = limit
        self._task: asyncio.Task[object] | None = None
        self._is_expired = False

    def __enter__(self) -> None:
        self._task = asyncio.current_task()
        self._limit.begin(self)

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        """Raise TimeoutError if the block was ended, and nobody else has cancelled its task."""
        self._limit.end(self)
        task, self._task = self._task, None
        if self._is_expired and task and not task.uncancel() and kind is asyncio.CancelledError:
            raise TimeoutError from error

    def expire(self) -> None:
        """End the block."""
        self._is_expired = True
        if self._task:
            self._task.cancel()
