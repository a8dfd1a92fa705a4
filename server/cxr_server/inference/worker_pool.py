"""Worker pool: threads for work outside the scheduler, bounded and with deadlines."""

import asyncio
import threading
import time
from collections import OrderedDict
from collections.abc import Callable, Iterable, Iterator
from contextlib import suppress
from typing import TypeAlias, TypeVar

from cxr_server.errors import DeadlineExpired, Draining, QueueFull
from cxr_server.inference import threads
from cxr_server.inference.bulk_turns import BulkTurns
from cxr_server.inference.pending import complete
from cxr_server.interactive_calls import InteractiveCalls

R = TypeVar("R")
_Jobs: TypeAlias = OrderedDict[Callable[[], None], None]  # in order, and each can be removed


class WorkerPool:
    """Runs jobs in `thread_count` threads; `max_jobs`, which may be changed, may run or wait.

    First in, first out, but bulk jobs in their turns. These take half of the places at most: while
    they give way to interactive calls, the others are free for those.
    """

    def __init__(
        self, name: str, thread_count: int, max_jobs: int, interactive: InteractiveCalls
    ) -> None:
        self.max_jobs = max_jobs
        self._taken = [0, 0]  # jobs of callers who wait: interactive, bulk
        self._changed = threading.Condition()  # guards all that follows
        self._closed = False
        self._turns = BulkTurns(interactive, self._changed, thread_count)
        self._jobs: tuple[_Jobs, _Jobs] = OrderedDict(), OrderedDict()  # the second: bulk
        for _ in range(thread_count):
            threads.start(name, self._work)

    @property
    def waiting(self) -> int:
        """Number of jobs that wait for a thread."""
        return sum(map(len, self._jobs))

    async def run(
        self, steps: Iterable[R], *, deadline: float = float("inf"), bulk: bool = False
    ) -> list[R]:
        """Exhaust a lazy iterable in a thread, and return its items.

        The remaining steps are skipped once the caller is cancelled or the deadline, on the
        clock of `time.monotonic`, has passed. Raises QueueFull, DeadlineExpired, Draining, and
        whatever a step raises.
        """
        self.check(bulk=bulk)
        loop = asyncio.get_running_loop()
        answer: asyncio.Future[list[R]] = loop.create_future()
        work = [iter(steps)]  # emptied for a caller that has gone: its job then holds no image
        del steps

        def job() -> None:
            items: list[R] = []
            outcome: list[R] | BaseException = items
            remaining: Iterator[R] = iter(())
            with suppress(IndexError):
                remaining = work.pop()
            try:
                with suppress(StopIteration):
                    while not answer.done():
                        if time.monotonic() >= deadline:
                            raise DeadlineExpired("the deadline passed before the map was made")
                        items.append(next(remaining))
            except BaseException as error:
                outcome = error
            with suppress(RuntimeError):  # the loop is closed: nobody waits
                loop.call_soon_threadsafe(complete, answer, outcome)

        self._taken[bulk] += 1
        with self._changed:
            self._jobs[bulk][job] = None
            self._changed.notify()
        try:
            return await answer
        finally:
            work.clear()
            with self._changed:
                self._jobs[bulk].pop(job, None)  # of a caller that has gone, if it still waits
            self._taken[bulk] -= 1

    def check(self, *, bulk: bool = False) -> None:
        """Raise Draining or QueueFull if no job of this priority is taken now."""
        if self._closed:
            raise Draining("the server is shutting down")
        is_full = sum(self._taken) >= self.max_jobs
        if is_full or (bulk and self._taken[bulk] >= max(1, self.max_jobs // 2)):
            raise QueueFull("too many explanations are waiting", retry_after_ms=5000)

    def close(self) -> None:
        """End the threads once the queue is empty. Does not wait."""
        with self._changed:
            self._closed = True
            self._changed.notify_all()

    def _work(self) -> None:
        while self._next():
            pass

    def _next(self) -> bool:
        """Wait for a job and run it. Returns False once closed and nothing waits."""
        interactive, bulk = self._jobs
        with self._changed:
            self._turns.wait_for(self._may_work, lambda: bool(bulk))
            if not (interactive or bulk):
                self._changed.notify_all()  # the others may end as well
                return False
            is_bulk = not interactive
            job, _ = self._jobs[is_bulk].popitem(last=False)
            begun_s = self._turns.begin() if is_bulk else None
        job()
        if begun_s is not None:
            with self._changed:
                self._turns.end(begun_s)
        return True

    def _may_work(self) -> bool:
        interactive, bulk = self._jobs
        if bulk and not interactive:
            return self._turns.may_begin()
        return bool(interactive) or self._closed
