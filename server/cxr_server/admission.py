"""Admission: bounds on the calls and request bytes in flight."""

import re
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field

from cxr_server.errors import MemoryFull, QueueFull

DECLARED_BYTES = "x-request-bytes"
"""Metadata key in which a client may declare the size of its message before sending it."""


@dataclass(slots=True, kw_only=True)
class Admission:
    """Bounds the calls and request bytes in flight, from before a call's body is read.

    Where no size is declared, only bytes that have arrived count. A call can declare at most
    `max_request_bytes`. `retry_after_ms` returns when a refused call is worth retrying.
    """

    max_calls: int
    max_bytes: int
    max_request_bytes: int
    retry_after_ms: Callable[[], int]
    calls: int = field(default=0, init=False)
    held_bytes: int = field(default=0, init=False)

    @contextmanager
    def slot(self, declared: str) -> Iterator[Callable[[int], None]]:
        """Hold a slot while the block runs, and the bytes that the caller declared.

        Yields a function that replaces the declared size by the known one. Both raise MemoryFull,
        but never for the only call, and the slot raises QueueFull.
        """
        if self.calls >= self.max_calls:
            raise QueueFull(
                f"all {self.max_calls} slots for calls in flight are taken",
                retry_after_ms=self.retry_after_ms(),
            )
        held_bytes = 0

        def hold(total_bytes: int) -> None:
            nonlocal held_bytes
            more_bytes = total_bytes - held_bytes
            if more_bytes > 0 and self.calls > 1 and self.held_bytes + more_bytes > self.max_bytes:
                raise MemoryFull(
                    "the request bytes in flight have reached the most that this server holds",
                    retry_after_ms=self.retry_after_ms(),
                )
            self.held_bytes += more_bytes
            held_bytes = total_bytes

        self.calls += 1
        try:
            if re.fullmatch(r"[0-9]{1,12}", declared):
                hold(min(int(declared), self.max_request_bytes))
            yield hold
        finally:
            self.calls -= 1
            self.held_bytes -= held_bytes
