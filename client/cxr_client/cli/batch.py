"""Batch: jobs -> outcomes, with bounded concurrency, in the order of the jobs. Next: run."""

import asyncio
from collections import deque
from collections.abc import AsyncGenerator, Awaitable, Callable, Sequence
from typing import TypeVar

from cxr_client.cli.files import Job

T = TypeVar("T")
DEFAULT_JOBS = 4
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
