"""Codecs: image bytes -> Radiograph, by the first registered codec that knows the format.

To add a format, write a module with a class like those in `png` and `jpeg`, and add it to `CODECS`.
"""

from dataclasses import dataclass
from typing import Protocol

import numpy as np

from cxr_server.errors import ImageEmpty, ImageFormatUnsupported
from cxr_server.imaging.dicom.codec import DicomCodec
from cxr_server.imaging.foreign import MAX_SNIFFED_BYTES, refusal
from cxr_server.imaging.jpeg import JpegCodec
from cxr_server.imaging.orientation import upright
from cxr_server.imaging.png import PngCodec
from cxr_server.imaging.radiograph import (
    Decoded,
    DecodeLimits,
    DecodeOptions,
    Header,
    ImageBytes,
    InputWarning,
    Radiograph,
)


class Codec(Protocol):
    """Reads one file format. Stateless, and called from several threads at once."""

    name: str  # the contract's `ImageFormat` without its prefix, such as "PNG"
    needs: str  # the library that decodes the pixels

    def why_not(self) -> str | None:
        """Return why the format cannot be read on this server, or None if it can."""

    def sniff(self, head: bytes) -> bool:
        """Tell whether a file has this format's signature or its beginning.

        `head` is what it begins with: `MAX_SNIFFED_BYTES`, or all of a file that has fewer.
        """

    def read_header(self, data: ImageBytes) -> Header:
        """Read all but the pixels, whose size is not known to be within the limits.

        Raises ImageUnreadable, ImageFormatUnsupported for other variants of the format, and
        ImageIsHeatmap for a picture with this service's mark; see `mark`.
        """

    def decode(self, header: Header, options: DecodeOptions) -> Decoded:
        """Decode to greyscale [height, width] as stored; return it with COLOR, TRANSPARENT if so.

        Raises ImageUnreadable if the pixels are broken, cut short or inconsistent.
        """


CODECS: dict[str, Codec] = {codec.name: codec for codec in (DicomCodec(), PngCodec(), JpegCodec())}
"""The registry: codecs by name, in the order in which they are asked.

DICOM comes first: what precedes its mark may be the beginning of a file of another format.
"""


def readable_formats() -> tuple[str, ...]:
    """Return the names of the formats that can be read on this server."""
    return tuple(name for name, codec in CODECS.items() if codec.why_not() is None)


@dataclass(frozen=True, slots=True)
class ImageFile:
    """An image file whose header was read, and is within the limits."""

    codec: Codec
    header: Header

    def radiograph(self, options: DecodeOptions) -> Radiograph:
        """Decode to an upright greyscale image. Raises ImageUnreadable; see `decode`."""
        codec, header = self.codec, self.header
        pixels_hw, warnings, padding_hw = codec.decode(header, options)
        if header.orientation != 1:
            pixels_hw = upright(pixels_hw, header.orientation)
            warnings = (*warnings, InputWarning.REORIENTED)
        if header.is_photograph:
            warnings = (*warnings, InputWarning.POSSIBLY_PHOTOGRAPH)
        max_value = int(np.iinfo(pixels_hw.dtype).max)
        presentation = options.presentation if codec.name == DicomCodec.name else None
        return Radiograph(
            pixels_hw,
            max_value,
            codec.name,
            header.bit_depth,
            warnings,
            padding_hw=padding_hw,
            presentation=presentation,
        )


def read(data: ImageBytes, limits: DecodeLimits) -> ImageFile:
    """Read all but the pixels of an image file. Raises as `decode`, but for pixels."""
    codec = _codec_for(bytes(data[:MAX_SNIFFED_BYTES]))
    header = codec.read_header(data)
    limits.check(header.height_px, header.width_px)
    return ImageFile(codec, header)


def decode(
    data: ImageBytes,
    limits: DecodeLimits = DecodeLimits(),  # noqa: B008 -- frozen
    options: DecodeOptions = DecodeOptions(),  # noqa: B008 -- frozen
) -> Radiograph:
    """Decode an image file to an upright greyscale image.

    Grey of 1, 2, 4 and 8 bits becomes 0..255; 16 bits stay 16 bits. Colour becomes luma (ITU-R
    BT.601, as Pillow's "L"); JPEG delivers its own luma channel. Transparent pixels are blended
    over black. The stated orientation is applied. DICOM becomes 16 bits, as `dicom.grey` says.
    Raises one of the kinds of ImageError.
    """
    return read(data, limits).radiograph(options)


def _codec_for(head: bytes) -> Codec:
    if not head:
        raise ImageEmpty("The image has no bytes.")
    for codec in CODECS.values():
        if codec.sniff(head):
            if reason := codec.why_not():
                raise ImageFormatUnsupported(
                    f"{codec.name} files need {codec.needs}: {reason}; send {_formats()}."
                )
            return codec
    raise ImageFormatUnsupported(refusal(head, _formats()))


def _formats() -> str:
    *others, last = readable_formats()
    return f"{', '.join(others)} or {last}" if others else last
