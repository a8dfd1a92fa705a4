"""Decode queue: a model's requests that wait for a decode thread. Part of the scheduler."""

import threading
from collections.abc import Callable

from cxr_server.inference.fair_queue import FairQueue
from cxr_server.inference.pending import Decoded, PendingRequest
from cxr_server.inference.ready_queue import ReadyQueue


class DecodeQueue:
    """Callers take turns. All but `__init__` needs the lock of `changed`, which is notified.

    At most `max_ahead` images are decoded or `ready` at once: the rest waits as compressed bytes,
    where dropping it costs nothing and callers still take turns. Bulk keeps no other back. What is
    decoded is given to `decoded`, which returns the outcome of a request that ends there.
    """

    def __init__(
        self,
        changed: threading.Condition,
        ready: ReadyQueue,
        decoded: Callable[[PendingRequest, Decoded], Decoded],
        *,
        max_ahead: int,
    ) -> None:
        self.decoding = 0
        self._changed = changed
        self._waiting: FairQueue[PendingRequest] = FairQueue()
        self._ready = ready
        self._decoded = decoded
        self._max_ahead = max_ahead

    def __len__(self) -> int:
        return len(self._waiting)

    @property
    def has_bulk(self) -> bool:
        """Whether a bulk request waits."""
        return self._waiting.has_bulk

    def push(self, caller: str, request: PendingRequest) -> None:
        """Append a request to the caller's queue."""
        self._waiting.push(caller, request, bulk=request.bulk)
        self._changed.notify()

    def discard(self, caller: str, request: PendingRequest) -> bool:
        """Remove a request if it waits. Returns whether it did."""
        return self._waiting.discard(caller, request, bulk=request.bulk)

    def may_begin(self, *, bulk: bool) -> bool:
        """Return whether a request of this priority is the next one and has room ahead."""
        if not self._waiting or self._waiting.only_bulk is not bulk:
            return False
        ready = len(self._ready) if bulk else self._ready.interactive_count
        return self.decoding + ready < self._max_ahead

    def begin(self) -> PendingRequest:
        """Remove and return the next request, which is decoded now."""
        self.decoding += 1
        return self._waiting.pop()

    def end(self, request: PendingRequest, outcome: Decoded) -> Decoded:
        """Note what decoding a request has led to. Return what completes it, if anything does."""
        self.decoding -= 1
        return self._decoded(request, outcome)

    def has_room(self) -> None:
        """Let a thread look again: an image that was ready has gone."""
        self._changed.notify()

    def clear(self) -> list[PendingRequest]:
        """Remove and return all that wait."""
        return [self._waiting.pop() for _ in range(len(self._waiting))]
