"""Decode threads: they decode what the schedulers of all models let them."""

import threading
from collections import OrderedDict

from cxr_server.inference import threads
from cxr_server.inference.bulk_turns import BulkTurns
from cxr_server.inference.decode_queue import DecodeQueue
from cxr_server.interactive_calls import InteractiveCalls


class DecodeThreads:
    """`count` threads for the queues of all models, which take turns. Bulk requests have theirs.

    A thread takes its next request from any queue, under one lock. It is the lock of all schedulers
    as well, so that no thread holds two.
    """

    def __init__(self, count: int, interactive: InteractiveCalls) -> None:
        self.count = count
        self.busy = 0  # threads that decode an image
        self.lock = threading.Lock()  # guards all but `count`
        self.changed = threading.Condition(self.lock)
        # The queues in the order of their next turns, for each priority; the second: bulk.
        self._rounds: tuple[OrderedDict[DecodeQueue, None], ...] = OrderedDict(), OrderedDict()
        self._turns = BulkTurns(interactive, self.changed, count)
        self._closed = False
        try:
            for _ in range(count):
                threads.start("decode", self._run)
        except RuntimeError:  # a limit on threads: end those that have started
            self.close()
            raise

    def serve(self, queue: DecodeQueue) -> None:
        """Take requests from a queue, too."""
        with self.lock:
            for each in self._rounds:
                each[queue] = None

    def leave(self, queue: DecodeQueue) -> None:
        """Take no more requests from a queue."""
        with self.lock:
            for each in self._rounds:
                each.pop(queue, None)

    def close(self) -> None:
        """End the threads once they have decoded what they work on. Does not wait."""
        with self.lock:
            self._closed = True
            self.changed.notify_all()

    def _run(self) -> None:
        while self._decode_next():  # its locals end with it: an idle thread holds no image
            pass

    def _decode_next(self) -> bool:
        """Wait for a request and decode it. Returns False once closed."""
        with self.lock:
            self._turns.wait_for(self._may_begin, self._has_bulk)
            queue = self._next_queue()
            if self._closed or queue is None:
                return not self._closed
            request = queue.begin()
            self._rounds[request.bulk].move_to_end(queue)
            begun_s = self._turns.begin() if request.bulk else 0.0
            self.busy += 1
        outcome = request.decode()
        with self.lock:
            self.busy -= 1
            if request.bulk:
                self._turns.end(begun_s)
            outcome = queue.end(request, outcome)
        if outcome is not None:
            request.complete_soon(outcome)
        return True

    def _may_begin(self) -> bool:
        """Return whether a request may begin, or nothing comes any more."""
        return self._closed or self._next_queue() is not None

    def _has_bulk(self) -> bool:
        return any(queue.has_bulk for queue in self._rounds[True])

    def _next_queue(self) -> DecodeQueue | None:
        """Return the queue whose turn it is, if any: interactive requests go first."""
        interactive, bulk = self._rounds
        for queue in interactive:
            if queue.may_begin(bulk=False):
                return queue
        for queue in bulk:
            if queue.may_begin(bulk=True):
                return queue if self._turns.may_begin() else None
        return None
