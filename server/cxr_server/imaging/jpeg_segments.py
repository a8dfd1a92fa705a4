"""JPEG segments: markers and lengths, from the first marker to the end of the image."""

from collections.abc import Iterator

import numpy as np

from cxr_server.errors import ImageUnreadable
from cxr_server.imaging.radiograph import ImageBytes

MAX_SEGMENT_COUNT = 4_096
"""Far above the segments that encoders write (a 16 MiB profile takes 257)."""
FIRST_BYTES, MOST_BYTES = 2**8, 2**17
"""Bytes that are searched for a marker at once. The first are few, so that no file of thousands of
close markers takes a long search for each; the most fit the cache with what is made of them."""

SOF0, RST0, EOI, SOS, COM = 0xC0, 0xD0, 0xD9, 0xDA, 0xFE
APP0, APP1, APP14, APP15 = 0xE0, 0xE1, 0xEE, 0xEF
_TEM = 0x01
_IS_MARKER = np.ones(256, np.bool_)
_IS_MARKER[[0x00, _TEM, *range(RST0, EOI - 1), 0xFF]] = False
"""Whether a byte behind 0xFF makes it a marker with a segment, or EOI. Zeros, TEM and restarts
belong to coded data; another 0xFF makes it a fill byte."""


def segments(data: ImageBytes, offset: int) -> Iterator[tuple[int, int, memoryview]]:
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


def _next_marker(data: ImageBytes, offset: int) -> int:
    """Return the offset of the next marker's 0xFF. Raises ImageUnreadable if there is none."""
    here = data[offset : offset + 2]
    if len(here) == 2 and here[0] == 0xFF and _IS_MARKER[here[1]]:  # no bytes between segments
        return offset
    start, size = offset, FIRST_BYTES
    while start < len(data) - 1:
        count = min(size, len(data) - 1 - start)
        first, second = (np.frombuffer(data, np.uint8, count, start + at) for at in (0, 1))
        found = first == 0xFF
        found &= second > _TEM
        if found.any():
            places = np.flatnonzero(found)
            places = places[_IS_MARKER[second[places]]]
            if places.size:
                return start + int(places[0])
        start, size = start + count, min(16 * size, MOST_BYTES)
    raise ImageUnreadable("The JPEG file is cut short.")


def is_metadata(marker: int) -> bool:
    """Tell whether segments with this marker are for applications, or comments."""
    return APP0 <= marker <= APP15 or marker == COM


def begins(payload: memoryview, prefix: bytes) -> bool:
    """Tell whether a payload begins with a prefix."""
    return bytes(payload[: len(prefix)]) == prefix
