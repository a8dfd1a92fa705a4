"""Log lines: a bounded queue, and a thread that writes it to a file descriptor."""

import os
import select
import threading
from collections.abc import Callable
from queue import SimpleQueue

from cxr_server.observability.thread_name import name_this_thread

MAX_QUEUED_BYTES = 2**20


class LogLines:
    """Writes lines to a file descriptor without ever waiting for it.

    A line is dropped, and counted in `dropped`, while `MAX_QUEUED_BYTES` wait to be written, or if
    the descriptor refuses it: its reader has gone, the disk is full, or it is closed. Once lines
    are written again and none waits, the line that `notice` makes of the number of new losses is
    written as well.

    `put` may be called by destructors and signal handlers, even while the same thread is in `put`.
    """

    def __init__(self, descriptor: int, notice: Callable[[int], str]) -> None:
        self.dropped = 0
        self._descriptor = descriptor
        self._notice = notice
        self._told = 0  # of the lines dropped, those that a notice has told of
        self._torn = False  # the last line was written in part
        self._queued_bytes = 0
        self._lock = threading.RLock()
        self._queue: SimpleQueue[bytes | threading.Event] = SimpleQueue()
        threading.Thread(target=self._work, name="log", daemon=True).start()

    def put(self, line: str) -> None:
        """Queue a line, or drop it. Does not block."""
        data = line.encode("utf-8", "backslashreplace") + b"\n"
        with self._lock:
            if self._queued_bytes + len(data) > MAX_QUEUED_BYTES:
                self.dropped += 1
                return
            self._queued_bytes += len(data)
        self._queue.put(data)

    def flush(self, timeout_s: float) -> None:
        """Wait until the lines so far are written or dropped, for at most `timeout_s`."""
        reached = threading.Event()
        self._queue.put(reached)
        reached.wait(timeout_s)

    def _work(self) -> None:
        name_this_thread("cxr-log")
        while True:
            item = self._queue.get()
            if isinstance(item, threading.Event):
                item.set()
                continue
            written = self._write(item)
            with self._lock:
                self._queued_bytes -= len(item)
                self.dropped += not written
                lost = self.dropped - self._told
            if written and lost and not self._queued_bytes:
                self._told += lost
                self._write(self._notice(lost).encode() + b"\n")

    def _write(self, data: bytes) -> bool:
        """Write a line whole. Returns False if the descriptor refused it."""
        rest = b"\n" + data if self._torn else data
        try:
            while rest:
                try:
                    written = os.write(self._descriptor, rest)
                    self._torn = written < len(rest)
                    rest = rest[written:]
                except BlockingIOError:  # another process has made the shared pipe non-blocking
                    writable = select.poll()
                    writable.register(self._descriptor, select.POLLOUT)
                    writable.poll()
        except OSError:
            return False
        return True
