"""Codec: DICOM file -> greyscale pixels, in the steps that the package names."""

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from cxr_server.errors import ImageFormatUnsupported, ImageUnreadable
from cxr_server.imaging.dicom.attributes import Attributes, attributes_of
from cxr_server.imaging.dicom.codestream import SYNTAXES, decode_frame
from cxr_server.imaging.dicom.elements import (
    BIG_ENDIAN,
    DEFLATED,
    EXPLICIT_VR,
    IMPLICIT_VR,
    PREAMBLE_BYTES,
    DeflatedPixels,
    Elements,
    read_elements,
)
from cxr_server.imaging.dicom.grey import padding_of, to_grey
from cxr_server.imaging.radiograph import Decoded, DecodeOptions, Header, ImageBytes

MARK = b"DICM"  # behind the preamble
BYTES_PER_PIXEL = 11
"""What decoding takes at most: 4 in OpenJPEG, the cells, their bits, the grey and the padding."""
BLOCK_BYTES = 512
"""Of files and disks: padding up to a whole block is shorter, and so is any frame that is read."""
CODESTREAM_START_BYTES = 6
"""Markers and lengths (JPEG, JPEG 2000), or the number of segments (RLE), that frames share."""
_NATIVE = {IMPLICIT_VR, EXPLICIT_VR, DEFLATED, BIG_ENDIAN}


class DicomCodec:
    """Reads files of one greyscale image (DICOM PS3.10)."""

    name = "DICOM"
    needs = "imagecodecs"

    def why_not(self) -> str | None:
        """Return None: imagecodecs is always installed."""
        return None

    def sniff(self, head: bytes) -> bool:
        """Tell whether a file has DICOM's mark behind its preamble."""
        return head[PREAMBLE_BYTES : PREAMBLE_BYTES + len(MARK)] == MARK

    def read_header(self, data: ImageBytes) -> Header:
        """Read all elements but the pixels. Raises as `Codec.read_header`."""
        image = read(data)
        attributes = image.attributes
        height_px, width_px = attributes.height_px, attributes.width_px
        decode_bytes = len(data) + BYTES_PER_PIXEL * height_px * width_px
        syntax = SYNTAXES.get(image.elements.transfer_syntax)
        isolated = syntax is not None and syntax.isolated
        return Header(height_px, width_px, attributes.bits_stored, 1, image, decode_bytes, isolated)

    def decode(self, header: Header, options: DecodeOptions) -> Decoded:
        """Decode to 16 bits, white is 65535. Raises ImageUnreadable."""
        image: DicomData = header.pixel_data
        attributes = image.attributes
        stored_hw = stored_values(image)
        pixels_hw = to_grey(stored_hw, attributes, options.presentation)
        return Decoded(pixels_hw, attributes.warnings, padding_of(stored_hw, attributes))


@dataclass(frozen=True, slots=True)
class DicomData:
    """A DICOM image whose pixels are not decoded yet."""

    elements: Elements
    attributes: Attributes


def read(data: ImageBytes) -> DicomData:
    """Read everything but the pixels, and check that their length is the stated one.

    Raises ImageFormatUnsupported and ImageUnreadable.
    """
    elements = read_elements(data)
    syntax = elements.transfer_syntax
    if syntax not in _NATIVE and syntax not in SYNTAXES:
        name = syntax if len(syntax) <= 64 and syntax.replace(".", "").isdigit() else "unknown"
        raise ImageFormatUnsupported(f"The transfer syntax of the DICOM file is not read: {name}.")
    attributes = attributes_of(elements)
    pixels = elements.pixels
    if isinstance(pixels, list) is (syntax in _NATIVE):
        raise ImageUnreadable("The pixels of the DICOM file contradict its transfer syntax.")
    if pixels is not None and not isinstance(pixels, list):
        length = pixels.length if isinstance(pixels, DeflatedPixels) else len(pixels)
        surplus = length - attributes.cells_bytes
        if surplus < 0:
            raise ImageUnreadable("The pixels of the DICOM file are cut short.")
        # An odd length is padded, and some writers pad more. Whole rows are pixels.
        row_bytes = attributes.cells_bytes // max(1, attributes.height_px)
        if surplus >= max(row_bytes, BLOCK_BYTES):
            raise ImageUnreadable("The DICOM file has more pixels than it states.")
    if isinstance(pixels, list) and _has_frames(pixels):
        raise ImageFormatUnsupported("The DICOM file has several frames; send one image.")
    return DicomData(elements, attributes)


def _has_frames(fragments: list[memoryview]) -> bool:
    """Tell whether a fragment behind the first begins as that does: with a codestream of its own.

    Not told by the offset table, which may be empty, or list fragments of a single frame.
    """
    starts = [bytes(fragment[:CODESTREAM_START_BYTES]) for fragment in fragments]
    return starts[0] in starts[1:] if starts else False


def stored_values(data: DicomData) -> NDArray[np.unsignedinteger]:
    """Return the cells of the pixels [height, width], 8 or 16 bits. Raises ImageUnreadable."""
    elements, attributes = data.elements, data.attributes
    if syntax := SYNTAXES.get(elements.transfer_syntax):
        assert isinstance(elements.pixels, list)
        return decode_frame(b"".join(elements.pixels), syntax, attributes)
    pixels = elements.pixels
    if isinstance(pixels, DeflatedPixels):
        pixels = pixels.inflated(attributes.cells_bytes)
    assert isinstance(pixels, memoryview)
    height_px, width_px = attributes.height_px, attributes.width_px
    dtype = np.dtype(f"{elements.byte_order}u{attributes.bits_allocated // 8}")
    if elements.byte_order == ">" and dtype.itemsize == 1 and elements.pixels_vr == b"OW":
        # Two pixels in each word of 16 bits, the first in its lower byte (PS3.5, annex D.2).
        even_bytes = len(pixels) // 2 * 2
        pixels = memoryview(np.frombuffer(pixels[:even_bytes], ">u2").astype("<u2").tobytes())
    return np.frombuffer(pixels, dtype, height_px * width_px).reshape(height_px, width_px)
