"""JPEG: file bytes -> greyscale pixels. Pixels are decoded by libjpeg-turbo, through simplejpeg.

The marker segments are walked here first (ITU-T T.81, annex B), up to the first scan. Only the
segments that make up the pixels reach libjpeg, so that thumbnails, colour profiles and previews
never do. simplejpeg is strict: where libjpeg only warns, and fills what is missing with plain
grey, it fails.
"""

import re
import struct
from collections.abc import Iterator

import numpy as np
import simplejpeg

from cxr_server.errors import ImageFormatUnsupported, ImageUnreadable
from cxr_server.imaging.pixels import exif_orientation, has_color
from cxr_server.imaging.radiograph import Header, InputWarning, Pixels

SIGNATURE = b"\xff\xd8\xff"
MAX_SEGMENT_COUNT = 4_096
"""Far above the segments that encoders write before the pixels (a 16 MiB profile takes 257)."""
MAX_TABLE_BYTES = 65_536
"""Far above the bytes of coding tables that encoders write before the pixels."""
MAX_SCAN_COUNT = 64
"""Maximum scans of a progressive file; encoders write about 10. Each scan costs a pass over the
image, however few bytes it has."""
MAX_SCANNED_PIXEL_COUNT = 1_000_000_000  # maximum pixels times scans of a progressive file

_SOF0, _RST0, _EOI, _SOS, _COM = 0xC0, 0xD0, 0xD9, 0xDA, 0xFE
_APP0, _APP1, _APP2, _APP14, _APP15 = 0xE0, 0xE1, 0xE2, 0xEE, 0xEF
_FRAMES = (0xC0, 0xC1, 0xC2)  # baseline, extended sequential and progressive, all Huffman-coded
_OTHER_FRAMES = {*range(0xC3, 0xD0), 0xDE, 0xF7} - {0xC4, 0xC8}
"""Lossless, hierarchical and arithmetic-coded JPEG, and JPEG-LS."""
_SCAN_PAIR = np.frombuffer(bytes([0xFF, _SOS]), np.uint16)[0]
_SEGMENT_HEAD = re.compile(rb"\xff++...", re.DOTALL)
"""Fill bytes, then marker and length. The possessive quantifier never backtracks."""


class JpegCodec:
    """Reads baseline, extended sequential and progressive JPEG of 8 bits, grey or colour."""

    name = "JPEG"
    needs = "simplejpeg"

    def why_not(self) -> str | None:
        """Return None: simplejpeg is always installed."""
        return None

    def sniff(self, data: bytes) -> bool:
        """Tell whether data begins with JPEG's signature, or is a part of it."""
        return SIGNATURE.startswith(data[: len(SIGNATURE)])

    def read_header(self, data: bytes) -> Header:
        """Read the segments up to the first scan. Raises as `Codec.read_header`."""
        kept: list[bytes | memoryview] = [b"\xff\xd8"]
        table_bytes, orientation = 0, 1
        frame: memoryview | None = None
        for marker, segment in _segments(data):
            payload = segment[4:]
            if marker in _OTHER_FRAMES:
                raise ImageFormatUnsupported("Only baseline and progressive JPEG can be read.")
            if marker in _FRAMES:
                if frame is not None:
                    raise ImageUnreadable("The JPEG file has more than one frame header.")
                frame = payload
            elif marker == _APP1 and bytes(payload[:6]) == b"Exif\0\0":
                orientation = exif_orientation(bytes(payload[6:]))
            elif marker == _APP2 and bytes(payload[:4]) == b"MPF\0":
                raise ImageFormatUnsupported("The JPEG file holds several images; send one.")
            # JFIF's and Adobe's segments tell libjpeg whether colour is RGB or YCbCr.
            if marker in (_APP0, _APP14) or not (_APP0 <= marker <= _APP15 or marker == _COM):
                kept.append(segment)
                table_bytes += len(segment)
                if table_bytes > MAX_TABLE_BYTES and marker != _SOS:
                    raise ImageUnreadable("The JPEG file has too many coding tables.")
        if frame is None:
            raise ImageUnreadable("The JPEG file lacks its frame header.")
        return Header(*_read_frame(frame), 8, orientation, b"".join(kept))

    def decode(self, header: Header) -> tuple[Pixels, tuple[InputWarning, ...]]:
        """Decode the luma. Raises ImageUnreadable."""
        _check_scans(header)
        file = header.pixel_data
        try:
            grey_hwc = simplejpeg.decode_jpeg(file, "GRAY", strict=True)
            _, _, colorspace, _ = simplejpeg.decode_jpeg_header(file)
            if colorspace == "Gray":
                return grey_hwc[..., 0], ()
            # Reduced to the means of the file's 8 x 8 blocks, which need no inverse transform.
            height, width = header.height_px // 8, header.width_px // 8
            rgb_hwc = simplejpeg.decode_jpeg(
                file, "RGB", min_height=height, min_width=width, strict=True
            )
        except ValueError as error:
            raise ImageUnreadable("The pixels of the JPEG file are broken or cut short.") from error
        return grey_hwc[..., 0], (InputWarning.COLOR,) if has_color(rgb_hwc) else ()


def _segments(data: bytes) -> Iterator[tuple[int, memoryview]]:
    """Yield marker and bytes of each segment; the last is the first scan with all that follows."""
    view = memoryview(data)
    offset = 2
    for _ in range(MAX_SEGMENT_COUNT):
        head = _SEGMENT_HEAD.match(data, offset)
        if head is None:
            raise ImageUnreadable("The JPEG file is cut short or broken.")
        start = head.end() - 4
        marker, length = struct.unpack_from(">BH", data, start + 1)
        if marker == _SOS:
            yield marker, view[start:]
            return
        offset = start + 2 + length
        if marker < _SOF0 or _RST0 <= marker <= _EOI or length < 2:
            raise ImageUnreadable("The JPEG file is broken before its pixels.")
        if offset > len(data):
            raise ImageUnreadable("The JPEG file is cut short.")
        yield marker, view[start:offset]
    raise ImageUnreadable(f"The JPEG file has more than {MAX_SEGMENT_COUNT} segments.")


def _read_frame(payload: memoryview) -> tuple[int, int]:
    """Return height and width (T.81, B.2.2)."""
    if len(payload) < 6 or len(payload) != 6 + 3 * payload[5]:
        raise ImageUnreadable("The frame header of the JPEG file is broken.")
    precision, height_px, width_px, component_count = struct.unpack_from(">BHHB", payload)
    if precision != 8:
        raise ImageFormatUnsupported(f"This is a {precision}-bit JPEG; send 8 bits.")
    if component_count not in (1, 3):
        kind = "CMYK" if component_count == 4 else f"{component_count}-component"
        raise ImageFormatUnsupported(f"This is a {kind} JPEG; send greyscale or RGB.")
    if not height_px or not width_px:
        raise ImageUnreadable("The JPEG file states a side of zero.")
    return height_px, width_px


def _check_scans(header: Header) -> None:
    """Bound the work that the scans of a file ask for. Raises ImageUnreadable.

    Inside coded data a 0xFF byte is always followed by a zero or a restart marker (T.81,
    B.1.1.5), so every start-of-scan marker after the first is a real one or broken data.
    """
    file = header.pixel_data
    # As pairs from even and from odd offsets: bytes.count takes four times as long.
    pairs = (np.frombuffer(file, np.uint16, (len(file) - start) // 2, start) for start in (0, 1))
    scan_count = sum(np.count_nonzero(each == _SCAN_PAIR) for each in pairs)
    work = scan_count * header.width_px * header.height_px
    if scan_count > MAX_SCAN_COUNT or (scan_count > 1 and work > MAX_SCANNED_PIXEL_COUNT):
        raise ImageUnreadable("The JPEG file has too many scans for its size.")
