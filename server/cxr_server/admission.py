"""Admission: bounds on the calls and request bytes in flight."""

import re
from collections.abc import Callable, Iterator
from contextlib import contextmanager

from cxr_server.errors import MemoryFull, QueueFull

DECLARED_BYTES = "x-request-bytes"
"""Metadata key in which a client may declare the size of its message before sending it."""


class Admission:
    """Counts the calls and bytes in flight, from before a call's body is read.

    Args:
        max_calls: Most calls in flight, those being uploaded included.
        max_bytes: Most request bytes in flight. Where no size is declared, only bytes that have
            arrived count.
        retry_after_ms: Delay after which a refused call is worth retrying.

    Attributes:
        calls: Calls in flight.
        held_bytes: Request bytes in flight.
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
        """Hold a slot while the block runs. Raises QueueFull or MemoryFull."""
        if self.calls >= self._max_calls:
            raise QueueFull(
                f"all {self._max_calls} slots for calls in flight are taken",
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
        """Take bytes from the budget. Raises MemoryFull, but never for the only call."""
        if more_bytes > 0 and self.calls > 1 and self.held_bytes + more_bytes > self._max_bytes:
            raise MemoryFull(
                "the request bytes in flight have reached the most that this server holds",
                retry_after_ms=self._retry_after_ms(),
            )
        self.held_bytes += more_bytes


class Slot:
    """One call's share of the bytes in flight."""

    def __init__(self, admission: Admission) -> None:
        self.held_bytes = 0
        self._admission = admission

    def hold(self, total_bytes: int) -> None:
        """Replace the declared size by a known one. Raises MemoryFull."""
        self._admission.claim(total_bytes - self.held_bytes)
        self.held_bytes = total_bytes


def declared_bytes(value: str, limit: int) -> int:
    """Return the size that a caller declared, at most `limit`; 0 if it is absent or no number."""
    return min(int(value), limit) if re.fullmatch(r"[0-9]{1,12}", value) else 0
