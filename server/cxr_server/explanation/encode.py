"""Encode: RGB pixels -> PNG file, time over size. Used by render.

Pillow tries five filters on every row, which takes as long as its compression. Here every row is
stored as its difference to the one above (PNG's filter 2), and compressed by Intel's ISA-L in a
quarter of zlib's time: the file is as large, and ready in an eighth of Pillow's.
"""

import struct

import numpy as np
from isal.isal_zlib import compress, crc32
from numpy.typing import NDArray

from cxr_server.imaging.png import SIGNATURE

_UP = 2
_LEVEL = 1
"""ISA-L's fastest but one; the next ones cost more time than the few percent are worth."""


def encode_png(rgb_hwc: NDArray[np.uint8]) -> bytes:
    """Return an RGB picture, uint8 [height, width, 3], as a PNG file."""
    height, width, _ = rgb_hwc.shape
    rows = rgb_hwc.reshape(height, 3 * width)
    filtered = np.empty((height, 1 + 3 * width), dtype=np.uint8)
    filtered[:, 0] = _UP
    filtered[0, 1:] = rows[0]
    np.subtract(rows[1:], rows[:-1], out=filtered[1:, 1:])
    header = struct.pack(">IIBBBBB", width, height, 8, 2, 0, 0, 0)
    return b"".join(
        (
            SIGNATURE,
            _chunk(b"IHDR", header),
            _chunk(b"IDAT", compress(filtered, _LEVEL)),
            _chunk(b"IEND", b""),
        )
    )


def _chunk(kind: bytes, payload: bytes) -> bytes:
    checksum = crc32(payload, crc32(kind))
    return b"".join((struct.pack(">I", len(payload)), kind, payload, struct.pack(">I", checksum)))
