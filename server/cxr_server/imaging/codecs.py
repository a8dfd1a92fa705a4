"""Codecs: image bytes -> Radiograph, by the first registered codec that knows the format.

To add a format, write a module with a class like those in `png` and `jpeg`, and add it to `CODECS`.
"""

from typing import Protocol

import numpy as np

from cxr_server.errors import ImageEmpty, ImageFormatUnsupported
from cxr_server.imaging.jpeg import JpegCodec
from cxr_server.imaging.pixels import upright
from cxr_server.imaging.png import PngCodec
from cxr_server.imaging.radiograph import DecodeLimits, Header, InputWarning, Pixels, Radiograph


class Codec(Protocol):
    """Reads one file format. Stateless, and called from several threads at once."""

    name: str  # the contract's `ImageFormat` without its prefix, such as "PNG"
    needs: str  # the library that decodes the pixels

    def why_not(self) -> str | None:
        """Return why the format cannot be read on this server, or None if it can."""

    def sniff(self, data: bytes) -> bool:
        """Tell whether data, which is not empty, has this format's signature or its beginning."""

    def read_header(self, data: bytes) -> Header:
        """Read all but the pixels, whose size is not known to be within the limits.

        Raises ImageUnreadable, and ImageFormatUnsupported for other variants of the format.
        """

    def decode(self, header: Header) -> tuple[Pixels, tuple[InputWarning, ...]]:
        """Decode to greyscale [height, width] as stored; return it with COLOR, TRANSPARENT if so.

        Raises ImageUnreadable if the pixels are broken, cut short or inconsistent.
        """


CODECS: dict[str, Codec] = {codec.name: codec for codec in (PngCodec(), JpegCodec())}
"""The registry: codecs by name, in the order in which they are asked."""

_OTHER_FORMATS: tuple[tuple[int, bytes | tuple[bytes, ...], str], ...] = (
    (0, b"GIF8", "GIF"),
    (0, (b"II*\x00", b"MM\x00*"), "TIFF"),
    (8, b"WEBP", "WebP"),
    (0, b"BM", "BMP"),
    (128, b"DICM", "DICOM"),
    (0, (b"\x00\x00\x00\x0cjP", b"\xff\x4f\xff\x51"), "JPEG 2000"),
    (0, (b"\x00\x00\x00\x0cJXL", b"\xff\x0a"), "JPEG XL"),
    (4, b"ftyp", "HEIF or AVIF"),
    (0, b"%PDF", "PDF"),
    (0, (b"<svg", b"<?xml"), "SVG or XML"),
    (0, b"PK\x03\x04", "ZIP"),
    (0, b"\x1f\x8b", "gzip"),
)
"""Offset, signatures and name of formats without a codec, so that the error can name them."""


def readable_formats() -> tuple[str, ...]:
    """Return the names of the formats that can be read on this server."""
    return tuple(name for name, codec in CODECS.items() if codec.why_not() is None)


def decode(data: bytes, limits: DecodeLimits = DecodeLimits()) -> Radiograph:  # noqa: B008
    """Decode an image file to an upright greyscale image.

    Grey of 1, 2, 4 and 8 bits becomes 0..255; 16 bits stay 16 bits. Colour becomes luma (ITU-R
    BT.601, as Pillow's "L"); JPEG delivers its own luma channel. Transparent pixels are blended
    over black. The EXIF orientation is applied. Raises one of the kinds of ImageError.
    """
    codec = _codec_for(data)
    header = codec.read_header(data)
    limits.check(header.height_px, header.width_px)
    pixels_hw, warnings = codec.decode(header)
    if header.orientation != 1:
        pixels_hw = upright(pixels_hw, header.orientation)
        warnings = (*warnings, InputWarning.REORIENTED)
    max_value = int(np.iinfo(pixels_hw.dtype).max)
    return Radiograph(pixels_hw, max_value, codec.name, header.bit_depth, warnings)


def _codec_for(data: bytes) -> Codec:
    if not data:
        raise ImageEmpty("The image has no bytes.")
    formats = " or ".join(readable_formats())
    for codec in CODECS.values():
        if codec.sniff(data):
            if reason := codec.why_not():
                raise ImageFormatUnsupported(
                    f"{codec.name} files need {codec.needs}: {reason}; send {formats}."
                )
            return codec
    for offset, signatures, name in _OTHER_FORMATS:
        if data.startswith(signatures, offset):
            raise ImageFormatUnsupported(f"This is a {name} file; send {formats}.")
    raise ImageFormatUnsupported(f"The file format is not recognised; send {formats}.")
