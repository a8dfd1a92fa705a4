"""Messages: what server and worker say to each other, one packet of a Unix socket each.

server -> worker   Task, then GRANTED or WITHDRAWN if it is asked
worker -> server   Takes, if that is more than `SMALL_BYTES`, then Made; or Refused, Raised or
                   OutOfMemory
"""

import pickle
import struct
from functools import lru_cache
from typing import NamedTuple, TypeAlias

import msgspec

from cxr_server.errors import ImageError
from cxr_server.imaging.radiograph import InputWarning
from cxr_server.inference.model_input import ImageFacts
from cxr_server.inference.preprocess import Job

MAX_MESSAGE_BYTES = 2**16
MAX_TRACE_CHARACTERS = 8192


GRANTED, WITHDRAWN = b"granted", b"withdrawn"
"""Whether the worker may take the memory that it has asked for, or nobody waits any more."""
_FILE_BYTES = struct.Struct("<Q")
_KEPT_JOBS = 64  # most calls ask for the same


class Task(NamedTuple):
    """An image file to preprocess, which lies in the arena."""

    job: Job
    file_bytes: int

    def packed(self) -> bytes:
        """Encode. The worker trusts the server: a job may hold any class that both can import."""
        return _FILE_BYTES.pack(self.file_bytes) + _pickled(self.job)

    @classmethod
    def unpacked(cls, data: bytes) -> "Task":
        """Decode."""
        (file_bytes,) = _FILE_BYTES.unpack_from(data)
        return cls(_unpickled(data[_FILE_BYTES.size :]), file_bytes)


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


def from_worker(data: bytes) -> Reply:
    """Decode. Raises msgspec.DecodeError: the worker may be in the hands of a hostile image."""
    return _replies.decode(data)


@lru_cache(_KEPT_JOBS)
def _pickled(job: Job) -> bytes:
    return pickle.dumps(job)


@lru_cache(_KEPT_JOBS)
def _unpickled(data: bytes) -> Job:
    job: Job = pickle.loads(data)
    return job
