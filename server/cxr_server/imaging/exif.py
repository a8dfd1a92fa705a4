"""EXIF: a block that cameras write -> orientation, and whether it states an exposure.

The few bytes are read here: parsers of EXIF would be large targets for hostile files. Used by
orientation and jpeg.
"""

import struct
from contextlib import suppress
from dataclasses import dataclass

import numpy as np

_PREFIX = b"Exif\0\0"  # in JPEG
_ORIENTATION, _EXIF_DIRECTORY = 0x0112, 0x8769
_EXPOSURE_TIME, _F_NUMBER = 0x829A, 0x829D
_VALUE_FORMATS = {1: "B", 3: "H", 4: "I"}  # BYTE, SHORT and LONG; readers have to accept each


@dataclass(frozen=True, slots=True)
class _Block:
    """A TIFF structure (TIFF 6.0, section 2) and its byte order, as `struct` spells it."""

    data: memoryview
    order: str

    def find(self, tag: int, directory: int) -> int | None:
        """Return the offset of a tag's first entry in a directory, or None. Raises struct.error."""
        (entry_count,) = struct.unpack_from(self.order + "H", self.data, directory)
        start = directory + 2
        entry_count = min(entry_count, (len(self.data) - start) // 12)
        words = np.frombuffer(self.data, self.order + "u2", 6 * entry_count, start).reshape(-1, 6)
        places = np.flatnonzero(words[:, 0] == tag)
        return start + 12 * int(places[0]) if len(places) else None

    def integer(self, entry: int) -> int | None:
        """Return the value of an entry, or None if it is not one integer."""
        kind, count = struct.unpack_from(self.order + "HI", self.data, entry + 2)
        if count != 1 or kind not in _VALUE_FORMATS:
            return None
        return int(struct.unpack_from(self.order + _VALUE_FORMATS[kind], self.data, entry + 8)[0])

    def first_directory(self) -> int:
        """Return the offset of the first directory. Raises struct.error."""
        return int(struct.unpack_from(self.order + "I", self.data, 4)[0])


def exif_orientation(block: bytes | memoryview) -> int | None:
    """Return the orientation that an EXIF block states: 1 to 8, or 1 if it states another value.

    None if the block is broken or has no such tag. JPEG's prefix "Exif" may precede the block. Only
    the first image file directory is read.
    """
    if exif := _opened(block):
        with suppress(struct.error):
            entry = exif.find(_ORIENTATION, exif.first_directory())
            if entry is not None:
                value = exif.integer(entry)
                return value if value and value <= 8 else 1
    return None


def states_exposure(block: bytes | memoryview) -> bool:
    """Tell whether an EXIF block states an exposure time or aperture, as only cameras do."""
    if exif := _opened(block):
        with suppress(struct.error):
            entry = exif.find(_EXIF_DIRECTORY, exif.first_directory())
            directory = None if entry is None else exif.integer(entry)
            if directory is not None:
                tags = _EXPOSURE_TIME, _F_NUMBER
                return any(exif.find(tag, directory) is not None for tag in tags)
    return False


def _opened(block: bytes | memoryview) -> _Block | None:
    data = memoryview(block)
    if data[:6] == _PREFIX:
        data = data[6:]
    order = {b"II*\x00": "<", b"MM\x00*": ">"}.get(bytes(data[:4]))
    return _Block(data, order) if order else None
