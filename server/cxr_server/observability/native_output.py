"""Native output: what C and C++ libraries write to stderr, as log lines.

gRPC, OpenVINO and CUDA write to file descriptor 2. It is replaced by a pipe that a thread reads,
so that their text has the format of the log, and no library can be blocked by a full stderr.
"""

import faulthandler
import os
import re
import sys
import threading
from typing import TextIO

import structlog

MAX_LINE_CHARS = 4096

_SEVERITY = re.compile(r"([IWEF])\d{4} ")  # the start of a line of Abseil's log, which gRPC uses
_LEVELS = {"I": "info", "W": "warning", "E": "error", "F": "critical"}
log = structlog.get_logger("cxr_server.native")


def take_stderr() -> tuple[int, TextIO]:
    """Replace file descriptor 2, which must be open, by a pipe.

    Returns its former file's descriptor, -1 if there was none when Python started, and the pipe's
    end to read.
    """
    stderr = os.dup(2) if sys.stderr else -1
    read_end, write_end = os.pipe()
    os.set_blocking(write_end, False)  # a writer may hold the GIL, which the reader needs
    os.dup2(write_end, 2)
    os.close(write_end)
    if stderr >= 0:
        faulthandler.enable(_unblocked(stderr))  # nobody reads the pipe after a crash
    return stderr, open(read_end, encoding="utf-8", errors="backslashreplace")


def forward(native: TextIO) -> None:
    """Log each line of the pipe, from a thread."""
    threading.Thread(target=_forward, args=(native,), name="native output", daemon=True).start()


def _forward(native: TextIO) -> None:
    while line := native.readline(MAX_LINE_CHARS):
        if text := line.strip():
            severity = _SEVERITY.match(text)
            level = _LEVELS[severity[1]] if severity else "warning"
            getattr(log, level)("native output", text=text)


def _unblocked(descriptor: int) -> int:
    """Return a descriptor of the same file that does not block, or the same one if there is none.

    Setting O_NONBLOCK on the descriptor itself would change it for other processes too.
    """
    try:
        return os.open(f"/proc/self/fd/{descriptor}", os.O_WRONLY | os.O_APPEND | os.O_NONBLOCK)
    except OSError:  # a socket, or a terminal of another user
        return descriptor
