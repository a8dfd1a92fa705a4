"""Thread names: what `top -H`, debuggers and the kernel's accounting call a thread."""

import ctypes
from contextlib import suppress

_PR_SET_NAME = 15
_MAX_BYTES = 15


def name_this_thread(name: str) -> None:
    """Name the calling thread; its first 15 bytes count. Python does so itself from 3.14 on.

    Threads that it starts, those of native libraries among them, inherit the name.
    """
    with suppress(AttributeError):  # no Linux
        ctypes.CDLL(None).prctl(_PR_SET_NAME, name.encode()[:_MAX_BYTES])
