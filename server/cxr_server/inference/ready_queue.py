"""Ready queue: decoded images that wait for the engine. Part of the scheduler."""

from collections import OrderedDict

from cxr_server.inference.pending import PendingRequest


class ReadyQueue:
    """First in, first out, but interactive before bulk. Every operation is O(1)."""

    def __init__(self) -> None:
        self._by_bulk: tuple[OrderedDict[PendingRequest, None], ...] = OrderedDict(), OrderedDict()

    def __len__(self) -> int:
        return sum(map(len, self._by_bulk))

    @property
    def interactive_count(self) -> int:
        """How many are not of bulk calls."""
        return len(self._by_bulk[False])

    @property
    def has_bulk(self) -> bool:
        """Whether one is of a bulk call."""
        return bool(self._by_bulk[True])

    def push(self, request: PendingRequest, *, first: bool = False) -> None:
        """Append a request, or put it `first` among those of its priority."""
        queue = self._by_bulk[request.bulk]
        queue[request] = None
        queue.move_to_end(request, last=not first)

    def next_of(self, batch: list[PendingRequest], most: int) -> PendingRequest | None:
        """Remove and return the next request of a batch of `most`; None if the batch is complete.

        An image that was in a failed call goes alone. Bulk images would delay an interactive one in
        the same batch.
        """
        request = next((next(iter(queue)) for queue in self._by_bulk if queue), None)
        if request is None or len(batch) >= most:
            return None
        if batch and (batch[0].failed_once or request.failed_once or request.bulk != batch[0].bulk):
            return None
        self.discard(request)
        return request

    def discard(self, request: PendingRequest) -> None:
        """Remove a request if it is present."""
        self._by_bulk[request.bulk].pop(request, None)

    def clear(self) -> list[PendingRequest]:
        """Remove and return all requests."""
        requests = [request for queue in self._by_bulk for request in queue]
        for queue in self._by_bulk:
            queue.clear()
        return requests
