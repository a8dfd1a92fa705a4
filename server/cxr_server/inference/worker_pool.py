"""Worker pool: threads for work that needs no turn of the scheduler, bounded and with deadlines."""

import asyncio
import threading
import time
from collections.abc import Callable, Iterable
from queue import SimpleQueue
from typing import TypeVar

from cxr_server.errors import DeadlineExpired, Draining, QueueFull

R = TypeVar("R")


class WorkerPool:
    """Runs jobs in order of arrival, with a bound on how many may be in the pool.

    The threads are daemons: a map that takes minutes does not keep the process alive.

    Args:
        threads: Number of jobs that run at once.
        max_jobs: Number of jobs that may run or wait.
    """

    def __init__(self, threads: int, max_jobs: int) -> None:
        self._max_jobs = max_jobs
        self._jobs = 0
        self._closed = False
        self._queue: SimpleQueue[Callable[[], None] | None] = SimpleQueue()
        self._threads = threads
        for _ in range(threads):
            threading.Thread(target=self._work, daemon=True).start()

    async def run(self, steps: Iterable[R], *, deadline: float = float("inf")) -> list[R]:
        """Exhaust a lazy iterable in a thread, and return its items.

        The remaining steps are skipped once the caller is cancelled or the deadline, on the
        clock of `time.monotonic`, has passed.

        Raises:
            QueueFull: `max_jobs` jobs are in the pool already.
            DeadlineExpired: The deadline passed before the last step began.
            Draining: The pool was closed.
            Exception: Whatever a step raised.
        """
        if self._closed:
            raise Draining("the server is shutting down")
        if self._jobs >= self._max_jobs:
            raise QueueFull("too many explanations are waiting", retry_after_ms=5000)
        loop = asyncio.get_running_loop()
        answer: asyncio.Future[list[R]] = loop.create_future()

        def job() -> None:
            items, remaining = [], iter(steps)
            try:
                while not answer.done():
                    if time.monotonic() >= deadline:
                        raise DeadlineExpired("the deadline passed before the map was made")
                    items.append(next(remaining))
            except StopIteration:
                loop.call_soon_threadsafe(_complete, answer, items)
            except Exception as error:
                loop.call_soon_threadsafe(_complete, answer, error)

        self._jobs += 1
        self._queue.put(job)
        try:
            return await answer
        finally:
            self._jobs -= 1

    def close(self) -> None:
        """End the threads once their queue is empty. Does not wait."""
        self._closed = True
        for _ in range(self._threads):
            self._queue.put(None)

    def _work(self) -> None:
        while job := self._queue.get():
            job()
            del job


def _complete(answer: asyncio.Future[list[R]], outcome: list[R] | Exception) -> None:
    if answer.done():
        return
    if isinstance(outcome, Exception):
        answer.set_exception(outcome)
    else:
        answer.set_result(outcome)
