"""Log lines: a bounded queue, and a thread that writes it to a file descriptor."""

import os
import select
import threading
from collections import deque
from collections.abc import Callable, Sequence
from contextlib import suppress
from queue import Empty, SimpleQueue

from cxr_server.observability.thread_name import name_this_thread

MAX_QUEUED_BYTES = 2**20
PAUSE_S = 0.02
"""Between two looks while lines come: waking the thread for each costs the one that logs 0.1 ms,
since both need the GIL."""


class LogLines:
    """Writes lines to a file descriptor without ever waiting for it.

    A line is dropped, and counted in `dropped`, while `MAX_QUEUED_BYTES` wait to be written, or if
    the descriptor refuses it: its reader has gone, the disk is full, or it is closed. Once lines
    are written again and none waits, the line that `notice` makes of the number of new losses is
    written as well.

    The first line after a pause is written at once, those that follow within `PAUSE_S`.

    `put` may be called by destructors and signal handlers, even while the same thread is in `put`.
    """

    def __init__(self, descriptor: int, notice: Callable[[int], str]) -> None:
        self.dropped = 0
        self._descriptor = descriptor
        self._notice = notice
        self._told = 0  # of the lines dropped, those that a notice has told of
        self._torn = False  # the last line was written in part
        self._queue: deque[bytes] = deque()
        self._queued_bytes = 0  # those that are being written included
        self._idle = True  # the thread waits to be woken
        self._lock = threading.RLock()  # guards the queue
        self._wake: SimpleQueue[threading.Event | None] = SimpleQueue()
        threading.Thread(target=self._work, name="log", daemon=True).start()

    def put(self, line: str) -> None:
        """Queue a line, or drop it. Does not block."""
        data = line.encode("utf-8", "backslashreplace") + b"\n"
        with self._lock:
            if self._queued_bytes + len(data) > MAX_QUEUED_BYTES:
                self.dropped += 1
                return
            self._queued_bytes += len(data)
            self._queue.append(data)
            was_idle, self._idle = self._idle, False
        if was_idle:
            self._wake.put(None)

    def flush(self, timeout_s: float) -> None:
        """Wait until the lines so far are written or dropped, for at most `timeout_s`."""
        reached = threading.Event()
        self._wake.put(reached)
        reached.wait(timeout_s)

    def _work(self) -> None:
        name_this_thread("cxr-log")
        pause_s = None
        while True:
            reached = None
            with suppress(Empty):
                reached = self._wake.get(timeout=pause_s)
            pause_s = PAUSE_S if self._write_queue() else None
            if reached:
                reached.set()

    def _write_queue(self) -> bool:
        """Write what waits. Returns False if nothing did, so that `put` has to wake the thread."""
        wrote = False
        while lines := self._next_lines():
            refused = self._write(lines)
            with self._lock:
                self._queued_bytes -= sum(map(len, lines))
                self.dropped += refused
                lost = self.dropped - self._told
            if refused < len(lines) and lost and not self._queued_bytes:
                self._told += lost
                self._write([self._notice(lost).encode() + b"\n"])
            wrote = True
        with self._lock:
            self._idle = not (wrote or self._queue)
            return not self._idle

    def _next_lines(self) -> list[bytes]:
        """Take lines that a pipe takes at once, and does not mix with those of others."""
        lines: list[bytes] = []
        left_bytes = select.PIPE_BUF
        with self._lock:
            while self._queue and (not lines or len(self._queue[0]) <= left_bytes):
                lines.append(self._queue.popleft())
                left_bytes -= len(lines[-1])
        return lines

    def _write(self, lines: Sequence[bytes]) -> int:
        """Write lines whole. Returns how many of them, the last ones, the descriptor refused."""
        rest = b"\n" * self._torn + b"".join(lines)
        with suppress(OSError):
            while rest:
                try:
                    rest = rest[os.write(self._descriptor, rest) :]
                except BlockingIOError:  # another process has made the shared pipe non-blocking
                    writable = select.poll()
                    writable.register(self._descriptor, select.POLLOUT)
                    writable.poll()
        refused, beyond_bytes = 0, len(rest)
        while beyond_bytes > 0 and refused < len(lines):
            refused += 1
            beyond_bytes -= len(lines[-refused])
        self._torn = beyond_bytes != 0
        return refused
