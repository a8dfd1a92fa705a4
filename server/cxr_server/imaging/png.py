"""PNG: file bytes -> header, and a file of nothing but pixels. Next: decode.

Reads the chunk list (PNG specification, third edition, sections 5 and 11) without inflating
anything. What decoding needs is copied to a new file, so that text, colour profiles and
animation never reach the decoder, whatever they would have grown to.
"""

import struct
import zlib
from collections.abc import Iterator
from dataclasses import dataclass

from isal.isal_zlib import crc32

from cxr_server.errors import ImageFormatUnsupported, ImageUnreadable
from cxr_server.imaging.header import PNG_SIGNATURE, exif_orientation

GREY, RGB, PALETTE, GREY_ALPHA, RGB_ALPHA = 0, 2, 3, 4, 6
"""Colour types."""

_BIT_DEPTHS = {
    GREY: (1, 2, 4, 8, 16),
    RGB: (8, 16),
    PALETTE: (1, 2, 4, 8),
    GREY_ALPHA: (8, 16),
    RGB_ALPHA: (8, 16),
}
_KEPT = frozenset({b"IHDR", b"PLTE", b"IDAT", b"IEND"})
_TRANSPARENCY_BYTES = {GREY: 2, RGB: 6}
"""Length of the transparency chunk where it names one colour; a palette has up to 256."""
MAX_CHUNK_COUNT = 16_384
"""Several times the chunks of a file of 32 MiB in libpng's pieces of 8 KiB; bounds the time that
walking them takes."""
_CHANNELS = {GREY: 1, RGB: 3, PALETTE: 1, GREY_ALPHA: 2, RGB_ALPHA: 4}
_PASSES = (
    (0, 0, 8, 8),
    (4, 0, 8, 8),
    (0, 4, 4, 8),
    (2, 0, 4, 4),
    (0, 2, 2, 4),
    (1, 0, 2, 2),
    (0, 1, 1, 2),
)
"""Adam7 interlacing: first column, first row, columns apart, rows apart."""


@dataclass(frozen=True, slots=True)
class PngHeader:
    """The image header (IHDR)."""

    width_px: int
    height_px: int
    bit_depth: int
    color_type: int
    interlaced: bool


@dataclass(frozen=True, slots=True)
class PngBody:
    """What the chunks after the header hold.

    Attributes:
        pixel_file: A PNG file with the chunks that make up the pixels as stored.
        palette: Red, green and blue of each palette entry, or None.
        transparency: The transparency chunk, or None.
        orientation: EXIF orientation, 1 to 8.
    """

    pixel_file: bytes
    palette: bytes | None
    transparency: bytes | None
    orientation: int


def read_header(data: bytes) -> PngHeader:
    """Read a PNG's header, and nothing beyond it.

    Raises:
        ImageUnreadable: The header is cut short or breaks the specification.
    """
    if len(data) < 33:
        raise ImageUnreadable("The PNG file is cut short.")
    length, kind = struct.unpack_from(">I4s", data, 8)
    if (length, kind) != (13, b"IHDR"):
        raise ImageUnreadable("The PNG file does not begin with an image header.")
    width_px, height_px, bit_depth, color_type, *methods = struct.unpack_from(">IIBBBBB", data, 16)
    if crc32(data[12:29]) != struct.unpack_from(">I", data, 29)[0]:
        raise ImageUnreadable("A checksum in the PNG file is wrong.")
    if not 0 < width_px < 2**31 or not 0 < height_px < 2**31:
        raise ImageUnreadable("The PNG file states an impossible size.")
    if bit_depth not in _BIT_DEPTHS.get(color_type, ()) or methods[:2] != [0, 0] or methods[2] > 1:
        raise ImageUnreadable("The PNG file states a combination that PNG does not have.")
    return PngHeader(width_px, height_px, bit_depth, color_type, bool(methods[2]))


def read_body(data: bytes, header: PngHeader) -> PngBody:
    """Check every chunk and keep what makes up the pixels.

    Raises:
        ImageUnreadable: A chunk is cut short, out of order or fails its checksum.
        ImageFormatUnsupported: The file is animated or needs an unknown extension.
    """
    kept: list[memoryview] = [memoryview(data)[: len(PNG_SIGNATURE)]]
    seen: dict[bytes, bytes] = {}
    orientation, previous = 1, b""
    for kind, payload, chunk in _chunks(data):
        if kind in _KEPT or kind == b"tRNS":
            if kind in _KEPT:
                kept.append(chunk)
            again = kind in seen and (kind != b"IDAT" or previous != b"IDAT")
            if again or (kind in (b"PLTE", b"tRNS") and b"IDAT" in seen):
                raise ImageUnreadable("The chunks of the PNG file are out of order.")
            seen[kind] = bytes(payload) if kind in (b"PLTE", b"tRNS") else b""
        elif kind == b"eXIf":
            orientation = exif_orientation(bytes(payload))
        elif kind == b"acTL":
            if len(payload) != 8 or struct.unpack_from(">I", payload)[0] != 1:
                raise ImageFormatUnsupported("This is an animated PNG; send a still image.")
        elif not kind[0] & 0x20:
            raise ImageFormatUnsupported("The PNG file needs an extension that is not read.")
        previous = kind
    if b"IDAT" not in seen:
        raise ImageUnreadable("The PNG file holds no pixels.")
    palette = seen.get(b"PLTE")
    if palette is None:
        if header.color_type == PALETTE:
            raise ImageUnreadable("The PNG file lacks its palette.")
    elif len(palette) % 3 or not 3 <= len(palette) <= 768:
        raise ImageUnreadable("The palette of the PNG file is broken.")
    return PngBody(b"".join(kept), palette, _transparency(seen, header), orientation)


def is_complete(body: PngBody, header: PngHeader) -> bool:
    """Tell whether the compressed pixels are as many as the header states."""
    missing = stored_byte_count(header)
    inflate = zlib.decompressobj()
    for kind, payload, _ in _chunks(body.pixel_file):
        compressed: bytes | memoryview = payload if kind == b"IDAT" else b""
        while compressed and missing > 0 and not inflate.eof:
            missing -= len(inflate.decompress(compressed, 1 << 20))
            compressed = inflate.unconsumed_tail
    return missing <= 0


def stored_byte_count(header: PngHeader) -> int:
    """Return the bytes that the pixels take before compression, filter bytes included."""
    pixel_bits = header.bit_depth * _CHANNELS[header.color_type]
    byte_count = 0
    for left, top, across, down in _PASSES if header.interlaced else ((0, 0, 1, 1),):
        columns = -(-(header.width_px - left) // across)
        rows = -(-(header.height_px - top) // down)
        if columns > 0 and rows > 0:
            byte_count += rows * (1 + (columns * pixel_bits + 7) // 8)
    return byte_count


def _transparency(seen: dict[bytes, bytes], header: PngHeader) -> bytes | None:
    transparency = seen.get(b"tRNS")
    if transparency is None:
        return None
    length = _TRANSPARENCY_BYTES.get(header.color_type)
    if header.color_type in (GREY_ALPHA, RGB_ALPHA) or length not in (None, len(transparency)):
        raise ImageUnreadable("The transparency of the PNG file is broken.")
    return transparency


def _chunks(data: bytes) -> Iterator[tuple[bytes, memoryview, memoryview]]:
    """Yield kind, payload and the whole chunk for each chunk up to and with IEND."""
    view = memoryview(data)
    offset = len(PNG_SIGNATURE)
    for _ in range(MAX_CHUNK_COUNT):
        if offset + 12 > len(data):
            raise ImageUnreadable("The PNG file is cut short.")
        length, kind = struct.unpack_from(">I4s", data, offset)
        end = offset + 12 + length
        if end > len(data):
            raise ImageUnreadable("The PNG file is cut short.")
        if crc32(view[offset + 4 : end - 4]) != struct.unpack_from(">I", data, end - 4)[0]:
            raise ImageUnreadable("A checksum in the PNG file is wrong.")
        yield kind, view[offset + 8 : end - 4], view[offset:end]
        if kind == b"IEND":
            return
        offset = end
    raise ImageUnreadable("The PNG file has more chunks than is read.")
