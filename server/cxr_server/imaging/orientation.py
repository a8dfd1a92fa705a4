"""Orientation: where files keep it, and how an image is turned upright.

Cameras and editors state it as EXIF's tag 0x0112, as `tiff:Orientation` in an XMP packet, or as an
EXIF block in hexadecimal text, as ImageMagick does in PNG. As in Pillow, XMP counts only without
EXIF's tag. The few bytes are read here: parsers of EXIF and XML would be large targets for hostile
files.
"""

import re
import struct
from contextlib import suppress
from typing import cast

import numpy as np

from cxr_server.imaging.radiograph import Pixels

MAX_XMP_BYTES = 65_536
"""Bytes of an XMP packet that are searched: all that a JPEG segment holds."""

_EXIF_PREFIX = b"Exif\0\0"
_TAG = 0x0112
_VALUE_FORMATS = {1: "B", 3: "H", 4: "I"}  # BYTE, SHORT and LONG; readers have to accept each
_XMP = re.compile(rb"""tiff:Orientation(?:\s*=\s*["']|>\s*)([1-8])""")


def exif_orientation(block: bytes | memoryview) -> int | None:
    """Return the orientation that an EXIF block states: 1 to 8, or 1 if it states another value.

    None if the block is broken or has no such tag. JPEG's prefix "Exif" may precede the block. Only
    the first image file directory is read (TIFF 6.0, section 2).
    """
    block = memoryview(block)
    if block[:6] == _EXIF_PREFIX:
        block = block[6:]
    order = {b"II*\x00": "<", b"MM\x00*": ">"}.get(bytes(block[:4]))
    if order is None:
        return None
    with suppress(struct.error):
        (directory,) = struct.unpack_from(order + "I", block, 4)
        (entry_count,) = struct.unpack_from(order + "H", block, directory)
        start = directory + 2
        entry_count = min(entry_count, (len(block) - start) // 12)
        words = np.frombuffer(block, order + "u2", 6 * entry_count, start).reshape(-1, 6)
        for index in np.flatnonzero(words[:, 0] == _TAG)[:1]:
            entry = start + 12 * int(index)
            kind, count = struct.unpack_from(order + "HI", block, entry + 2)
            if count != 1 or kind not in _VALUE_FORMATS:
                return 1
            (value,) = struct.unpack_from(order + _VALUE_FORMATS[kind], block, entry + 8)
            return int(value) if 1 <= value <= 8 else 1
    return None


def hexadecimal_exif_orientation(text: bytes | memoryview) -> int | None:
    """Return what ImageMagick's "Raw profile" states, as `exif_orientation`.

    The text is a line break, the name of the profile, its length and its bytes in hexadecimal.
    """
    with suppress(ValueError, IndexError):
        return exif_orientation(bytes.fromhex(bytes(text).split(b"\n", 3)[3].decode("ascii")))
    return None


def xmp_orientation(packet: bytes | memoryview) -> int | None:
    """Return the orientation in the first `MAX_XMP_BYTES` of an XMP packet, or None."""
    found = _XMP.search(packet[:MAX_XMP_BYTES])
    return int(found[1]) if found else None


def upright(pixels_hw: Pixels, orientation: int) -> Pixels:
    """Undo an orientation of 1 to 8; the result is C-contiguous."""
    if orientation >= 5:
        pixels_hw = pixels_hw.T
    row_step = -1 if orientation in (3, 4, 7, 8) else 1
    column_step = -1 if orientation in (2, 3, 6, 7) else 1
    return cast(Pixels, np.ascontiguousarray(pixels_hw[::row_step, ::column_step]))
