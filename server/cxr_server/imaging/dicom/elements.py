"""Elements: DICOM file -> the few attributes that a radiograph needs. Next: attributes.

A bounded walk over the data elements (DICOM PS3.5, section 7 and annex A; PS3.10, section 7.1):
no recursion, at most `MAX_STEPS` elements and items, at most `MAX_DEPTH` open sequences and items,
and at most `MAX_HEADER_BYTES` inflated before the pixels. Elements that are not in `WANTED`, those
about the patient among them, are stepped over and never decoded.
"""

import struct
from dataclasses import dataclass, field

from isal.igzip_lib import IsalError
from isal.isal_zlib import MAX_WBITS, decompressobj

from cxr_server.errors import ImageFormatUnsupported, ImageUnreadable
from cxr_server.imaging.dicom.objects import refuse_objects
from cxr_server.imaging.radiograph import ImageBytes

IMPLICIT_VR, EXPLICIT_VR = "1.2.840.10008.1.2", "1.2.840.10008.1.2.1"
DEFLATED, BIG_ENDIAN = "1.2.840.10008.1.2.1.99", "1.2.840.10008.1.2.2"

PREAMBLE_BYTES = 128
MAX_STEPS = 20_000
MAX_DEPTH = 16
MAX_HEADER_BYTES = 4 * 2**20
"""Most bytes before the pixels of a deflated file. Bounds what is inflated to find them."""
INFLATED_AT_ONCE_BYTES = 2**18  # of the compressed ones
MAX_VALUE_BYTES = 2**17 + 2
"""Longest value that is kept: a lookup table of 65,536 entries of 16 bits."""

MODALITY_LUT_SEQUENCE, VOI_LUT_SEQUENCE = 0x0028_3000, 0x0028_3010
PIXEL_DATA = 0x7FE0_0010
WANTED = frozenset(
    {
        0x0002_0002,  # Media Storage SOP Class UID
        0x0002_0010,  # Transfer Syntax UID
        0x0008_0016,  # SOP Class UID
        0x0008_0060,  # Modality
        0x0008_0068,  # Presentation Intent Type
        0x0018_0015,  # Body Part Examined
        0x0018_1164,  # Imager Pixel Spacing
        0x0018_5101,  # View Position
        0x0020_0020,  # Patient Orientation
        0x0028_0002,  # Samples per Pixel
        0x0028_0004,  # Photometric Interpretation
        0x0028_0008,  # Number of Frames
        0x0028_0010,  # Rows
        0x0028_0011,  # Columns
        0x0028_0030,  # Pixel Spacing
        0x0028_0034,  # Pixel Aspect Ratio
        0x0028_0100,  # Bits Allocated
        0x0028_0101,  # Bits Stored
        0x0028_0102,  # High Bit
        0x0028_0103,  # Pixel Representation
        0x0028_0120,  # Pixel Padding Value
        0x0028_0121,  # Pixel Padding Range Limit
        0x0028_0301,  # Burned In Annotation
        0x0028_1050,  # Window Center
        0x0028_1051,  # Window Width
        0x0028_1052,  # Rescale Intercept
        0x0028_1053,  # Rescale Slope
        0x0028_1056,  # VOI LUT Function
        0x0028_3002,  # LUT Descriptor
        0x0028_3006,  # LUT Data
        0x2050_0020,  # Presentation LUT Shape
    }
)
"""Elements whose value is kept."""
_FLOAT_PIXELS = (0x7FE0_0008, 0x7FE0_0009)

_ITEM, _ITEM_END, _SEQUENCE_END = 0xFFFE_E000, 0xFFFE_E00D, 0xFFFE_E0DD
_UNDEFINED = 0xFFFF_FFFF
_LONG_VRS = frozenset(b"OB OD OF OL OV OW SQ SV UC UN UR UT UV".split())
_VRS = _LONG_VRS | frozenset(
    b"AE AS AT CS DA DS DT FL FD IS LO LT PN SH SL SS ST TM UI UL US".split()
)

Values = dict[int, bytes]


@dataclass(frozen=True, slots=True)
class DeflatedPixels:
    """Where the pixels lie in the dataset that a deflated file holds."""

    dataset: memoryview
    offset: int
    length: int

    def inflated(self, size_bytes: int) -> memoryview:
        """Return the first bytes of the pixels, which may be many more. Raises ImageUnreadable."""
        data = _inflate(self.dataset, self.offset + size_bytes)
        if len(data) < self.offset + size_bytes:
            raise ImageUnreadable("The pixels of the DICOM file are cut short.")
        return memoryview(data)[self.offset :]


@dataclass(slots=True)
class Elements:
    """The kept values by tag, as stored, and where the pixels are.

    `pixels` is the value of Pixel Data, or its fragments without the offset table if it is
    encapsulated; None if the file has none.
    """

    transfer_syntax: str
    values: Values
    byte_order: str = "<"  # as `struct` spells it
    modality_luts: list[Values] = field(default_factory=list)
    voi_luts: list[Values] = field(default_factory=list)
    pixels: memoryview | list[memoryview] | DeflatedPixels | None = None
    pixels_vr: bytes = b""


def read_elements(data: ImageBytes) -> Elements:
    """Read a DICOM file (PS3.10) up to its pixels.

    Raises ImageUnreadable if it is broken, cut short or beyond the bounds, and
    ImageFormatUnsupported for floating-point pixels and objects that are no images.
    """
    view = memoryview(data)
    meta = Elements(EXPLICIT_VR, {})
    start = _Walk(view, PREAMBLE_BYTES + 4, meta).file_meta()
    refuse_objects(meta.values.get(0x0002_0002, b""))  # before the walk: they may be long
    # Without one, the file has DICOM's default transfer syntax.
    stated = meta.values.pop(0x0002_0010, IMPLICIT_VR.encode())
    syntax = stated.rstrip(b"\0 ").decode("ascii", "replace")
    found = Elements(syntax, meta.values, ">" if syntax == BIG_ENDIAN else "<")
    if syntax != DEFLATED:
        _Walk(view, start, found).dataset()
        return found
    header = memoryview(_inflate(view[start:], MAX_HEADER_BYTES))
    _Walk(header, 0, found, deflated=view[start:]).dataset()
    return found


def _inflate(deflated: memoryview, max_bytes: int) -> bytes:
    """Return the first bytes of a dataset; fewer if it has no more. Raises ImageUnreadable."""
    inflater, parts, left_bytes = decompressobj(-MAX_WBITS), list[bytes](), max_bytes
    # In parts: the inflater copies what it is given and does not need.
    for start in range(0, len(deflated), INFLATED_AT_ONCE_BYTES):
        try:
            part = inflater.decompress(deflated[start : start + INFLATED_AT_ONCE_BYTES], left_bytes)
        except IsalError:  # type: ignore[misc]  # isal's type stub makes it an instance
            raise ImageUnreadable("The compressed dataset of the DICOM file is broken.") from None
        parts.append(part)
        left_bytes -= len(part)
        if not left_bytes or inflater.eof:
            break
    return b"".join(parts)


@dataclass(slots=True)
class _Level:
    """A dataset, a sequence or an item that the walk is in."""

    end: int
    explicit: bool
    is_undefined: bool = False
    values: Values | None = None  # where values are kept, if they are
    items: list[Values] | None = None  # where the items of a sequence are kept, if they are


class _Walk:
    """One walk over data elements from an offset on."""

    def __init__(
        self,
        data: memoryview,
        offset: int,
        found: Elements,
        *,
        deflated: memoryview | None = None,
    ) -> None:
        self._data, self._offset, self._found = data, offset, found
        self._order = found.byte_order
        self._deflated = deflated  # what the data was inflated from, if it was

    def file_meta(self) -> int:
        """Keep the file meta information, of group 2. Returns the offset of the dataset."""
        for _ in range(MAX_STEPS):
            if bytes(self._data[self._offset : self._offset + 2]) != b"\x02\x00":
                return self._offset
            tag, _, length = self._head(explicit=True)
            self._value(tag, length, len(self._data), self._found.values)
        raise ImageUnreadable("The DICOM file has more elements than are read.")

    def dataset(self) -> None:
        """Keep the wanted elements, up to and including the pixels, if there are any."""
        found = self._found
        explicit = found.transfer_syntax != IMPLICIT_VR
        stack = [_Level(len(self._data), explicit, values=found.values)]
        for _ in range(MAX_STEPS):
            while self._offset >= stack[-1].end:
                if len(stack) == 1:
                    return
                stack.pop()
            level = stack[-1]
            tag, vr, length = self._head(level.explicit)
            if tag in (_ITEM_END, _SEQUENCE_END):
                # Some writers also delimit sequences of a stated length.
                if level.is_undefined:
                    stack.pop()
            elif len(stack) == 1 and tag == PIXEL_DATA:
                found.pixels_vr = vr
                self._pixels(length)
                return
            elif tag in _FLOAT_PIXELS:
                raise ImageFormatUnsupported("The DICOM file has floating-point pixels.")
            elif opened := self._opened(tag, vr, length, level, is_top=len(stack) == 1):
                stack.append(opened)
                if len(stack) > MAX_DEPTH:
                    raise ImageUnreadable("The sequences of the DICOM file are nested too deeply.")
            else:
                self._value(tag, length, level.end, level.values)
        raise ImageUnreadable("The DICOM file has more elements than are read.")

    def _opened(
        self, tag: int, vr: bytes, length: int, parent: _Level, *, is_top: bool
    ) -> _Level | None:
        """Return the level of a sequence or item to walk into; None for a value to step over."""
        is_undefined = length == _UNDEFINED
        end = parent.end if is_undefined else self._offset + length
        if tag == _ITEM:
            if not is_undefined and parent.items is None:
                return None
            values: Values | None = None if parent.items is None else {}
            if values is not None and parent.items is not None:
                parent.items.append(values)
            return _Level(min(end, parent.end), parent.explicit, is_undefined, values)
        luts = {
            MODALITY_LUT_SEQUENCE: self._found.modality_luts,
            VOI_LUT_SEQUENCE: self._found.voi_luts,
        }.get(tag)
        explicit = parent.explicit and vr != b"UN"  # else implicit inside (PS3.5, section 6.2.2)
        if is_top and luts is not None:
            return _Level(min(end, parent.end), explicit, is_undefined, items=luts)
        if is_undefined:
            return _Level(end, explicit, is_undefined=True)
        return None

    def _head(self, explicit: bool) -> tuple[int, bytes, int]:
        """Return tag, VR (empty if implicit) and length; go to the value."""
        data, at = self._data, self._offset
        try:
            group, element = struct.unpack_from(self._order + "HH", data, at)
            tag = group << 16 | element
            if not explicit or group == 0xFFFE:
                self._offset += 8
                return tag, b"", struct.unpack_from(self._order + "I", data, at + 4)[0]
            vr = bytes(data[at + 4 : at + 6])
            if vr not in _VRS:
                raise ImageUnreadable("The DICOM file has an element of an invalid type.")
            if vr in _LONG_VRS:
                self._offset += 12
                return tag, vr, struct.unpack_from(self._order + "I", data, at + 8)[0]
            self._offset += 8
            return tag, vr, struct.unpack_from(self._order + "H", data, at + 6)[0]
        except struct.error:
            raise ImageUnreadable("The DICOM file is cut short.") from None

    def _value(self, tag: int, length: int, end: int, values: Values | None) -> None:
        """Keep a value if it is wanted, and step over it."""
        start, self._offset = self._offset, self._offset + length
        if self._offset > end:
            raise ImageUnreadable("The DICOM file is cut short.")
        if values is not None and tag in WANTED and length <= MAX_VALUE_BYTES:
            values[tag] = bytes(self._data[start : self._offset])

    def _pixels(self, length: int) -> None:
        found, offset = self._found, self._offset
        if self._deflated is not None and length != _UNDEFINED:
            found.pixels = DeflatedPixels(self._deflated, offset, length)
        elif length == _UNDEFINED:
            found.pixels = self._fragments()
        elif offset + length > len(self._data):
            raise ImageUnreadable("The pixels of the DICOM file are cut short.")
        else:
            found.pixels = self._data[offset : offset + length]

    def _fragments(self) -> list[memoryview]:
        """Return the fragments of encapsulated pixels (PS3.5, annex A.4)."""
        fragments: list[memoryview] = []
        for _ in range(MAX_STEPS):
            tag, _, length = self._head(explicit=False)
            if tag == _SEQUENCE_END:
                return fragments[1:]  # the first item is the offset table
            if tag != _ITEM or self._offset + length > len(self._data):
                break
            fragments.append(self._data[self._offset : self._offset + length])
            self._offset += length
        raise ImageUnreadable("The pixels of the DICOM file are broken or cut short.")
