"""Batch: jobs -> outcomes, with bounded concurrency, in the order of the jobs. Next: output."""

import asyncio
import contextlib
import sys
import time
from collections import deque
from collections.abc import AsyncGenerator, Awaitable, Callable, Sequence
from typing import TypeVar

from cxr_client.cli.files import Job

T = TypeVar("T")
_AHEAD = 8  # Per worker: how many jobs may be started ahead of one slow job.


async def in_order(
    jobs: Sequence[Job], work: Callable[[Job], Awaitable[T]], at_a_time: int
) -> AsyncGenerator[tuple[Job, T], None]:
    """Yield every job with its outcome; closing the generator cancels the remaining jobs."""
    free = asyncio.Semaphore(at_a_time)

    async def limited(job: Job) -> T:
        async with free:
            return await work(job)

    waiting = iter(jobs)
    running: deque[tuple[Job, asyncio.Task[T]]] = deque()
    try:
        while True:
            while len(running) < at_a_time * _AHEAD and (job := next(waiting, None)):
                running.append((job, asyncio.create_task(limited(job))))
            if not running:
                return
            job, task = running[0]
            outcome = await task
            running.popleft()
            yield job, outcome
    finally:
        for _, task in running:
            task.cancel()
        await asyncio.gather(*(task for _, task in running), return_exceptions=True)


class Progress:
    """A progress line on standard error, shown only on a terminal."""

    def __init__(self, total: int) -> None:
        self._total = total
        self._done = self._failed = 0
        self._start_s = self._drawn_s = time.monotonic()
        self._shown = total > 1 and sys.stderr.isatty()

    def step(self, *, failed: bool) -> None:
        """Count one job; redraw at most ten times a second."""
        self._done += 1
        self._failed += failed
        now_s = time.monotonic()
        if self._shown and now_s - self._drawn_s > 0.1:
            self._drawn_s = now_s
            rate = self._done / (now_s - self._start_s)
            failures = f", {self._failed} failed" if self._failed else ""
            line = f"{self._done}/{self._total} images{failures}, {rate:.1f}/s"
            sys.stderr.write(f"\r\x1b[K{line}")
            sys.stderr.flush()

    def clear(self) -> None:
        """Erase the line, before other output."""
        if self._shown:
            with contextlib.suppress(OSError):
                sys.stderr.write("\r\x1b[K")
                sys.stderr.flush()
