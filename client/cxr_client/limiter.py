"""Limiter: queue times in the server's answers -> how many calls may be in flight. Next: many."""

import asyncio
from typing import Self

from cxr_client.answer import Timing

_FIRST = 4
_SHRINK = 0.7  # after a refusal
_LONG_QUEUE = 2.0  # queue time / processing time


class Limiter:
    """Keeps as many calls in flight as the server answers without long queueing, and no more.

    Each answer states how long its call was queued. The limit grows by about one per round of
    answers whose time in the queue was shorter than their processing time. It falls if the queue
    time was more than twice as long, and at once on a refusal.
    """

    def __init__(self, most: int, *, first: int = _FIRST) -> None:
        """Allow `first` calls, and at `most` that many."""
        self._most = most
        self._limit = float(min(first, most))
        self._in_flight = 0
        self._refused_at = 0
        self._ended = 0
        self._changed = asyncio.Condition()

    @property
    def limit(self) -> int:
        """How many calls may be in flight now, at least 1."""
        return int(self._limit)

    def answered(self, timing: Timing) -> None:
        """Note an answer."""
        wait_ms = timing.queue_ms or 0.0
        work_ms = (timing.decode_ms or 0.0) + (timing.inference_ms or 0.0)
        in_use = 2 * self._in_flight > self._limit
        if wait_ms <= work_ms and in_use:
            self._limit = min(self._most, self._limit + 1 / self._limit)
        elif wait_ms > _LONG_QUEUE * work_ms:
            self._limit = max(1.0, self._limit - 1 / self._limit)

    def refused(self) -> None:
        """Note a refusal for load; those of calls that were sent before the last one count once."""
        if self._ended >= self._refused_at:
            self._limit = max(1.0, self._limit * _SHRINK)
            self._refused_at = self._ended + self._in_flight

    async def __aenter__(self) -> Self:
        async with self._changed:
            await self._changed.wait_for(lambda: self._in_flight < self.limit)
            self._in_flight += 1
        return self

    async def __aexit__(self, *_: object) -> None:
        self._in_flight -= 1
        self._ended += 1
        async with self._changed:
            self._changed.notify(max(1, self.limit - self._in_flight))
