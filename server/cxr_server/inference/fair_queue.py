"""Fair queue: interactive before bulk, round robin between callers. Part of the scheduler."""

from collections import OrderedDict
from typing import Generic, TypeVar

T = TypeVar("T")


class FairQueue(Generic[T]):
    """First in, first out within one caller and priority; round robin between callers.

    A caller with a hundred images waiting delays another caller's first image by one turn,
    not by a hundred. Bulk items wait until no other item does. Every operation is O(1). Items must
    be hashable and distinct.
    """

    def __init__(self) -> None:
        self._interactive, self._bulk = _Round[T](), _Round[T]()

    def __len__(self) -> int:
        return self._interactive.size + self._bulk.size

    @property
    def only_bulk(self) -> bool:
        """Whether no interactive item waits."""
        return not self._interactive.size

    @property
    def has_bulk(self) -> bool:
        """Whether a bulk item waits."""
        return self._bulk.size > 0

    def push(self, caller: str, item: T, *, bulk: bool = False) -> None:
        """Append an item to the caller's queue."""
        self._round(bulk).push(caller, item)

    def pop(self) -> T:
        """Remove and return the first item of the next caller. Raises KeyError if empty."""
        return self._round(self.only_bulk).pop()

    def discard(self, caller: str, item: T, *, bulk: bool = False) -> bool:
        """Remove an item if it is present. Returns whether it was."""
        return self._round(bulk).discard(caller, item)

    def _round(self, bulk: bool) -> "_Round[T]":
        return self._bulk if bulk else self._interactive


class _Round(Generic[T]):
    """The callers of one priority, in the order of their next turns."""

    def __init__(self) -> None:
        self._queues: OrderedDict[str, OrderedDict[T, None]] = OrderedDict()
        self.size = 0

    def push(self, caller: str, item: T) -> None:
        self._queues.setdefault(caller, OrderedDict())[item] = None
        self.size += 1

    def pop(self) -> T:
        caller, queue = self._queues.popitem(last=False)
        item, _ = queue.popitem(last=False)
        if queue:
            self._queues[caller] = queue  # at the end of the round
        self.size -= 1
        return item

    def discard(self, caller: str, item: T) -> bool:
        queue = self._queues.get(caller, OrderedDict())
        if item not in queue:
            return False
        del queue[item]
        if not queue:
            del self._queues[caller]
        self.size -= 1
        return True
