"""Worker pool: threads for work outside the scheduler, bounded and with deadlines."""

import asyncio
import threading
import time
from collections import deque
from collections.abc import Callable, Iterable
from contextlib import suppress
from typing import TypeVar

from cxr_server.errors import DeadlineExpired, Draining, QueueFull
from cxr_server.inference import threads
from cxr_server.inference.interactive_calls import InteractiveCalls
from cxr_server.inference.pending import complete

R = TypeVar("R")


class WorkerPool:
    """Runs jobs in `thread_count` threads; `max_jobs`, which may be changed, may run or wait.

    First in, first out, but bulk jobs when no other job waits. While other jobs come, a thread is
    kept free of bulk jobs.
    """

    def __init__(self, name: str, thread_count: int, max_jobs: int) -> None:
        self.max_jobs = max_jobs
        self._taken = 0
        self._thread_count = thread_count
        self._changed = threading.Condition()  # guards all that follows
        self._closed = False
        self._interactive = InteractiveCalls()
        self._jobs: tuple[deque[Callable[[], None]], ...] = deque(), deque()  # the second: bulk
        self._running_bulk = 0
        for _ in range(thread_count):
            threads.start(name, self._work)

    @property
    def waiting(self) -> int:
        """Number of jobs that wait for a thread, those of callers who have gone included."""
        return sum(map(len, self._jobs))

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

        self._taken += 1
        with self._changed:
            if not bulk:
                self._interactive.came()
            self._jobs[bulk].append(job)
            self._changed.notify()
        try:
            return await answer
        finally:
            work.clear()
            self._taken -= 1

    def check(self) -> None:
        """Raise Draining or QueueFull if no job is taken now."""
        if self._closed:
            raise Draining("the server is shutting down")
        if self._taken >= self.max_jobs:
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
            while not (interactive or (bulk and self._may_run_bulk())):
                if self._closed and not bulk:
                    return False
                self._changed.wait()
            is_bulk = not interactive
            job = self._jobs[is_bulk].popleft()
            self._running_bulk += is_bulk
        job()
        if is_bulk:
            with self._changed:
                self._running_bulk -= 1
                self._changed.notify_all()  # this one may have been what others waited for
        return True

    def _may_run_bulk(self) -> bool:
        return self._interactive.admit_bulk(self._running_bulk, self._thread_count)
