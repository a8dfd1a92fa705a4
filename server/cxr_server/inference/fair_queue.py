"""Fair queue: callers take turns, whatever each has waiting. Part of schedule."""

from collections import OrderedDict, deque
from typing import Generic, TypeVar

T = TypeVar("T")


class FairQueue(Generic[T]):
    """First in, first out for one caller; round robin between callers.

    A caller with a hundred images waiting delays another caller's first image by one turn,
    not by a hundred. Every operation but `discard` is O(1).
    """

    def __init__(self) -> None:
        self._turns: OrderedDict[str, deque[T]] = OrderedDict()
        self._size = 0

    def __len__(self) -> int:
        """Number of items waiting."""
        return self._size

    def push(self, caller: str, item: T) -> None:
        """Add an item behind the caller's others."""
        self._turns.setdefault(caller, deque()).append(item)
        self._size += 1

    def pop(self) -> T:
        """Take the next item of the caller whose turn it is. Raises IndexError when empty."""
        if not self._turns:
            raise IndexError("pop from an empty queue")
        caller, items = self._turns.popitem(last=False)
        if len(items) > 1:
            self._turns[caller] = items  # to the end of the round
        self._size -= 1
        return items.popleft()

    def discard(self, caller: str, item: T) -> bool:
        """Remove an item where it waits. Returns whether it did. O(the caller's items)."""
        items = self._turns.get(caller)
        if items is None or item not in items:
            return False
        items.remove(item)
        if not items:
            del self._turns[caller]
        self._size -= 1
        return True
