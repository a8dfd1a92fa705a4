"""PNG: file bytes -> greyscale pixels. Pixels are decoded by libpng, through imagecodecs.

The chunk list is walked here first (PNG specification, third edition, sections 5 and 11), without
inflating pixels. Only the chunks that make up the pixels reach libpng, so that compressed text
and ICC profiles are never inflated. ISA-L inflates the pixels in less than half of the time that
libpng's zlib takes, and libpng gets them stored, not compressed. libpng fails by itself if the
header or the palette is invalid or if there are too few pixels, and stops if there are too many.

Damage is an error where it may concern pixels: a wrong checksum of a critical chunk or of tRNS, and
a file that ends before its pixels or within them. Other chunks are skipped with or without a right
checksum, and after the pixels the end chunk may be broken or missing, as in Pillow: the compressed
pixels have a checksum and an end of their own.
"""

import logging
import struct
from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np
from imagecodecs import PngError, png_decode
from isal.igzip_lib import DECOMP_ZLIB, IgzipDecompressor, IsalError
from isal.isal_zlib import adler32, crc32

from cxr_server.errors import ImageFormatUnsupported, ImageUnreadable
from cxr_server.imaging.pixels import to_greyscale
from cxr_server.imaging.png_metadata import METADATA_CHUNKS, PngMetadata, is_intact
from cxr_server.imaging.radiograph import Decoded, DecodeOptions, Header

SIGNATURE = b"\x89PNG\r\n\x1a\n"
MAX_CHUNK_COUNT = 16_384
"""Several times the chunks of a file of 32 MiB in libpng's pieces of 8 KiB. Bounds the walk."""

_PIXEL_CHUNKS = frozenset({b"IHDR", b"PLTE", b"tRNS", b"IDAT", b"IEND"})
MAX_INFLATED_BYTES = 2**26
"""Size of the pixels up to which ISA-L inflates: libpng gets all of them at once, and not a row."""

_CHANNELS = {0: 1, 2: 3, 3: 1, 4: 2, 6: 4}
"""Samples of a pixel by colour type: grey, RGB, palette, grey and RGB with alpha."""
_BLOCK_BYTES = 0xFFFF  # the most that a stored block of deflate holds
_PART_BYTES = 16 * _BLOCK_BYTES  # what is inflated at once
_MOST_INFLATED = 1032
"""The most bytes that a byte of deflate can stand for (zlib, "Technical Details")."""
_END = b"\x00\x00\x00\x00IEND\xaeB`\x82"
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
        """Walk the chunks and keep what makes up the pixels. Raises as `Codec.read_header`."""
        chunks = _chunks(data)
        previous, payload, chunk = next(chunks)
        if (previous, len(payload)) != (b"IHDR", 13):
            raise ImageUnreadable("The PNG file does not begin with an image header.")
        width_px, height_px, bit_depth, color_type = struct.unpack_from(">IIBB", payload)
        row_bytes = 1 + (width_px * bit_depth * _CHANNELS.get(color_type, 0) + 7) // 8
        is_interlaced = payload[12] != 0
        if not 0 < width_px < 2**31 or not 0 < height_px < 2**31:
            raise ImageUnreadable("The PNG file states an impossible size.")
        kept: list[bytes | memoryview] = [SIGNATURE, chunk]
        compressed: list[memoryview] = []
        seen, metadata = {previous}, PngMetadata()
        for kind, payload, chunk in chunks:
            if kind in _PIXEL_CHUNKS:
                is_late = kind in (b"PLTE", b"tRNS") and compressed
                if is_late or (kind in seen and not kind == previous == b"IDAT"):
                    raise ImageUnreadable("The chunks of the PNG file are out of order.")
                if kind == b"tRNS" and len(payload) not in _TRNS_LENGTHS.get(color_type, ()):
                    raise ImageUnreadable("The transparency chunk of the PNG file is invalid.")
                seen.add(kind)
                if kind == b"IDAT":
                    compressed.append(payload)
                elif kind != b"IEND":
                    kept.append(chunk)
            elif kind in METADATA_CHUNKS:
                metadata.add(chunk)
            elif kind == b"acTL":
                if len(payload) != 8 or struct.unpack_from(">I", payload)[0] != 1:
                    raise ImageFormatUnsupported("This is an animated PNG; send a still image.")
            elif not kind[0] & 0x20:  # a critical chunk
                raise ImageFormatUnsupported("The PNG file uses an unknown critical chunk.")
            previous = kind
        rows_bytes = 0 if is_interlaced else row_bytes * height_px
        pixel_data = _PixelData(kept, compressed, rows_bytes)
        # Palettes become RGB, tRNS becomes alpha, and each channel has 8 bits at least.
        channels = (3 if color_type == 3 else _CHANNELS.get(color_type, 4)) + (b"tRNS" in seen)
        pixels = height_px * width_px * (2 if bit_depth == 16 else 1)
        stored_bytes = rows_bytes if rows_bytes <= MAX_INFLATED_BYTES else 0
        # The file for libpng, twice if it is compressed: ISA-L keeps what it has not inflated.
        file_bytes = 2 * len(data) + stored_bytes + 2 * min(stored_bytes, _PART_BYTES)
        # That, its pixels, their grey, and the same upright.
        decode_bytes = file_bytes + (channels + 2) * pixels
        return Header(
            height_px, width_px, bit_depth, metadata.orientation(), pixel_data, decode_bytes
        )

    def decode(self, header: Header, options: DecodeOptions) -> Decoded:
        """Decode the pixels. Raises ImageUnreadable."""
        data: _PixelData = header.pixel_data
        try:
            pixels = png_decode(data.file())  # type: ignore[arg-type]  # it takes any buffer
        except (PngError, IsalError, ValueError) as error:  # type: ignore[misc]  # isal types it as an instance
            raise ImageUnreadable("The pixels of the PNG file are broken or cut short.") from error
        return to_greyscale(pixels)


@dataclass(frozen=True, slots=True)
class _PixelData:
    """What makes up the pixels: the chunks before them, and the payloads of IDAT.

    The size is that of all rows once inflated, each with its filter type; 0 if interlaced.
    """

    before: list[bytes | memoryview]
    compressed: list[memoryview]
    rows_bytes: int

    def file(self) -> memoryview:
        """Return a PNG file of these pixels alone, stored if they fit into `MAX_INFLATED_BYTES`.

        Raises IsalError, and ValueError if there are too few pixels.
        """
        compressed = b"".join(self.compressed)
        if self.rows_bytes > _MOST_INFLATED * len(compressed):  # before memory is taken for them
            raise ValueError("too few pixels")
        is_stored = 0 < self.rows_bytes <= MAX_INFLATED_BYTES
        size = _stored_bytes(self.rows_bytes) if is_stored else len(compressed)
        head = b"".join((*self.before, struct.pack(">I4s", size, b"IDAT")))
        start, end = len(head), len(head) + size
        # The system faults in the large pages of an array faster than the pages of bytes.
        file = np.empty(end + 4 + len(_END), np.uint8).data
        file[:start] = head
        if is_stored:
            _store(compressed, self.rows_bytes, file[start:end])
        else:
            file[start:end] = compressed
        file[end:] = struct.pack(">I", crc32(file[start - 4 : end])) + _END
        return file


def _stored_bytes(count: int) -> int:
    """Return the size of a zlib stream of so many bytes in stored blocks."""
    return 2 + count + 5 * -(-count // _BLOCK_BYTES) + 4


def _store(compressed: bytes, count: int, stream: memoryview) -> None:
    """Inflate and write as a zlib stream of stored blocks (RFC 1950; RFC 1951, section 3.2.4).

    Raises IsalError, and ValueError if there are fewer bytes than `count`; more are left out.
    """
    inflater = IgzipDecompressor(flag=DECOMP_ZLIB)
    stream[:2] = b"\x78\x01"
    place, left, checksum = 2, count, 1
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
            stream[place : place + 5] = struct.pack(
                "<BHH", is_last, len(block), len(block) ^ 0xFFFF
            )
            place += 5 + len(block)
            stream[place - len(block) : place] = block
        if not left and not inflater.eof and not inflater.decompress(b"", 1) and not inflater.eof:
            raise ValueError("the end is missing")
    stream[place:] = struct.pack(">I", checksum)


def _chunks(data: bytes) -> Iterator[tuple[bytes, memoryview, memoryview]]:
    """Yield kind, payload and the whole of each chunk, up to IEND or the end of the file.

    Raises ImageUnreadable if a chunk that concerns pixels has a wrong checksum, and if the file
    ends before its pixels or within them.
    """
    view = memoryview(data)
    offset, has_pixels = len(SIGNATURE), False
    for _ in range(MAX_CHUNK_COUNT):
        length, kind = int.from_bytes(view[offset : offset + 4]), data[offset + 4 : offset + 8]
        end = offset + 12 + length
        if len(kind) < 4 or end > len(data):
            if has_pixels and kind != b"IDAT":
                return
            raise ImageUnreadable("The PNG file is cut short.")
        chunk = view[offset:end]
        if kind == b"IEND":
            yield kind, chunk[8:-4], chunk
            return
        is_critical = not kind[0] & 0x20  # an upper-case letter
        if (is_critical or kind == b"tRNS") and not is_intact(chunk):
            raise ImageUnreadable("A checksum in the PNG file is wrong.")
        yield kind, chunk[8:-4], chunk
        has_pixels = has_pixels or kind == b"IDAT"
        offset = end
    raise ImageUnreadable(f"The PNG file has more than {MAX_CHUNK_COUNT} chunks.")
