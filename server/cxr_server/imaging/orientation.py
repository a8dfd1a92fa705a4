"""Orientation: where files keep it, and how an image is turned upright.

Cameras and editors state it as EXIF's tag 0x0112, as `tiff:Orientation` in an XMP packet, or as an
EXIF block in hexadecimal text, as ImageMagick does in PNG. As in Pillow, XMP counts only without
EXIF's tag. The few bytes are read here, and in exif: parsers of XML would be large targets, too.
"""

import re
from contextlib import suppress
from typing import cast

import numpy as np

from cxr_server.imaging.exif import exif_orientation
from cxr_server.imaging.radiograph import Pixels

MAX_XMP_BYTES = 65_536
"""Bytes of an XMP packet that are searched: all that a JPEG segment holds."""

_XMP = re.compile(rb"""tiff:Orientation(?:\s*=\s*["']|>\s*)([1-8])""")


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
