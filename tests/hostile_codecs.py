"""A codec whose decoder does what its file says: crash, hang, or take all memory.

It is registered as any codec is, and the processes that decode import this module.
"""

import ctypes
import os
import signal
import stat
import time
from collections.abc import Callable

import numpy as np

from cxr_server.imaging.radiograph import Decoded, DecodeOptions, Header, ImageBytes

MARK = b"HOSTILE "
SIDE_PX = 64
LARGE_SIDE_PX = 2500
DECODE_BYTES = 12 * 2**20  # what the header says that decoding takes: more than `SMALL_BYTES`


def hostile(deed: str) -> bytes:
    """A file whose decoder does this, before it delivers a grey image."""
    return MARK + deed.encode()


def allocate_slowly() -> None:
    kept = []
    while True:
        kept.append(np.ones(2**20, np.uint8))


def spin() -> None:
    while True:
        pass


def lie() -> None:
    """Write what is no message to every socket."""
    for fd in range(3, 64):
        try:
            if stat.S_ISSOCK(os.fstat(fd).st_mode):
                os.write(fd, b"\xc1 no message")
        except OSError:
            continue
    time.sleep(3600)


def fail() -> None:
    raise KeyError("a fault of the codec")


DEEDS: dict[str, Callable[[], object]] = {
    "nothing": lambda: None,
    "abort": os.abort,
    "segfault": lambda: ctypes.string_at(0),
    "exit": lambda: os._exit(0),
    "end by a signal without a name": lambda: os.kill(os.getpid(), signal.SIGRTMIN + 2),
    "sleep": lambda: time.sleep(3600),
    "nap": lambda: time.sleep(0.2),
    "long nap": lambda: time.sleep(2),
    "large image after a nap": lambda: time.sleep(0.2),
    "spin": spin,
    "allocate 8 GB": lambda: np.ones(2**33, np.uint8),
    "allocate slowly": allocate_slowly,
    "allocate 100 MB": lambda: np.ones(100 * 2**20, np.uint8),
    "lie": lie,
    "fail": fail,
}


class HostileCodec:
    """Reads those files; see `Codec`."""

    name, needs = "PNG", "nothing"

    def why_not(self) -> str | None:
        return None

    def sniff(self, head: bytes) -> bool:
        return head.startswith(MARK)

    def read_header(self, data: ImageBytes) -> Header:
        deed = bytes(data).removeprefix(MARK).decode()
        if deed == "abort in the header":
            os.abort()
        side_px = LARGE_SIDE_PX if deed.startswith("large") else SIDE_PX
        return Header(side_px, side_px, 8, 1, pixel_data=deed, decode_bytes=DECODE_BYTES)

    def decode(self, header: Header, options: DecodeOptions) -> Decoded:
        DEEDS[header.pixel_data]()
        return Decoded(np.full((header.height_px, header.width_px), 99, np.uint8))
