"""Admission: bounds on the calls and request bytes in flight."""

import asyncio
import re
from collections import Counter
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from typing import NamedTuple

from cxr_server.budget import ByteBudget
from cxr_server.errors import MemoryFull, QueueFull
from cxr_server.interactive_calls import InteractiveCalls

DECLARED_BYTES = "x-request-bytes"
"""Metadata key in which a client may declare the size of its message before sending it."""
_SIZE = re.compile(r"[0-9]{1,12}")
HURRIED_UPLOAD_S = 3.0
"""Time that an upload of unknown size has while another one waits for it."""


class Upload(NamedTuple):
    """A request of unknown size that is being received; times are those of the event loop."""

    limit: asyncio.Timeout  # for when it is hurried
    start_s: float


@dataclass(slots=True, kw_only=True)
class Admission:
    """Bounds the calls and request bytes in flight, from before a call's body is read.

    A call can declare at most `max_request_bytes`. Calls that declare nothing count when their
    bytes have arrived, and are received a few at a time: as many as fit `undeclared` if each is of
    the largest size. While one of them waits, the oldest upload has `HURRIED_UPLOAD_S` to arrive:
    callers that send nothing do not keep others out. `most_calls` returns the bound on calls, which
    may change, and `retry_after_ms` when a refused call is worth retrying.

    Bulk calls take half of the slots and of the bytes at most, and each caller an equal part of
    that: the rest is free for callers who wait for an answer. `interactive` are the calls of those,
    which the interceptor counts.
    """

    most_calls: Callable[[], int]
    max_bytes: int
    max_request_bytes: int
    retry_after_ms: Callable[[], int]
    interactive: InteractiveCalls = field(default_factory=InteractiveCalls)
    calls: int = field(default=0, init=False)
    asked: int = field(default=0, init=False)  # number of calls ever, those refused included
    held_bytes: int = field(default=0, init=False)
    bulk_calls: Counter[str] = field(default_factory=Counter, init=False)  # by caller
    bulk_bytes: int = field(default=0, init=False)
    undeclared: ByteBudget = field(init=False)
    uploads: dict["Slot", Upload] = field(default_factory=dict, init=False)
    waiting: int = field(default=0, init=False)  # number of uploads of unknown size

    def __post_init__(self) -> None:
        self.undeclared = ByteBudget(undeclared_bytes(self.max_bytes, self.max_request_bytes))

    @property
    def max_calls(self) -> int:
        """The most calls in flight."""
        return self.most_calls()

    @property
    def max_bulk_calls(self) -> int:
        """The most bulk calls of all callers."""
        return most_bulk_calls(self.max_calls)

    def enter(self, declared: str, *, bulk_caller: str | None = None) -> "Slot":
        """Return a slot that holds the bytes which the caller declared; it must be released.

        `bulk_caller` names the caller of a bulk call. Raises QueueFull, and MemoryFull as
        `Slot.hold` does.
        """
        self.asked += 1
        if self.calls >= self.max_calls:
            raise QueueFull(
                f"all {self.max_calls} slots for calls in flight are taken",
                retry_after_ms=self.retry_after_ms(),
            )
        if bulk_caller is not None:
            self._check_bulk(bulk_caller)
        slot = Slot(self, bulk_caller)
        try:
            if _SIZE.fullmatch(declared):
                slot.is_declared = True
                slot.hold(min(int(declared), self.max_request_bytes))
        except MemoryFull:
            slot.release()
            raise
        return slot

    def _check_bulk(self, caller: str) -> None:
        """Raise QueueFull if a caller has its part of the slots for bulk calls."""
        callers = len(self.bulk_calls.keys() | {caller})
        part = max(1, self.max_bulk_calls // callers)
        if self.bulk_calls[caller] >= part or self.bulk_calls.total() >= self.max_bulk_calls:
            raise QueueFull(
                f"the slots for bulk calls are taken; this caller may have {part} of them",
                retry_after_ms=self.retry_after_ms(),
            )

    def hurry(self) -> None:
        """Bring forward the end of the oldest uploads of unknown size, as many as others wait."""
        now_s = asyncio.get_running_loop().time()
        for slot, upload in list(self.uploads.items())[: self.waiting]:
            if not (slot.is_hurried or upload.limit.expired()):
                slot.is_hurried = True
                end_s = max(now_s, upload.start_s + HURRIED_UPLOAD_S)
                upload.limit.reschedule(end_s)


class Slot:
    """The place of one call in flight, and the bytes of its request."""

    def __init__(self, admission: Admission, bulk_caller: str | None = None) -> None:
        self._admission = admission
        self._bulk_caller = bulk_caller
        self._held_bytes = 0
        self.is_declared = False
        self.is_hurried = False
        admission.calls += 1
        if bulk_caller is not None:
            admission.bulk_calls[bulk_caller] += 1

    @asynccontextmanager
    async def receiving(self) -> AsyncIterator[None]:
        """Receive a request of unknown size in this block, which waits if it may be too much now.

        Raises TimeoutError if others wait and it still takes too long; see `Admission.hurry`.
        """
        admission = self._admission
        wanted_bytes, undeclared = admission.max_request_bytes, admission.undeclared
        is_full = undeclared.held_bytes + wanted_bytes > undeclared.limit_bytes
        admission.waiting += is_full
        admission.hurry()
        try:
            share = await undeclared.take(wanted_bytes)
        finally:
            admission.waiting -= is_full
        try:
            async with asyncio.timeout(None) as limit:
                admission.uploads[self] = Upload(limit, asyncio.get_running_loop().time())
                admission.hurry()
                yield
        finally:
            admission.uploads.pop(self, None)
            share.release()

    def slow_upload(self) -> MemoryFull:
        """Return the error of an upload that was hurried, and took too long."""
        return MemoryFull(
            "others wait to send a request of unknown size: send faster, or declare the size in "
            f"{DECLARED_BYTES}",
            retry_after_ms=self._admission.retry_after_ms(),
        )

    def hold(self, total_bytes: int) -> None:
        """Replace the bytes held so far. Raises MemoryFull, but never for the only call."""
        admission, more_bytes = self._admission, total_bytes - self._held_bytes
        is_bulk = self._bulk_caller is not None
        is_above = admission.held_bytes + more_bytes > admission.max_bytes and admission.calls > 1
        if is_bulk and admission.bulk_calls.total() > 1:
            is_above |= admission.bulk_bytes + more_bytes > admission.max_bytes // 2
        if more_bytes > 0 and is_above:
            raise MemoryFull(
                "the request bytes in flight have reached the most that this server holds",
                retry_after_ms=admission.retry_after_ms(),
            )
        admission.held_bytes += more_bytes
        admission.bulk_bytes += more_bytes if is_bulk else 0
        self._held_bytes = total_bytes

    def release(self) -> None:
        """Give back the place and the bytes. To be called once."""
        admission, caller = self._admission, self._bulk_caller
        self.hold(0)
        admission.calls -= 1
        if caller is not None:
            admission.bulk_calls[caller] -= 1
            admission.bulk_calls += Counter()  # forgets callers that have none


def most_bulk_calls(max_calls: int) -> int:
    """Return how many of the calls in flight may be bulk calls."""
    return max(1, max_calls // 2)


def undeclared_bytes(max_bytes: int, max_request_bytes: int) -> int:
    """Return the bytes for requests of unknown size that are being received."""
    return max(max_bytes // 2, max_request_bytes)
