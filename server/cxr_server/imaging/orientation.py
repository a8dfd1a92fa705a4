"""Orientation: what EXIF says about it, and how to undo it. Used by png, jpeg and codecs."""

import struct
from contextlib import suppress
from typing import cast

import numpy as np

from cxr_server.imaging.radiograph import Pixels

_ORIENTATION_TAG, _SHORT_TYPE = 0x0112, 3


def exif_orientation(exif: bytes) -> int:
    """Return the orientation, 1 to 8, in an EXIF block; 1 if it has none or is broken.

    The block begins with the TIFF header, without JPEG's "Exif" and zeros. Only the first image
    file directory is read (TIFF 6.0, section 2; EXIF 2.32, tag 0x0112): a full EXIF parser would
    be a large target for hostile files.
    """
    order = {b"II*\x00": "<", b"MM\x00*": ">"}.get(exif[:4])
    if order is None:
        return 1
    with suppress(struct.error):
        (directory,) = struct.unpack_from(order + "I", exif, 4)
        (entry_count,) = struct.unpack_from(order + "H", exif, directory)
        for index in range(entry_count):
            entry = directory + 2 + 12 * index
            tag, kind, count, value = struct.unpack_from(order + "HHIH", exif, entry)
            if tag == _ORIENTATION_TAG:
                valid = kind == _SHORT_TYPE and count == 1 and 1 <= value <= 8
                return int(value) if valid else 1
    return 1


def upright(pixels_hw: Pixels, orientation: int) -> Pixels:
    """Undo an EXIF orientation of 1 to 8; the result is C-contiguous."""
    if orientation in (5, 6, 7, 8):
        pixels_hw = pixels_hw.T
    if orientation in (3, 4, 7, 8):
        pixels_hw = pixels_hw[::-1]
    if orientation in (2, 3, 6, 7):
        pixels_hw = pixels_hw[:, ::-1]
    return cast(Pixels, np.ascontiguousarray(pixels_hw))
