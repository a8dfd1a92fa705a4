"""Steps: the operations that `calls` asks a client to perform, and their outcomes. Next: calls."""

import time
from collections.abc import Generator, Sequence
from dataclasses import dataclass, field
from typing import Any, TypeVar

from google.protobuf.message import Message

from cxr_client.config import check_timeout
from cxr_client.failures import FailedCall
from cxr_client.images import ImageSource


@dataclass(frozen=True, slots=True)
class Read:
    """Read an image. Outcome: its bytes, at most `max_bytes` + 1."""

    image: ImageSource = field(repr=False)
    max_bytes: int


@dataclass(frozen=True, slots=True)
class Connect:
    """Try to connect. Outcome: whether it is connected; None where it takes longer."""

    seconds: float


@dataclass(frozen=True, slots=True)
class Send:
    """Send a request. Outcome: a `Reply`, or the error of gRPC."""

    rpc: str
    request: Message = field(repr=False)
    timeout_s: float
    metadata: tuple[tuple[str, str], ...] = field(repr=False)


@dataclass(frozen=True, slots=True)
class Pause:
    """Wait. Outcome: none."""

    seconds: float


@dataclass(frozen=True, slots=True)
class Reply:
    """A reply and its trailing metadata."""

    message: Any = field(repr=False)
    trailing_metadata: Sequence[tuple[str, str | bytes]]


Step = Read | Connect | Send | Pause
Outcome = bytes | bool | Reply | FailedCall | None
T = TypeVar("T")
Steps = Generator[Step, Any, T]


@dataclass(frozen=True, slots=True)
class Deadline:
    """The deadline of a call over all attempts and pauses."""

    timeout_s: float
    end_s: float

    @classmethod
    def after(cls, timeout_s: float) -> "Deadline":
        """Return the deadline in `timeout_s` seconds."""
        return cls(check_timeout(timeout_s), time.monotonic() + timeout_s)

    @property
    def left_s(self) -> float:
        """The remaining time in seconds; negative after the deadline."""
        return self.end_s - time.monotonic()
