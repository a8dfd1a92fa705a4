"""Admission: how many calls and bytes the server holds at once, and who is turned away."""

import re
from collections.abc import Callable, Iterator
from contextlib import contextmanager

from cxr_server.errors import MemoryFull, QueueFull

DECLARED_BYTES = "x-request-bytes"
"""Metadata key in which a client may say how large its message is, before sending it."""


class Admission:
    """Bounds on calls and bytes in flight, kept before a call's body is read.

    Args:
        max_calls: Most calls held at once, those being uploaded included.
        max_bytes: Most request bytes held at once. Where a caller declared no size, only
            the bytes that have arrived count.
        retry_after_ms: When a refused call is worth repeating.
    """

    def __init__(
        self, *, max_calls: int, max_bytes: int, retry_after_ms: Callable[[], int]
    ) -> None:
        self.calls = 0
        self.held_bytes = 0
        self._max_calls = max_calls
        self._max_bytes = max_bytes
        self._retry_after_ms = retry_after_ms

    @contextmanager
    def slot(self, declared_bytes: int) -> Iterator["Slot"]:
        """Hold a place while the block runs. Raises QueueFull or MemoryFull at once."""
        if self.calls >= self._max_calls:
            raise QueueFull(
                "as many calls as the server takes are in flight",
                retry_after_ms=self._retry_after_ms(),
            )
        slot = Slot(self)
        self.calls += 1
        try:
            slot.hold(declared_bytes)
            yield slot
        finally:
            self.calls -= 1
            self.held_bytes -= slot.held_bytes

    def claim(self, more_bytes: int) -> None:
        """Take bytes from the budget. Raises MemoryFull; a lone call always fits."""
        if more_bytes > 0 and self.calls > 1 and self.held_bytes + more_bytes > self._max_bytes:
            raise MemoryFull(
                "as many request bytes as the server holds are in flight",
                retry_after_ms=self._retry_after_ms(),
            )
        self.held_bytes += more_bytes


class Slot:
    """One call's share of the bytes held."""

    def __init__(self, admission: Admission) -> None:
        self.held_bytes = 0
        self._admission = admission

    def hold(self, total_bytes: int) -> None:
        """Correct the share to what is known now. Raises MemoryFull."""
        self._admission.claim(total_bytes - self.held_bytes)
        self.held_bytes = total_bytes


def declared_bytes(value: str, limit: int) -> int:
    """The size a caller declared, at most `limit`; 0 for none or nonsense."""
    return min(int(value), limit) if re.fullmatch(r"[0-9]{1,12}", value) else 0
