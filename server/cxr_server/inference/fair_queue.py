"""Fair queue: round robin between callers. Part of the scheduler."""

from collections import OrderedDict
from typing import Generic, TypeVar

T = TypeVar("T")


class FairQueue(Generic[T]):
    """First in, first out within one caller; round robin between callers.

    A caller with a hundred images waiting delays another caller's first image by one turn,
    not by a hundred. Every operation is O(1). Items must be hashable and distinct.
    """

    def __init__(self) -> None:
        self._queues: OrderedDict[str, OrderedDict[T, None]] = OrderedDict()
        self._size = 0

    def __len__(self) -> int:
        return self._size

    def push(self, caller: str, item: T) -> None:
        """Append an item to the caller's queue."""
        self._queues.setdefault(caller, OrderedDict())[item] = None
        self._size += 1

    def pop(self) -> T:
        """Remove and return the first item of the next caller. Raises KeyError if empty."""
        caller, queue = self._queues.popitem(last=False)
        item, _ = queue.popitem(last=False)
        if queue:
            self._queues[caller] = queue  # at the end of the round
        self._size -= 1
        return item

    def discard(self, caller: str, item: T) -> bool:
        """Remove an item if it is present. Returns whether it was."""
        queue = self._queues.get(caller, OrderedDict())
        if item not in queue:
            return False
        del queue[item]
        if not queue:
            del self._queues[caller]
        self._size -= 1
        return True
