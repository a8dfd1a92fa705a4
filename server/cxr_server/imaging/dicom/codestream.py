"""Codestream: encapsulated pixels -> stored values, by the decoder of the transfer syntax.

The headers of a codestream are checked before a decoder sees them: they must state the size in
the DICOM attributes and one component. The decoders trust their headers. A JPEG-LS stream that
is cut short keeps CharLS busy for seconds, and OpenJPEG allocates what its header states.
"""

import struct
from collections.abc import Callable
from dataclasses import dataclass
from functools import partial

import imagecodecs
import numpy as np
import simplejpeg
from numpy.typing import NDArray

from cxr_server.errors import ImageUnreadable
from cxr_server.imaging.dicom.attributes import Attributes

Stored = NDArray[np.unsignedinteger]

MAX_SEGMENTS = 256
RLE_HEADER_BYTES = 64
MAX_TILES, MAX_LAYERS, MAX_DECOMPOSITIONS, MAX_CODE_BLOCK_EXPONENT = 4096, 64, 10, 8
_SOI, _EOI, _SOS = b"\xff\xd8", b"\xff\xd9", 0xDA
_PADDING = b"\x00\xff"
_NO_FRAME = (0xC4, 0xC8, 0xCC)  # in the range of frame headers: DHT, JPG, DAC


@dataclass(frozen=True, slots=True)
class Syntax:
    """How the pixels of a transfer syntax are encoded: how to check and to decode a frame.

    A check returns the bits of a value in the codestream. If those are more than the stored bits,
    values of a lossy one may exceed these. `isolated` is that of `Header`. OpenJPEG 2.5.4 writes
    beyond its memory (OSV-2025-219), and has no release without that fault.
    """

    name: str
    check: Callable[[bytes, Attributes], int]
    decode: Callable[[bytes, Attributes], NDArray[np.integer]]
    is_lossy: bool = False

    @property
    def isolated(self) -> bool:
        """Whether OpenJPEG decodes it."""
        return self.decode is _jpeg2000


def decode_frame(frame: bytes, syntax: Syntax, attributes: Attributes) -> Stored:
    """Return the stored values [height, width] of a frame, as cells of the bits allocated.

    Raises ImageUnreadable. A frame may be padded to an even length, with a zero or, by some
    writers, with ones.
    """
    frame = frame if syntax.check is _check_rle else frame.rstrip(_PADDING)
    try:
        bits = syntax.check(frame, attributes)
        values_hw = syntax.decode(frame, attributes)
    except ImageUnreadable:
        raise
    except (RuntimeError, ValueError, TypeError, struct.error) as error:
        raise _broken() from error
    shape = (attributes.height_px, attributes.width_px)
    if values_hw.shape != shape or 8 * values_hw.itemsize > attributes.bits_allocated:
        raise _broken()
    cell_bytes = attributes.bits_allocated // 8
    # In two steps: a view where the cells have this size, and else the sign is extended.
    cells_hw = values_hw.astype(f"{values_hw.dtype.kind}{cell_bytes}", copy=False)
    stored_hw: Stored = cells_hw.view(f"u{cell_bytes}")
    if syntax.is_lossy and bits > attributes.high_bit + 1 and not attributes.is_signed:
        # What exceeds white by the error of the compression would begin at black again.
        stored_hw = np.minimum(stored_hw, stored_hw.dtype.type(2 ** (attributes.high_bit + 1) - 1))
    return stored_hw


def _broken() -> ImageUnreadable:
    return ImageUnreadable("The compressed pixels of the DICOM file are broken or cut short.")


def _check_jpeg(frame: bytes, attributes: Attributes, kinds: tuple[int, ...]) -> int:
    """Check the segments of a JPEG or JPEG-LS stream up to its first scan (ITU-T T.81, T.87).

    The frame header must be one of these kinds: no transfer syntax that is read has progressive
    frames, whose scans, of a few bytes each, go over all pixels.
    """
    if frame[:2] != _SOI or frame[-2:] != _EOI:
        raise _broken()
    offset, bits = 2, 0
    for _ in range(MAX_SEGMENTS):
        marker_byte, marker, length = struct.unpack_from(">BBH", frame, offset)
        if marker_byte == marker == 0xFF:  # a fill byte (T.81, B.1.1.2)
            offset += 1
            continue
        if marker_byte != 0xFF or length < 2 or offset + 2 + length > len(frame):
            raise _broken()
        if marker == _SOS:
            if not bits:
                raise _broken()
            return bits
        if (0xC0 <= marker <= 0xCF and marker not in _NO_FRAME) or marker == 0xF7:
            if bits:  # of another frame header
                raise _broken()
            bits, height, width, components = struct.unpack_from(">BHHB", frame, offset + 4)
            stated = (height, width, components) == (attributes.height_px, attributes.width_px, 1)
            if not stated or not 2 <= bits <= attributes.bits_allocated:
                raise _broken()
            if marker not in kinds:
                raise _broken()
        elif marker == 0xF8 and frame[offset + 4] != 1:
            raise _broken()  # LSE of JPEG-LS, other than coding parameters: could change the size
        offset += 2 + length
    raise _broken()


_check_sequential = partial(_check_jpeg, kinds=(0xC0, 0xC1))
_check_lossless = partial(_check_jpeg, kinds=(0xC3,))
_check_ls = partial(_check_jpeg, kinds=(0xF7,))


def _check_jpeg2000(frame: bytes, attributes: Attributes) -> int:
    """Check the main header of a JPEG 2000 codestream (ITU-T T.800, annex A; T.814)."""
    if frame[:4] != b"\xff\x4f\xff\x51" or frame[-2:] != _EOI:
        raise _broken()
    fields = struct.unpack_from(">HHIIIIIIIIHBBB", frame, 4)
    length, _, width, height, left, top, tile_width, tile_height, tile_left, tile_top = fields[:10]
    components, depth, step_x, step_y = fields[10:]
    if (height, width, components) != (attributes.height_px, attributes.width_px, 1):
        raise _broken()
    if left or top or tile_left or tile_top or not tile_width or not tile_height:
        raise _broken()
    tiles = -(-width // tile_width) * -(-height // tile_height)
    bits: int = (depth & 0x7F) + 1
    if tiles > MAX_TILES or bits > attributes.bits_allocated or (step_x, step_y) != (1, 1):
        raise _broken()
    offset = 4 + length
    for _ in range(MAX_SEGMENTS):
        marker, length = struct.unpack_from(">HH", frame, offset)
        if marker == 0xFF90:  # SOT: the first tile
            return bits
        if marker == 0xFF52:  # COD: coding style
            layers, _, levels, block_width, block_height = struct.unpack_from(
                ">HBBBB", frame, offset + 6
            )
            if layers > MAX_LAYERS or levels > MAX_DECOMPOSITIONS:
                raise _broken()
            if max(block_width, block_height) > MAX_CODE_BLOCK_EXPONENT:
                raise _broken()
        if marker >> 8 != 0xFF or length < 2:
            raise _broken()
        offset += 2 + length
    raise _broken()


def _check_rle(frame: bytes, attributes: Attributes) -> int:
    """Check the number of segments: one for each byte of a cell (PS3.5, annex G.3)."""
    segments, first = struct.unpack_from("<II", frame)
    if segments != attributes.bits_allocated // 8 or first != RLE_HEADER_BYTES:
        raise _broken()
    return attributes.bits_allocated


def _jpeg(frame: bytes, attributes: Attributes) -> Stored:
    if attributes.bits_allocated == 8:  # strict: errors where libjpeg warns of damage
        grey_hw: Stored = simplejpeg.decode_jpeg(frame, "GRAY", strict=True)[:, :, 0]
        return grey_hw
    return np.asarray(imagecodecs.jpeg8_decode(frame))


def _jpeg_lossless(frame: bytes, _: Attributes) -> Stored:
    return np.asarray(imagecodecs.jpeg8_decode(frame))


def _jpeg_ls(frame: bytes, _: Attributes) -> Stored:
    return np.asarray(imagecodecs.jpegls_decode(frame))


def _jpeg2000(frame: bytes, _: Attributes) -> NDArray[np.integer]:
    """Decode JPEG 2000 and HTJ2K by OpenJPEG, to signed values where the codestream has such.

    Not HTJ2K by imagecodecs' htj2k_decode: of a damaged frame it returns memory as it found it.
    """
    return np.asarray(imagecodecs.jpeg2k_decode(frame))


def _rle(frame: bytes, attributes: Attributes) -> Stored:
    """Decode RLE (PS3.5, annex G): PackBits of the high bytes, then of the low bytes."""
    shape = (attributes.height_px, attributes.width_px)
    count, size = attributes.bits_allocated // 8, shape[0] * shape[1]
    ends = (*struct.unpack_from(f"<{count}I", frame, 4), len(frame))
    cells_hw = np.empty((*shape, count), np.uint8)
    for segment in range(count):
        data = frame[ends[segment] : ends[segment + 1]]
        # Room for what some writers pad a segment with.
        values = imagecodecs.packbits_decode(data, out=size + 2)
        if len(values) < size:
            raise _broken()
        cells_hw[..., count - 1 - segment] = np.frombuffer(values, np.uint8, size).reshape(shape)
    return cells_hw.view("<u2" if count == 2 else "u1")[..., 0]


SYNTAXES: dict[str, Syntax] = {
    "1.2.840.10008.1.2.4.50": Syntax("JPEG Baseline", _check_sequential, _jpeg, is_lossy=True),
    "1.2.840.10008.1.2.4.51": Syntax("JPEG Extended", _check_sequential, _jpeg, is_lossy=True),
    "1.2.840.10008.1.2.4.57": Syntax("JPEG Lossless", _check_lossless, _jpeg_lossless),
    "1.2.840.10008.1.2.4.70": Syntax("JPEG Lossless SV1", _check_lossless, _jpeg_lossless),
    "1.2.840.10008.1.2.4.80": Syntax("JPEG-LS Lossless", _check_ls, _jpeg_ls),
    "1.2.840.10008.1.2.4.81": Syntax("JPEG-LS Near-Lossless", _check_ls, _jpeg_ls, is_lossy=True),
    "1.2.840.10008.1.2.4.90": Syntax("JPEG 2000 Lossless", _check_jpeg2000, _jpeg2000),
    "1.2.840.10008.1.2.4.91": Syntax("JPEG 2000", _check_jpeg2000, _jpeg2000, is_lossy=True),
    "1.2.840.10008.1.2.4.201": Syntax("HTJ2K Lossless", _check_jpeg2000, _jpeg2000),
    "1.2.840.10008.1.2.4.202": Syntax("HTJ2K Lossless RPCL", _check_jpeg2000, _jpeg2000),
    "1.2.840.10008.1.2.4.203": Syntax("HTJ2K", _check_jpeg2000, _jpeg2000, is_lossy=True),
    "1.2.840.10008.1.2.5": Syntax("RLE Lossless", _check_rle, _rle),
}
"""Compressed transfer syntaxes, by UID (PS3.6, annex A)."""
