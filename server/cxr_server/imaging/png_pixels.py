"""PNG pixels: compressed rows -> pixels. ISA-L inflates, kornia-rs or libpng undoes the filters.

ISA-L takes less than half of the time of libpng's zlib, and checks the Adler-32 of the rows. The
decoders get them stored, not compressed. For grey of 8 and 16 bits that is kornia-rs, whose filters
are three times as fast as libpng's; it gets a file of nothing else, whose size and checksums are
right. All other kinds, and large images, go to libpng through imagecodecs. Both fail by themselves
if a filter is unknown, libpng also if the header or the palette is invalid.
"""

import logging
import struct
from collections.abc import Iterator
from dataclasses import dataclass
from itertools import chain

import numpy as np
from imagecodecs import PngError, png_decode
from isal.igzip_lib import DECOMP_ZLIB, IgzipDecompressor, IsalError
from isal.isal_zlib import adler32, crc32
from kornia_rs.io import decode_image_png_u8, decode_image_png_u16

from cxr_server.errors import ImageUnreadable
from cxr_server.imaging.radiograph import Pixels

SIGNATURE = b"\x89PNG\r\n\x1a\n"
MAX_LOCKED_BYTES = 2**24
"""Size of the rows up to which kornia-rs decodes. It holds the GIL, 1.2 ms for a MiB."""
MAX_INFLATED_BYTES = 2**26
"""Size of the rows up to which ISA-L inflates: libpng gets all of them at once, and not a row."""

_BLOCK_BYTES = 0xFFFF  # the most that a stored block of deflate holds
_PART_BYTES = 16 * _BLOCK_BYTES  # what is inflated at once
_MOST_INFLATED = 1032
"""The most bytes that a byte of deflate can stand for (zlib, "Technical Details")."""
_END = b"\x00\x00\x00\x00IEND\xaeB`\x82"

# libpng's warnings are about the callers' files: harmless faults that it passes over.
logging.getLogger("imagecodecs").setLevel(logging.CRITICAL)


@dataclass(frozen=True, slots=True)
class PngPixels:
    """What makes up the pixels: the chunks before them, and the payloads of IDAT.

    The size is that of all rows once inflated, each with its filter type; 0 if interlaced. The
    shape is that of the decoded pixels, [H, W] or [H, W, channels].
    """

    before: list[bytes | memoryview]
    compressed: list[memoryview]
    rows_bytes: int
    bit_depth: int
    shape: tuple[int, ...]
    is_grey: bool  # nothing but grey of 8 or 16 bits, not interlaced

    def decode(self) -> Pixels:
        """Return the pixels [H, W] or [H, W, channels]. Raises ImageUnreadable."""
        try:
            if self.rows_bytes > _MOST_INFLATED * self._compressed_bytes:  # before memory is taken
                raise ValueError("too few pixels")
            if not self.is_grey or self.rows_bytes > MAX_LOCKED_BYTES:
                return self._decode_by_libpng()
            decode_grey = decode_image_png_u16 if self.bit_depth == 16 else decode_image_png_u8
            file = b"".join(self._parts())
            try:
                pixels_hwc: Pixels = decode_grey(file, self.shape, "mono")
                return pixels_hwc[..., 0]
            except Exception as error:  # kornia-rs has no other class
                raise ValueError from error
        except (PngError, IsalError, ValueError) as error:  # type: ignore[misc]  # isal types it as an instance
            raise ImageUnreadable("The pixels of the PNG file are broken or cut short.") from error

    def _decode_by_libpng(self) -> Pixels:
        """Return the pixels. Raises PngError, and as `_parts`.

        Where libpng fails, imagecodecs 2026.3.6 jumps over the release of its references: one to
        the array stays for ever, and one to None is released twice if the array is its own.
        """
        pixels = np.empty(self.shape, np.uint16 if self.bit_depth == 16 else np.uint8)
        try:
            png_decode(self._file(), out=pixels)  # type: ignore[arg-type]  # it takes any buffer
        except PngError:
            pixels.resize(0, refcheck=False)  # of the array that stays, the memory goes
            raise
        return pixels

    @property
    def decode_bytes(self) -> int:
        """The most that is taken beside the pixels themselves."""
        stored_bytes = self.rows_bytes if self.rows_bytes <= MAX_INFLATED_BYTES else 0
        # The file for libpng, twice if it is compressed: ISA-L keeps what it has not inflated.
        return 2 * self._compressed_bytes + stored_bytes + 2 * min(stored_bytes, _PART_BYTES)

    def _file(self) -> memoryview:
        """Return the file for libpng. Raises as `_parts`."""
        size = sum(map(len, self.before)) + 12 + self._data_bytes + len(_END)
        # The system faults in the large pages of an array faster than the pages of bytes.
        file = np.empty(size, np.uint8).data
        place = 0
        for part in self._parts():
            file[place : place + len(part)] = part
            place += len(part)
        return file

    @property
    def _is_stored(self) -> bool:
        return 0 < self.rows_bytes <= MAX_INFLATED_BYTES

    @property
    def _data_bytes(self) -> int:
        if self._is_stored:
            return 2 + self.rows_bytes + 5 * -(-self.rows_bytes // _BLOCK_BYTES) + 4
        return self._compressed_bytes

    @property
    def _compressed_bytes(self) -> int:
        return sum(map(len, self.compressed))

    def _parts(self) -> Iterator[bytes | memoryview]:
        """Yield a PNG file of these pixels alone, stored if they fit into `MAX_INFLATED_BYTES`.

        Raises IsalError, and ValueError if there are too few pixels.
        """
        compressed = b"".join(self.compressed)
        yield from self.before
        yield struct.pack(">I", self._data_bytes)
        data = _stored(compressed, self.rows_bytes) if self._is_stored else [compressed]
        del compressed
        checksum = 0
        for part in chain((b"IDAT",), data):
            checksum = crc32(part, checksum)
            yield part
        yield struct.pack(">I", checksum)
        yield _END


def _stored(compressed: bytes, count: int) -> Iterator[bytes | memoryview]:
    """Inflate and yield a zlib stream of stored blocks (RFC 1950; RFC 1951, section 3.2.4).

    Raises IsalError, and ValueError if there are fewer bytes than `count`; more are left out.
    """
    inflater = IgzipDecompressor(flag=DECOMP_ZLIB)
    yield b"\x78\x01"
    left, checksum = count, 1
    while left:
        wanted = min(left, _PART_BYTES)
        part = memoryview(inflater.decompress(compressed, wanted))
        compressed = b""  # the inflater has it
        if len(part) < wanted:
            raise ValueError("too few pixels")
        left -= wanted
        checksum = adler32(part, checksum)
        for start in range(0, wanted, _BLOCK_BYTES):
            block = part[start : start + _BLOCK_BYTES]
            is_last = not left and start + _BLOCK_BYTES >= wanted
            yield struct.pack("<BHH", is_last, len(block), len(block) ^ 0xFFFF)
            yield block
    if not inflater.eof and not inflater.decompress(b"", 1) and not inflater.eof:
        raise ValueError("the end is missing")
    yield struct.pack(">I", checksum)
