"""Forking: the fork server, as the server sees it."""

import os
import pickle
import socket
import subprocess
import sys
import threading
from contextlib import ExitStack, suppress

from cxr_server.errors import OperatorError
from cxr_server.imaging.codecs import CODECS
from cxr_server.inference.decode_processes.fork_server import FORK, KILL
from cxr_server.inference.preprocess import PREPROCESSINGS

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
        with ExitStack() as opened:
            try:
                self._control, theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
                opened.enter_context(self._control)
                with theirs:
                    self._process = _start(theirs.fileno())
            except OSError as error:
                raise DecodeProcessesUnavailable(f"cannot start a process: {error}") from error
            opened.pop_all()
        with suppress(OSError):  # it has ended: the first fork tells
            self._control.send(registries)

    @property
    def pid(self) -> int:
        """Process id."""
        return self._process.pid

    @property
    def has_ended(self) -> bool:
        """Whether it has ended."""
        return self._process.poll() is not None

    def fork(self, channel_fd: int, state_fd: int, arena_fd: int) -> None:
        """Have a worker forked. What comes of it is written to `state_fd`, unless this ends."""
        with self._lock, suppress(OSError):
            socket.send_fds(self._control, [FORK], [channel_fd, state_fd, arena_fd])

    def kill(self, pid: int) -> None:
        """Have a worker killed, if it has not ended."""
        with self._lock, suppress(OSError):
            self._control.send(KILL + str(pid).encode())

    def close(self) -> None:
        """End it, and its workers."""
        with self._lock:
            self._control.close()
        try:
            self._process.wait(END_TIMEOUT_S)
        except subprocess.TimeoutExpired:
            self._process.kill()
            self._process.wait()


def _start(socket_fd: int) -> subprocess.Popen[bytes]:
    program = _PROGRAM.format(path=sys.path, fd=socket_fd)
    return subprocess.Popen(
        [sys.executable, "-c", program],
        stdin=subprocess.DEVNULL,
        stdout=subprocess.DEVNULL,
        # Requests share the cores already, so numpy needs no threads of its own.
        env=os.environ | {"OPENBLAS_NUM_THREADS": "1"},
        pass_fds=[socket_fd],
        start_new_session=True,  # a terminal's Ctrl-C is for the server alone
    )
