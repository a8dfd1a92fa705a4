"""PNG: file bytes -> greyscale pixels. Pixels are decoded by libpng, through imagecodecs.

The chunk list is walked here first (PNG specification, third edition, sections 5 and 11), without
inflating anything. Only the chunks that make up the pixels reach libpng, so that compressed text
and ICC profiles are never inflated. libpng fails by itself if the header or the palette is invalid
or if there are too few pixels, and stops if there are too many.
"""

import logging
import struct
import zlib
from collections.abc import Iterator

from imagecodecs import PngError, png_decode

from cxr_server.errors import ImageFormatUnsupported, ImageUnreadable
from cxr_server.imaging.pixels import exif_orientation, to_greyscale
from cxr_server.imaging.radiograph import Header, InputWarning, Pixels

SIGNATURE = b"\x89PNG\r\n\x1a\n"
MAX_CHUNK_COUNT = 16_384
"""Several times the chunks of a file of 32 MiB in libpng's pieces of 8 KiB. Bounds the walk."""

_PIXEL_CHUNKS = frozenset({b"IHDR", b"PLTE", b"tRNS", b"IDAT", b"IEND"})
_TRNS_LENGTHS = {0: (2,), 2: (6,), 3: range(1, 257)}
"""Allowed lengths of tRNS by colour type: grey, RGB, palette. libpng ignores it if it is broken."""

# libpng's warnings are about the callers' files: harmless faults that it passes over.
logging.getLogger("imagecodecs").setLevel(logging.CRITICAL)


class PngCodec:
    """Reads PNG of every colour type and bit depth, interlaced or not."""

    name = "PNG"
    needs = "imagecodecs"

    def why_not(self) -> str | None:
        """Return None: imagecodecs is always installed."""
        return None

    def sniff(self, data: bytes) -> bool:
        """Tell whether data begins with PNG's signature, or is a part of it."""
        return SIGNATURE.startswith(data[: len(SIGNATURE)])

    def read_header(self, data: bytes) -> Header:
        """Check every chunk and keep what makes up the pixels. Raises as `Codec.read_header`."""
        chunks = _chunks(data)
        previous, payload, chunk = next(chunks)
        if (previous, len(payload)) != (b"IHDR", 13):
            raise ImageUnreadable("The PNG file does not begin with an image header.")
        width_px, height_px, bit_depth, color_type = struct.unpack_from(">IIBB", payload)
        if not 0 < width_px < 2**31 or not 0 < height_px < 2**31:
            raise ImageUnreadable("The PNG file states an impossible size.")
        kept: list[bytes | memoryview] = [SIGNATURE, chunk]
        seen, orientation = {previous}, 1
        for kind, payload, chunk in chunks:
            if kind in _PIXEL_CHUNKS:
                if kind in seen and not kind == previous == b"IDAT":
                    raise ImageUnreadable("The chunks of the PNG file are out of order.")
                if kind == b"tRNS" and len(payload) not in _TRNS_LENGTHS.get(color_type, ()):
                    raise ImageUnreadable("The transparency chunk of the PNG file is invalid.")
                seen.add(kind)
                kept.append(chunk)
            elif kind == b"eXIf":
                orientation = exif_orientation(bytes(payload))
            elif kind == b"acTL":
                if len(payload) != 8 or struct.unpack_from(">I", payload)[0] != 1:
                    raise ImageFormatUnsupported("This is an animated PNG; send a still image.")
            elif not kind[0] & 0x20:  # an upper-case letter: a critical chunk
                raise ImageFormatUnsupported("The PNG file uses an unknown critical chunk.")
            previous = kind
        return Header(height_px, width_px, bit_depth, orientation, b"".join(kept))

    def decode(self, header: Header) -> tuple[Pixels, tuple[InputWarning, ...]]:
        """Decode the pixels. Raises ImageUnreadable."""
        try:
            pixels = png_decode(header.pixel_data)
        except (PngError, ValueError) as error:
            raise ImageUnreadable("The pixels of the PNG file are broken or cut short.") from error
        return to_greyscale(pixels)


def _chunks(data: bytes) -> Iterator[tuple[bytes, memoryview, memoryview]]:
    """Yield kind, payload and the whole of each chunk, up to and including IEND."""
    view = memoryview(data)
    offset = len(SIGNATURE)
    for _ in range(MAX_CHUNK_COUNT):
        if offset + 12 > len(data):
            raise ImageUnreadable("The PNG file is cut short.")
        length, kind = struct.unpack_from(">I4s", data, offset)
        end = offset + 12 + length
        if end > len(data):
            raise ImageUnreadable("The PNG file is cut short.")
        if zlib.crc32(view[offset + 4 : end - 4]) != struct.unpack_from(">I", data, end - 4)[0]:
            raise ImageUnreadable("A checksum in the PNG file is wrong.")
        yield kind, view[offset + 8 : end - 4], view[offset:end]
        if kind == b"IEND":
            return
        offset = end
    raise ImageUnreadable(f"The PNG file has more than {MAX_CHUNK_COUNT} chunks.")
