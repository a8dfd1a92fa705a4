"""Messages: what server and worker say to each other, one packet of a Unix socket each.

server -> worker   Task, then Grant
worker -> server   Takes, then Made, Refused, Raised or OutOfMemory; the last three also at once
"""

import pickle
from dataclasses import dataclass
from typing import TypeAlias

import msgspec

from cxr_server.errors import ImageError
from cxr_server.imaging.radiograph import InputWarning
from cxr_server.inference.model_input import ImageFacts
from cxr_server.inference.preprocess import Job

MAX_MESSAGE_BYTES = 2**16
MAX_TRACE_CHARACTERS = 8192


@dataclass(frozen=True, slots=True)
class Task:
    """An image file to preprocess, which lies in the arena."""

    job: Job
    file_bytes: int


@dataclass(frozen=True, slots=True)
class Grant:
    """Whether the worker may take the memory that it has asked for."""

    granted: bool


class Takes(msgspec.Struct, tag=True, frozen=True):
    """What decoding takes at most, as `Hold` wants to know it."""

    decode_bytes: int
    beside_bytes: int


class Made(msgspec.Struct, tag=True, frozen=True):
    """A `ModelInput`, whose arrays lie in the arena: input, picture and, if asked for, whole."""

    facts: ImageFacts
    warnings: tuple[InputWarning, ...]


class Refused(msgspec.Struct, tag=True, frozen=True):
    """An `ImageError`."""

    reason: str
    message: str

    def error(self) -> ImageError:
        """Return it. Raises ValueError for an unknown reason."""
        for kind in ImageError.__subclasses__():
            if kind.reason == self.reason:
                return kind(self.message)
        raise ValueError(f"no image error has the reason {self.reason[:64]!r}")


class Raised(msgspec.Struct, tag=True, frozen=True):
    """Another exception, as text."""

    trace: str


class OutOfMemory(msgspec.Struct, tag=True, frozen=True):
    """The limit was reached."""


Reply: TypeAlias = Takes | Made | Refused | Raised | OutOfMemory
_replies: msgspec.msgpack.Decoder[Reply] = msgspec.msgpack.Decoder(Reply)


def to_worker(message: Task | Grant) -> bytes:
    """Encode. The worker trusts the server: tasks may hold any class that both can import."""
    return pickle.dumps(message)


def from_worker(data: bytes) -> Reply:
    """Decode. Raises msgspec.DecodeError: the worker may be in the hands of a hostile image."""
    return _replies.decode(data)
