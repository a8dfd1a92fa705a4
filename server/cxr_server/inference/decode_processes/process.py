"""Process: one worker, as the server sees it."""

import os
import select
import signal
import socket
import time
from collections.abc import Callable
from contextlib import ExitStack, suppress
from enum import StrEnum

import msgspec
import numpy as np

from cxr_server.imaging.radiograph import ImageBytes
from cxr_server.inference.decode_processes import arena
from cxr_server.inference.decode_processes.arena import Arena
from cxr_server.inference.decode_processes.fork_server import STATE
from cxr_server.inference.decode_processes.forking import DecodeProcessesUnavailable, ForkServer
from cxr_server.inference.decode_processes.messages import (
    GRANTED,
    MAX_MESSAGE_BYTES,
    WITHDRAWN,
    Made,
    OutOfMemory,
    Raised,
    Refused,
    Reply,
    Takes,
    Task,
    from_worker,
)
from cxr_server.inference.decode_processes.sizes import SMALL_BYTES
from cxr_server.inference.model_input import ModelInput
from cxr_server.inference.preprocess import Hold, Job

START_TIMEOUT_S = 120.0  # of an interpreter that loads the decoders, on a busy machine
END_TIMEOUT_S = 10.0
CRASH_S = 2.0  # in which the exit code of a process arrives after its socket was closed
CHECK_INTERVAL_S = 0.05
Check = Callable[[], None]


class Cause(StrEnum):
    """Why a process has ended or was ended."""

    CRASHED = "crashed"
    KILLED = "killed"  # by SIGKILL from elsewhere, such as the kernel when memory runs out
    TIME = "time"
    MEMORY = "memory"
    ABANDONED = "abandoned"  # nobody waited for the image any more, and it did not end by itself
    CLOSED = "closed"  # by `DecodeProcesses.close`


class ProcessEnded(Exception):
    """The process has ended before it had an answer."""


class RaisedInProcess(Exception):
    """The decoder raised an exception that stands for no fault of the image; its traceback."""


class DecodeProcess:
    """A worker with its own arena. For one thread at a time.

    Raises DecodeProcessesUnavailable, and what `check` raises, if it does not start.
    """

    def __init__(
        self,
        fork_server: ForkServer,
        *,
        arena_bytes: int,
        time_limit_s: float,
        grace_s: float,
        check: Check,
    ) -> None:
        self.cause: Cause | None = None  # set once it has ended
        self.exit_code: int | None = None  # minus the signal that ended it; None if unknown
        self._is_closing = False
        self._fork_server = fork_server
        self._time_limit_s, self._grace_s = time_limit_s, grace_s
        with ExitStack() as ours:
            try:
                self._open(arena_bytes, ours)
            except OSError as error:  # too few descriptors, or too little memory
                raise _not_started(error.strerror or str(error)) from error
            pid = self._state(START_TIMEOUT_S, check)
            if pid is None:
                fork_server.close()
                raise _not_started("the fork server has ended")
            if pid < 0:
                raise _not_started(os.strerror(-pid))
            self._opened = ours.pop_all()  # closed by `close` from here on
        self.pid = pid

    @property
    def has_ended(self) -> bool:
        """Whether an idle process has ended, or was ended."""
        return self.cause is not None or _readable(self._channel.fileno(), 0)

    def run(
        self, image: ImageBytes, job: Job, hold: Hold, check: Check, meanwhile: Callable[[], object]
    ) -> ModelInput:
        """Preprocess an image. Raises ProcessEnded, RaisedInProcess and as `preprocess`."""
        with ExitStack() as held:
            held.enter_context(hold(SMALL_BYTES, 0))
            is_idle = False
            try:
                self._arena.put_file(image)
                self._send(Task(job, len(image)).packed())
                meanwhile()
                reply = self._reply(check)
                if isinstance(reply, Takes):
                    held.close()
                    try:
                        held.enter_context(hold(reply.decode_bytes, reply.beside_bytes))
                    except BaseException:
                        self._send(WITHDRAWN)
                        raise
                    self._send(GRANTED)
                    reply = self._reply(check)
                is_idle = True
                return self._result(reply, job)
            finally:
                if not is_idle and self.cause is None:
                    self._settle()

    def kill(self) -> None:
        """Kill the process while it works. Any thread may call it."""
        self._is_closing = True
        self._fork_server.kill(self.pid)

    def close(self) -> None:
        """End the process if it has not ended, and release everything."""
        if self.cause is None and self.has_ended:
            self._lost()
        elif self.cause is None:
            self._end(Cause.CLOSED)
        with suppress(ChildProcessError):  # in a container, if the fork server has ended before
            os.waitpid(self.pid, os.WNOHANG)
        self._opened.close()

    def _open(self, arena_bytes: int, ours: ExitStack) -> None:
        """Open what server and worker share, and have the worker forked. Raises OSError."""
        with ExitStack() as theirs:
            self._channel, channel = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
            ours.enter_context(self._channel)
            theirs.enter_context(channel)
            self._channel.settimeout(CHECK_INTERVAL_S)
            self._state_fd, state_fd = os.pipe2(os.O_CLOEXEC)
            ours.callback(os.close, self._state_fd)
            theirs.callback(os.close, state_fd)
            arena_fd = arena.create(arena_bytes)
            theirs.callback(os.close, arena_fd)
            self._arena = Arena(arena_fd)
            ours.callback(self._arena.close)
            self._fork_server.fork(channel.fileno(), state_fd, arena_fd)

    def _send(self, message: bytes) -> None:
        try:
            self._channel.send(message)
        except OSError:
            raise self._lost() from None

    def _reply(self, check: Check) -> Reply:
        """Wait for a message. Raises ProcessEnded, and what `check` raises."""
        until = time.monotonic() + self._time_limit_s
        data = None
        while data is None:
            try:
                data = self._channel.recv(MAX_MESSAGE_BYTES)
            except TimeoutError:  # CHECK_INTERVAL_S have passed
                check()
                if time.monotonic() >= until:
                    raise self._end(Cause.TIME) from None
            except OSError:
                data = b""
        if not data:
            raise self._lost()
        try:
            return from_worker(data)
        except msgspec.DecodeError:  # something has overwritten its memory
            raise self._end(Cause.CRASHED) from None

    def _end(self, cause: Cause) -> ProcessEnded:
        """Kill the process if it still runs, wait until its memory is free, and note the cause."""
        self._fork_server.kill(self.pid)
        with suppress(TimeoutError):
            self.exit_code = self._state(END_TIMEOUT_S)
        self.cause = Cause.CLOSED if self._is_closing else cause
        return ProcessEnded(cause)

    def _lost(self) -> ProcessEnded:
        """Note why the process has closed its socket."""
        _readable(self._state_fd, CRASH_S)  # its own exit code is wanted, not that of a kill
        ended = self._end(Cause.CRASHED)
        if self.cause is Cause.CRASHED and self.exit_code in (None, -signal.SIGKILL):
            self.cause = Cause.KILLED
        return ended

    def _result(self, reply: Reply, job: Job) -> ModelInput:
        if isinstance(reply, Raised):
            raise RaisedInProcess(reply.trace)
        if isinstance(reply, OutOfMemory):
            raise self._end(Cause.MEMORY)
        try:
            if isinstance(reply, Refused):
                raise reply.error()
            if isinstance(reply, Made):
                return self._made(reply, job)
        except (ValueError, OverflowError):  # it says what cannot be
            pass
        raise self._end(Cause.CRASHED)

    def _made(self, reply: Made, job: Job) -> ModelInput:
        side_px, facts = job.side_px, reply.facts
        kinds: list[tuple[type[np.generic], tuple[int, ...]]] = [
            (np.float32, (1, side_px, side_px)),
            (np.uint8, (side_px, side_px)),
        ]
        if job.keep_whole:
            job.limits.check(facts.height_px, facts.width_px)
            kinds.append((np.uint8, (facts.height_px, facts.width_px)))
        image_chw, picture_hw, *whole = self._arena.take(*kinds)
        return ModelInput(image_chw, picture_hw, facts, reply.warnings, *whole)  # type: ignore[arg-type]

    def _settle(self) -> None:
        """Wait a moment for a worker whose answer nobody wants, so that it need not be killed."""
        until = time.monotonic() + self._grace_s
        with suppress(OSError, msgspec.DecodeError):
            while _readable(self._channel.fileno(), max(0.0, until - time.monotonic())):
                data = self._channel.recv(MAX_MESSAGE_BYTES)
                if not data:
                    break
                if not isinstance(from_worker(data), Takes):
                    self._arena.trim(self._arena.size_bytes)  # of results that nobody takes
                    return
                self._channel.send(WITHDRAWN)
        self._end(Cause.ABANDONED)

    def _state(self, timeout_s: float, check: Check = lambda: None) -> int | None:
        """Wait for the next word of the fork server; None if it has ended. Raises TimeoutError."""
        until = time.monotonic() + timeout_s
        while not _readable(self._state_fd, CHECK_INTERVAL_S):
            check()
            if time.monotonic() >= until:
                raise TimeoutError("the process did not answer")
        data = os.read(self._state_fd, STATE.size)
        return int(STATE.unpack(data)[0]) if data else None


def _not_started(reason: str) -> DecodeProcessesUnavailable:
    return DecodeProcessesUnavailable(f"no process that decodes was started: {reason}")


def _readable(fd: int, timeout_s: float) -> bool:
    poll = select.poll()
    poll.register(fd, select.POLLIN)
    return bool(poll.poll(1000 * timeout_s))
