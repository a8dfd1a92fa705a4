"""Worker pool: threads for work outside the scheduler, bounded and with deadlines."""

import asyncio
import math
import time
from collections.abc import Callable, Iterable
from contextlib import suppress
from itertools import count
from queue import PriorityQueue
from typing import TypeVar

from cxr_server.errors import DeadlineExpired, Draining, QueueFull
from cxr_server.inference import threads
from cxr_server.inference.pending import complete

R = TypeVar("R")


class WorkerPool:
    """Runs jobs in `thread_count` threads; `max_jobs` may run or wait.

    First in, first out, but bulk jobs when no other job waits.
    """

    def __init__(self, name: str, thread_count: int, max_jobs: int) -> None:
        self._free = max_jobs
        self._closed = False
        self._numbers = count()
        self._jobs: PriorityQueue[tuple[float, int, Callable[[], None] | None]] = PriorityQueue()
        for _ in range(thread_count):
            threads.start(name, self._work)

    @property
    def waiting(self) -> int:
        """Number of jobs that wait for a thread, those of callers who have gone included."""
        return self._jobs.qsize()

    async def run(
        self, steps: Iterable[R], *, deadline: float = float("inf"), bulk: bool = False
    ) -> list[R]:
        """Exhaust a lazy iterable in a thread, and return its items.

        The remaining steps are skipped once the caller is cancelled or the deadline, on the
        clock of `time.monotonic`, has passed. Raises QueueFull, DeadlineExpired, Draining, and
        whatever a step raises.
        """
        self.check()
        loop = asyncio.get_running_loop()
        answer: asyncio.Future[list[R]] = loop.create_future()
        work = [iter(steps)]  # emptied for a caller that has gone: a queued job holds no image
        del steps

        def job() -> None:
            items: list[R] = []
            outcome: list[R] | BaseException = items
            try:
                with suppress(StopIteration, IndexError):
                    remaining = work.pop()
                    while not answer.done():
                        if time.monotonic() >= deadline:
                            raise DeadlineExpired("the deadline passed before the map was made")
                        items.append(next(remaining))
            except BaseException as error:
                outcome = error
            with suppress(RuntimeError):  # the loop is closed: nobody waits
                loop.call_soon_threadsafe(complete, answer, outcome)

        self._free -= 1
        self._jobs.put((bulk, next(self._numbers), job))
        try:
            return await answer
        finally:
            work.clear()
            self._free += 1

    def check(self) -> None:
        """Raise Draining or QueueFull if no job is taken now."""
        if self._closed:
            raise Draining("the server is shutting down")
        if not self._free:
            raise QueueFull("too many explanations are waiting", retry_after_ms=5000)

    def close(self) -> None:
        """End the threads once the queue is empty. Does not wait."""
        self._closed = True
        self._end()

    def _work(self) -> None:
        while job := self._jobs.get()[-1]:
            job()
            job = None  # an idle thread holds no image
        self._end()  # for the next thread

    def _end(self) -> None:
        self._jobs.put((math.inf, next(self._numbers), None))
