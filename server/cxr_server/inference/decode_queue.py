"""Decode queue: requests that wait for a decode thread or are with one. Part of the scheduler."""

import threading

from cxr_server.inference.bulk_turns import BulkTurns
from cxr_server.inference.fair_queue import FairQueue
from cxr_server.inference.pending import PendingRequest
from cxr_server.inference.ready_queue import ReadyQueue
from cxr_server.interactive_calls import InteractiveCalls


class DecodeQueue:
    """Callers take turns; bulk requests have theirs. All but `__init__` needs the lock.

    At most `max_ahead` images are decoded or `ready` at once: the rest waits as compressed bytes,
    where dropping it costs nothing and callers still take turns. Bulk keeps no other back.
    """

    def __init__(
        self,
        lock: threading.Lock,
        ready: ReadyQueue,
        *,
        thread_count: int,
        max_ahead: int,
        interactive: InteractiveCalls,
    ) -> None:
        self.decoding = 0
        self.changed = threading.Condition(lock)
        self._waiting: FairQueue[PendingRequest] = FairQueue()
        self._ready = ready
        self._max_ahead = max_ahead
        self._turns = BulkTurns(interactive, self.changed, thread_count)
        self._closed = False

    def __len__(self) -> int:
        return len(self._waiting)

    def push(self, caller: str, request: PendingRequest) -> None:
        """Append a request to the caller's queue."""
        self._waiting.push(caller, request, bulk=request.bulk)
        self.changed.notify()

    def discard(self, caller: str, request: PendingRequest) -> bool:
        """Remove a request if it waits. Returns whether it did."""
        return self._waiting.discard(caller, request, bulk=request.bulk)

    def begin(self) -> tuple[PendingRequest, float] | None:
        """Wait for a request that may be decoded now; None once closed.

        Return it and the time, for `end`.
        """
        self._turns.wait_for(self._may_begin, lambda: self._waiting.has_bulk)
        if self._closed:
            return None
        request = self._waiting.pop()
        self.decoding += 1
        return request, self._turns.begin() if request.bulk else 0.0

    def end(self, request: PendingRequest, begun_s: float) -> None:
        """Note that a request was decoded, or that this has failed."""
        self.decoding -= 1
        if request.bulk:
            self._turns.end(begun_s)

    def clear(self) -> list[PendingRequest]:
        """Remove and return all that wait."""
        return [self._waiting.pop() for _ in range(len(self._waiting))]

    def close(self) -> None:
        """Let no request begin any more."""
        self._closed = True
        self.changed.notify_all()

    def _may_begin(self) -> bool:
        """Return whether the next request may begin, or nothing comes any more."""
        if self._closed or not self._waiting:
            return self._closed
        if not self._waiting.only_bulk:
            return self.decoding + self._ready.interactive_count < self._max_ahead
        if self.decoding + len(self._ready) >= self._max_ahead:
            return False
        return self._turns.may_begin()
