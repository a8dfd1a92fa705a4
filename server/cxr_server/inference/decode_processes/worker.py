"""Worker: the process that decodes. It ends with its socket, with the fork server, or by a limit.

Its memory is limited to what it had at its start and `WORKER_BYTES`, and while an image is decoded
to the bytes that the server holds for it: `SMALL_BYTES`, or what its header says that this takes,
if that is more. The image file is decoded where it lies, in the arena.
"""

import ctypes
import os
import resource
import signal
import socket
import traceback
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

import msgspec

from cxr_server.errors import ImageError
from cxr_server.inference import allocator
from cxr_server.inference.decode_processes.arena import Arena
from cxr_server.inference.decode_processes.messages import (
    GRANTED,
    MAX_MESSAGE_BYTES,
    MAX_TRACE_CHARACTERS,
    Made,
    OutOfMemory,
    Raised,
    Refused,
    Reply,
    Takes,
    Task,
)
from cxr_server.inference.decode_processes.sizes import SMALL_BYTES, WORKER_BYTES
from cxr_server.inference.model_input import ModelInput
from cxr_server.inference.preprocess import preprocess
from cxr_server.observability.thread_name import name_this_thread

OOM_SCORE_ADJ = "500"  # where memory runs out all the same, the kernel ends workers first
_PR_SET_PDEATHSIG = 1


def run(channel: socket.socket, arena_fd: int, fork_server_pid: int) -> None:
    """Work on the tasks that arrive, until the server closes the socket."""
    libc = ctypes.CDLL(None)
    name_this_thread("cxr-decode")  # as `top` and logs of the kernel show the process
    libc.prctl(_PR_SET_PDEATHSIG, signal.SIGKILL)
    if os.getppid() != fork_server_pid:  # it has ended before
        return
    # A core dump would hold an image. 1, not 0: the kernel then calls no dump program either.
    resource.setrlimit(resource.RLIMIT_CORE, (1, 1))
    with suppress(OSError):
        Path("/proc/self/oom_score_adj").write_text(OOM_SCORE_ADJ)
    allocator.keep_freed_memory(trim_mib=24)
    arena = Arena(arena_fd)
    os.close(arena_fd)
    limit = MemoryLimit()
    while data := channel.recv(MAX_MESSAGE_BYTES):
        task = Task.unpacked(data)
        limit.allow(SMALL_BYTES)
        reply = _work(task, channel, arena, limit)
        limit.allow(0)
        channel.send(msgspec.msgpack.encode(reply))


class MemoryLimit:
    """The limit on the address space, above what is mapped when it is created."""

    def __init__(self) -> None:
        pages = int(Path("/proc/self/statm").read_text().split()[0])
        self._start_bytes = pages * resource.getpagesize() + WORKER_BYTES
        _, self._most_bytes = resource.getrlimit(resource.RLIMIT_AS)

    def allow(self, more_bytes: int) -> None:
        """Set the limit to the start plus `WORKER_BYTES` plus this."""
        wanted_bytes = self._start_bytes + more_bytes
        if self._most_bytes != resource.RLIM_INFINITY:
            wanted_bytes = min(wanted_bytes, self._most_bytes)
        resource.setrlimit(resource.RLIMIT_AS, (wanted_bytes, self._most_bytes))


class _Withdrawn(Exception):
    """Nobody waits for the image any more."""


def _work(task: Task, channel: socket.socket, arena: Arena, limit: MemoryLimit) -> Reply:
    @contextmanager
    def hold(decode_bytes: int, beside_bytes: int) -> Iterator[None]:
        if decode_bytes + beside_bytes <= SMALL_BYTES:
            yield
            return
        limit.allow(0)
        channel.send(msgspec.msgpack.encode(Takes(decode_bytes, beside_bytes)))
        data = channel.recv(MAX_MESSAGE_BYTES)
        if not data:
            os._exit(0)  # the server has ended
        if data != GRANTED:
            raise _Withdrawn
        limit.allow(decode_bytes + beside_bytes)
        yield

    try:
        with arena.file(task.file_bytes) as image:
            made = preprocess(image, task.job, hold=hold, check=lambda: None)
        _put(made, arena)
        return Made(made.facts, made.warnings)
    except ImageError as error:
        return Refused(error.reason, error.message)
    except MemoryError:
        return OutOfMemory()
    except BaseException:  # a library of Rust raises such
        return Raised(traceback.format_exc()[-MAX_TRACE_CHARACTERS:])


def _put(made: ModelInput, arena: Arena) -> None:
    whole = () if made.whole_hw is None else (made.whole_hw,)
    arena.put(made.image_chw, made.picture_hw, *whole)
