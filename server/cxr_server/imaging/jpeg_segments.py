"""JPEG segments: markers and lengths, from the first marker to the end of the image."""

import re
from collections.abc import Iterator

from cxr_server.errors import ImageUnreadable

MAX_SEGMENT_COUNT = 4_096
"""Far above the segments that encoders write (a 16 MiB profile takes 257)."""
SEARCHED_BYTES = 2**20
"""Bytes that are searched for a marker at once: that takes up to 7 ms, in which no other thread
runs."""

SOF0, RST0, EOI, SOS, COM = 0xC0, 0xD0, 0xD9, 0xDA, 0xFE
APP0, APP1, APP14, APP15 = 0xE0, 0xE1, 0xEE, 0xEF
_MARKER = re.compile(rb"\xff[^\x00\x01\xd0-\xd7\xff]")
"""A marker, with the last of its fill bytes. Zeros behind 0xFF and markers without a segment (TEM
and restarts) belong to coded data. The pattern begins with a fixed byte: `re` then uses memchr."""


def segments(data: bytes, offset: int) -> Iterator[tuple[int, int, memoryview]]:
    """Yield marker, offset and bytes of each segment up to the end of the image, which is the last.

    What lies between segments is skipped: coded data behind the header of a scan, or stray bytes.
    """
    view = memoryview(data)
    for _ in range(MAX_SEGMENT_COUNT):
        start = _next_marker(data, offset)
        marker, offset = data[start + 1], start + 2
        if marker == EOI:
            yield marker, start, view[start:offset]
            return
        length = int.from_bytes(view[offset : offset + 2])
        offset += length
        if offset > len(data):
            raise ImageUnreadable("The JPEG file is cut short.")
        if marker < SOF0 or RST0 <= marker < EOI or length < 2:
            raise ImageUnreadable("The JPEG file is broken between its segments.")
        yield marker, start, view[start:offset]
    raise ImageUnreadable(f"The JPEG file has more than {MAX_SEGMENT_COUNT} segments.")


def _next_marker(data: bytes, offset: int) -> int:
    """Return the offset of the next marker's 0xFF. Raises ImageUnreadable if there is none."""
    while offset < len(data):
        end = offset + SEARCHED_BYTES
        if found := _MARKER.search(data, offset, end):
            return found.start()
        offset = end - 1 if data[end - 1 : end] == b"\xff" else end
    raise ImageUnreadable("The JPEG file is cut short.")


def is_metadata(marker: int) -> bool:
    """Tell whether segments with this marker are for applications, or comments."""
    return APP0 <= marker <= APP15 or marker == COM


def begins(payload: memoryview, prefix: bytes) -> bool:
    """Tell whether a payload begins with a prefix."""
    return bytes(payload[: len(prefix)]) == prefix
