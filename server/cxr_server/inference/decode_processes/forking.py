"""Forking: the fork server, as the server sees it."""

import os
import pickle
import socket
import subprocess
import sys
import threading
import time
from contextlib import suppress

from cxr_server.errors import OperatorError
from cxr_server.imaging.codecs import CODECS
from cxr_server.inference.decode_processes.fork_server import FORK, KILL
from cxr_server.inference.preprocess import PREPROCESSINGS

START_TIMEOUT_S = 120.0  # of an interpreter that loads the decoders, on a busy machine
ANSWER_TIMEOUT_S = 30.0  # of one that has started: a fork takes milliseconds
END_TIMEOUT_S = 5.0
_PROGRAM = """\
import sys
sys.path = {path!r}
from cxr_server.inference.decode_processes.fork_server import main
main({fd})
"""


class DecodeProcessesUnavailable(OperatorError):
    """No process that decodes can be started."""


class ForkServer:
    """Starts the fork server, which knows what is registered now. Does not wait.

    Raises DecodeProcessesUnavailable.
    """

    def __init__(self) -> None:
        try:
            registries = pickle.dumps((CODECS, PREPROCESSINGS))
        except (pickle.PicklingError, AttributeError, TypeError) as error:
            raise DecodeProcessesUnavailable(
                f"what is registered cannot be imported: {error}"
            ) from error
        self._lock = threading.Lock()
        self._asked_s: float | None = None  # when the oldest request without an answer was sent
        self._timeout_s = START_TIMEOUT_S
        try:
            self._control, theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
        except OSError as error:
            raise DecodeProcessesUnavailable(f"cannot start a process: {error}") from error
        with theirs:
            program = _PROGRAM.format(path=sys.path, fd=theirs.fileno())
            try:
                self._process = subprocess.Popen(
                    [sys.executable, "-c", program],
                    stdin=subprocess.DEVNULL,
                    stdout=subprocess.DEVNULL,
                    # Requests share the cores already, so numpy needs no threads of its own.
                    env=os.environ | {"OPENBLAS_NUM_THREADS": "1"},
                    pass_fds=[theirs.fileno()],
                    start_new_session=True,  # a terminal's Ctrl-C is for the server alone
                )
            except OSError as error:
                self._control.close()
                raise DecodeProcessesUnavailable(f"cannot start a process: {error}") from error
        self._control.send(registries)
        self._control.setblocking(False)  # it may be stopped: nobody waits to be heard

    @property
    def pid(self) -> int:
        """Process id."""
        return self._process.pid

    @property
    def has_ended(self) -> bool:
        """Whether it has ended, or has not answered for so long that it never may."""
        return self._process.poll() is not None or self._is_stuck

    @property
    def _is_stuck(self) -> bool:
        asked_s = self._asked_s
        return asked_s is not None and time.monotonic() > asked_s + self._timeout_s

    def fork(self, channel_fd: int, state_fd: int, arena_fd: int) -> None:
        """Have a worker forked. What comes of it is written to `state_fd`, unless this ends."""
        with self._lock, suppress(OSError):
            self._asked_s = self._asked_s or time.monotonic()
            socket.send_fds(self._control, [FORK], [channel_fd, state_fd, arena_fd])

    def answered(self) -> None:
        """Note that it has forked a worker."""
        self._asked_s, self._timeout_s = None, ANSWER_TIMEOUT_S

    def kill(self, pid: int) -> None:
        """Have a worker killed, if it has not ended."""
        with self._lock, suppress(OSError):
            self._control.send(KILL + str(pid).encode())

    def close(self) -> None:
        """End it, and its workers."""
        with self._lock:
            self._control.close()
        if self._is_stuck:
            self._process.kill()
        try:
            self._process.wait(END_TIMEOUT_S)
        except subprocess.TimeoutExpired:
            self._process.kill()
            self._process.wait()
