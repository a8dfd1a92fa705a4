"""Fork server: a process of one thread with the decoders loaded. It forks the workers.

Forking the server itself would copy its threads' locks in any state; starting an interpreter for
each worker would take longer than decoding. The fork server knows three messages, which are packets
of its socket:

    first     the codecs and preprocessings that are registered, pickled
    FORK      with the worker's socket, the write end of a pipe for its state, and its arena
    KILL pid  a worker

To the pipe it writes the process id, or minus the errno if it cannot fork, and once the worker has
ended, its exit code. Only it reaps its workers, so that no signal ever reaches another process of
the same id.

It ends when its socket is closed, and ends its workers before. If it is killed, the kernel does.
"""

import gc
import os
import pickle
import select
import signal
import socket
import struct
import sys
import traceback
from contextlib import suppress

import imagecodecs
import numpy as np

from cxr_server.imaging.codecs import CODECS
from cxr_server.inference.decode_processes import worker
from cxr_server.inference.resize import resize_operator

STATE = struct.Struct("<i")
FORK, KILL = b"fork", b"kill "
MAX_BYTES = 2**16
_DECODERS = ("png_decode", "jpeg8_decode", "jpegls_decode", "jpeg2k_decode", "packbits_decode")
_IGNORED = (signal.SIGINT, signal.SIGTERM, signal.SIGHUP, signal.SIGQUIT)
"""Signals that a terminal or a service manager sends to every process of a server, which decides
itself when it needs its workers no longer."""


def main(socket_fd: int) -> None:
    """Serve until the socket is closed."""
    for number in _IGNORED:
        signal.signal(number, signal.SIG_IGN)
    with socket.socket(fileno=socket_fd) as control:
        if registries := control.recv(MAX_BYTES):
            _load(registries)
            _serve(control)


def _load(registries: bytes) -> None:
    """Take over the server's codecs, and load what is loaded at its first use otherwise."""
    codecs, _ = pickle.loads(registries)  # imports the modules of both
    CODECS.clear()
    CODECS.update(codecs)
    for name in _DECODERS:
        getattr(imagecodecs, name)
    resize_operator(256, 224).resize(np.ones((256, 256), np.uint8))
    gc.collect()
    gc.freeze()  # the collector would write to, and so copy, the memory of all objects


def _serve(control: socket.socket) -> None:
    woken, wake = os.pipe2(os.O_NONBLOCK | os.O_CLOEXEC)
    signal.set_wakeup_fd(wake)
    signal.signal(signal.SIGCHLD, lambda *_: None)
    states: dict[int, int] = {}  # process id -> its pipe
    poll = select.poll()  # not select(), whose descriptors end at 1023: the server may have more
    poll.register(control, select.POLLIN)
    poll.register(woken, select.POLLIN)
    while True:
        readable = [fd for fd, _ in poll.poll()]
        if woken in readable:
            os.read(woken, MAX_BYTES)
            _reap(states)
        if control.fileno() not in readable:
            continue
        message, fds, _, _ = socket.recv_fds(control, MAX_BYTES, 3)
        if not message:
            for pid in states:
                os.kill(pid, signal.SIGKILL)
            _reap(states, wait=True)
            return
        if message.startswith(KILL):
            if (pid := int(message.removeprefix(KILL))) in states:
                os.kill(pid, signal.SIGKILL)
            continue
        channel_fd, state_fd, arena_fd = fds
        server_pid = os.getpid()
        try:
            pid = os.fork()
        except OSError as error:
            _tell(state_fd, -(error.errno or 1))
            os.close(state_fd)
        else:
            if pid == 0:
                control.close()
                for fd in (woken, wake, state_fd, *states.values()):
                    os.close(fd)
                _become_worker(channel_fd, arena_fd, server_pid)
            states[pid] = state_fd
            _tell(state_fd, pid)
        os.close(channel_fd)
        os.close(arena_fd)


def _become_worker(channel_fd: int, arena_fd: int, server_pid: int) -> None:
    """Run a worker in this process, and end it."""
    status = 1
    try:
        signal.set_wakeup_fd(-1)
        signal.signal(signal.SIGCHLD, signal.SIG_DFL)
        with socket.socket(fileno=channel_fd) as channel:
            worker.run(channel, arena_fd, server_pid)
        status = 0
    except (ConnectionError, BrokenPipeError):  # the server has gone
        status = 0
    except BaseException:
        traceback.print_exc(file=sys.stderr)
    finally:
        os._exit(status)


def _reap(states: dict[int, int], *, wait: bool = False) -> None:
    """Report the workers that have ended. `wait`: until all have."""
    with suppress(ChildProcessError):
        while True:
            pid, status = os.waitpid(-1, 0 if wait else os.WNOHANG)
            if not pid:
                return
            if (state_fd := states.pop(pid, None)) is not None:
                _tell(state_fd, os.waitstatus_to_exitcode(status))
                os.close(state_fd)


def _tell(state_fd: int, value: int) -> None:
    with suppress(BrokenPipeError):  # nobody wants to know
        os.write(state_fd, STATE.pack(value))
