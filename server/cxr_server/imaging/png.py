"""PNG: file bytes -> greyscale pixels. Pixels are decoded in `png_pixels`.

The chunk list is walked here first (PNG specification, third edition, sections 5 and 11), without
inflating pixels. Only the chunks that make up the pixels reach a decoder, so that compressed text
and ICC profiles are never inflated.

Damage is an error where it may concern pixels: a wrong checksum of a critical chunk or of tRNS, and
a file that ends before its pixels or within them. Other chunks are skipped with or without a right
checksum, and after the pixels the end chunk may be broken or missing, as in Pillow: the compressed
pixels have a checksum and an end of their own.
"""

import struct
from collections.abc import Iterator

from cxr_server.errors import ImageFormatUnsupported, ImageUnreadable
from cxr_server.imaging.pixels import to_greyscale
from cxr_server.imaging.png_metadata import METADATA_CHUNKS, PngMetadata, is_intact
from cxr_server.imaging.png_pixels import SIGNATURE, PngPixels
from cxr_server.imaging.radiograph import Decoded, DecodeOptions, Header, ImageBytes

MAX_CHUNK_COUNT = 16_384
"""Several times the chunks of a file of 32 MiB in libpng's pieces of 8 KiB. Bounds the walk."""

_PIXEL_CHUNKS = frozenset({b"IHDR", b"PLTE", b"tRNS", b"IDAT", b"IEND"})
_CHANNELS = {0: 1, 2: 3, 3: 1, 4: 2, 6: 4}
"""Samples of a pixel by colour type: grey, RGB, palette, grey and RGB with alpha."""
_GREY_METHODS = bytes(4)  # grey; deflate; a filter for each row; not interlaced
_TRNS_LENGTHS = {0: (2,), 2: (6,), 3: range(1, 257)}
"""Allowed lengths of tRNS by colour type: grey, RGB, palette. libpng ignores it if it is broken."""


class PngCodec:
    """Reads PNG of every colour type and bit depth, interlaced or not."""

    name = "PNG"
    needs = "imagecodecs and kornia-rs"

    def why_not(self) -> str | None:
        """Return None: both are always installed."""
        return None

    def sniff(self, head: bytes) -> bool:
        """Tell whether a file begins with PNG's signature, or is a part of it."""
        return SIGNATURE.startswith(head[: len(SIGNATURE)])

    def read_header(self, data: ImageBytes) -> Header:
        """Walk the chunks and keep what makes up the pixels. Raises as `Codec.read_header`."""
        chunks = _chunks(data)
        previous, payload, chunk = next(chunks)
        if (previous, len(payload)) != (b"IHDR", 13):
            raise ImageUnreadable("The PNG file does not begin with an image header.")
        width_px, height_px, bit_depth, color_type = struct.unpack_from(">IIBB", payload)
        methods = payload[9:]  # color type, compression, filters and interlacing
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
        is_grey = bit_depth in (8, 16) and methods == _GREY_METHODS and b"tRNS" not in seen
        # Palettes become RGB, tRNS becomes alpha, and each channel has 8 bits at least.
        channels = (3 if color_type == 3 else _CHANNELS.get(color_type, 4)) + (b"tRNS" in seen)
        shape = (height_px, width_px) if channels == 1 else (height_px, width_px, channels)
        pixel_data = PngPixels(kept, compressed, rows_bytes, bit_depth, shape, is_grey)
        pixels = height_px * width_px * (2 if bit_depth == 16 else 1)
        # Beside the pixels: their grey, and the same upright.
        decode_bytes = pixel_data.decode_bytes + (channels + 2) * pixels
        return Header(
            height_px, width_px, bit_depth, metadata.orientation(), pixel_data, decode_bytes
        )

    def decode(self, header: Header, options: DecodeOptions) -> Decoded:
        """Decode the pixels. Raises ImageUnreadable."""
        pixels: PngPixels = header.pixel_data
        return to_greyscale(pixels.decode())


def _chunks(data: ImageBytes) -> Iterator[tuple[bytes, memoryview, memoryview]]:
    """Yield kind, payload and the whole of each chunk, up to IEND or the end of the file.

    Raises ImageUnreadable if a chunk that concerns pixels has a wrong checksum, and if the file
    ends before its pixels or within them.
    """
    view = memoryview(data)
    offset, has_pixels = len(SIGNATURE), False
    for _ in range(MAX_CHUNK_COUNT):
        head = bytes(view[offset : offset + 8])
        length, kind = int.from_bytes(head[:4]), head[4:]
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
