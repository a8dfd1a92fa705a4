"""JPEG: file bytes -> header, and a file of nothing but pixels. Next: decode.

Walks the marker segments (ITU-T T.81, annex B) up to the first scan without decoding anything.
What decoding needs is copied to a new file, so that thumbnails, colour profiles and previews
never reach the decoder.
"""

import re
import struct
from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np

from cxr_server.errors import ImageFormatUnsupported, ImageUnreadable
from cxr_server.imaging.header import exif_orientation

_RST0, _EOI, _SOS, _COM = 0xD0, 0xD9, 0xDA, 0xFE
_APP0, _APP1, _APP2, _APP14, _APP15 = 0xE0, 0xE1, 0xE2, 0xEE, 0xEF
_BASELINE = 0xC0
_FRAMES = (0xC0, 0xC1, 0xC2)
"""Baseline, extended sequential and progressive, all Huffman-coded."""
_UNSUPPORTED_FRAMES = {
    0xC3: "lossless JPEG",
    0xC5: "hierarchical JPEG",
    0xC6: "hierarchical JPEG",
    0xC7: "hierarchical JPEG",
    0xC9: "arithmetic-coded JPEG",
    0xCA: "arithmetic-coded JPEG",
    0xCB: "arithmetic-coded JPEG",
    0xCC: "arithmetic-coded JPEG",
    0xCD: "hierarchical JPEG",
    0xCE: "hierarchical JPEG",
    0xCF: "hierarchical JPEG",
    0xDE: "hierarchical JPEG",
    0xF7: "JPEG-LS",
}
MAX_SEGMENT_COUNT = 4_096
"""More segments before the pixels than any encoder writes (a 16 MiB profile takes 257)."""
MAX_TABLE_BYTES = 65_536
"""More bytes of coding tables before the pixels than any encoder writes."""
MAX_SCAN_COUNT = 64
"""Most scans of a progressive file; encoders write some 10. Each scan costs a pass over the
image, however few bytes it has."""
MAX_SCANNED_PIXEL_COUNT = 1_000_000_000
"""Most pixels times scans of a progressive file."""

_SCAN_PAIR = np.frombuffer(bytes([0xFF, _SOS]), np.uint16)[0]
_FILL = re.compile(rb"\xff+")


@dataclass(frozen=True, slots=True)
class JpegHeader:
    """What the segments before the first scan say.

    Attributes:
        width_px: Width before any turning.
        height_px: Height before any turning.
        component_count: 1 (grey), 3 (colour) or 4 (CMYK).
        adobe: Whether Adobe's segment is there; CMYK values are then stored inverted.
        orientation: EXIF orientation, 1 to 8.
        pixel_file: A JPEG file with the segments that make up the pixels.
    """

    width_px: int
    height_px: int
    component_count: int
    adobe: bool
    orientation: int
    pixel_file: bytes


def read_header(data: bytes) -> JpegHeader:
    """Read a JPEG up to its first scan.

    Raises:
        ImageUnreadable: A segment is cut short, missing or out of order.
        ImageFormatUnsupported: A kind of JPEG that is not read.
    """
    kept: list[bytes | memoryview] = [b"\xff\xd8"]
    table_bytes, orientation, adobe = 0, 1, False
    frame: memoryview | None = None
    for marker, segment in _segments(data):
        payload = segment[4:]
        if marker in _UNSUPPORTED_FRAMES:
            raise ImageFormatUnsupported(
                f"This is a {_UNSUPPORTED_FRAMES[marker]} file; send baseline or progressive."
            )
        if marker in _FRAMES:
            if frame is not None:
                raise ImageUnreadable("The JPEG file has more than one frame header.")
            frame = payload
        elif marker == _APP1 and bytes(payload[:6]) == b"Exif\0\0":
            orientation = exif_orientation(bytes(payload[6:]))
        elif marker == _APP2 and bytes(payload[:4]) == b"MPF\0":
            raise ImageFormatUnsupported("This is a file of several pictures; send one.")
        elif marker == _APP14 and bytes(payload[:5]) == b"Adobe":
            adobe = True
        if marker in (_APP0, _APP14) or not (_APP0 <= marker <= _APP15 or marker == _COM):
            kept.append(segment)
            table_bytes += len(segment)
            if table_bytes > MAX_TABLE_BYTES and marker != _SOS:
                raise ImageUnreadable("The JPEG file has more tables than is read.")
    if frame is None:
        raise ImageUnreadable("The JPEG file lacks its frame header.")
    height_px, width_px, component_count = _frame_header(frame)
    return JpegHeader(width_px, height_px, component_count, adobe, orientation, b"".join(kept))


def check_scans(header: JpegHeader) -> None:
    """Bound the work that the scans of a file ask for.

    Inside coded data a 0xFF byte is always followed by a zero or a restart marker (T.81,
    B.1.1.5), so every start-of-scan marker behind the first one is a real one or broken data.

    Raises:
        ImageUnreadable: There are far more scans than any encoder writes.
    """
    file = header.pixel_file
    # Pair by pair, from even and from odd places: bytes.count takes four times as long.
    pairs = (np.frombuffer(file, np.uint16, (len(file) - start) // 2, start) for start in (0, 1))
    scan_count = sum(np.count_nonzero(each == _SCAN_PAIR) for each in pairs)
    work = scan_count * header.width_px * header.height_px
    if scan_count > MAX_SCAN_COUNT or (scan_count > 1 and work > MAX_SCANNED_PIXEL_COUNT):
        raise ImageUnreadable("The JPEG file has more scans than is read.")


def _segments(data: bytes) -> Iterator[tuple[int, memoryview]]:
    """Yield marker and bytes of each segment; the first scan comes last, with all behind it."""
    view = memoryview(data)
    offset = 2
    for _ in range(MAX_SEGMENT_COUNT):
        fill = _FILL.match(data, offset)
        if fill is None:
            raise ImageUnreadable("The JPEG file is cut short or broken.")
        start = fill.end() - 1
        if start + 4 > len(data):
            raise ImageUnreadable("The JPEG file is cut short.")
        marker, length = struct.unpack_from(">BH", data, start + 1)
        if marker == _SOS:
            yield marker, view[start:]
            return
        offset = start + 2 + length
        if marker < _BASELINE or _RST0 <= marker <= _EOI or length < 2:
            raise ImageUnreadable("The JPEG file is broken before its pixels.")
        if offset > len(data):
            raise ImageUnreadable("The JPEG file is cut short.")
        yield marker, view[start:offset]
    raise ImageUnreadable("The JPEG file has more segments than is read.")


def _frame_header(payload: memoryview) -> tuple[int, int, int]:
    """Return height, width and the number of components (T.81, B.2.2)."""
    if len(payload) < 6 or len(payload) != 6 + 3 * payload[5]:
        raise ImageUnreadable("The frame header of the JPEG file is broken.")
    precision, height_px, width_px, component_count = struct.unpack_from(">BHHB", payload)
    if precision != 8:
        raise ImageFormatUnsupported(f"This is a {precision}-bit JPEG; only 8 bits are read.")
    if component_count not in (1, 3, 4):
        raise ImageFormatUnsupported(
            f"This JPEG has {component_count} components; 1, 3 or 4 are read."
        )
    if not height_px or not width_px:
        raise ImageUnreadable("The JPEG file states a side of zero.")
    return height_px, width_px, component_count
