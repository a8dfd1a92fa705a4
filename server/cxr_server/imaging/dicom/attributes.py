"""Attributes: elements -> what the pixels are and how they are shown. Next: codestream, grey.

Refuses, by name, what is no single greyscale radiograph. The names are DICOM's (PS3.3, sections
C.7.6.3, C.8.11.3, C.11.1 and C.11.2; PS3.6).
"""

import math
import struct
from dataclasses import dataclass
from enum import StrEnum

import numpy as np
from numpy.typing import NDArray

from cxr_server.errors import ImageFormatUnsupported, ImageUnreadable
from cxr_server.imaging.dicom.elements import Elements, Values
from cxr_server.imaging.dicom.objects import refuse_objects
from cxr_server.imaging.radiograph import InputWarning

_UNSTATED = "The DICOM file does not state what its pixels are."
_LATERAL_VIEWS = {"LL", "RL"}  # decubitus, LLD and RLD, are frontal: the beam is level
_MIRRORED, _TURNED = {"RF", "LH", "FL", "HR"}, {"RH", "FR", "HL"}
"""Frontal films but LF, the upright one: where rows and columns lead (PS3.3, C.7.6.1.1.1)."""
_CHEST = ("CHEST", "RAX", "LUNG", "RIB", "STERN", "PECHO", "BRUST", "POITRINE")
"""Parts of words: thorax is also TORAX, and T?RAX where an accent was lost."""
_RADIOGRAPHS = {"CR", "DX", "DR", "RG", "OT", "SC", ""}
MAX_ASPECT_ERROR = 0.01  # pixels whose sides differ by less count as square


class VoiFunction(StrEnum):
    """How a window maps values to grey; `VOI LUT Function` (PS3.3, C.11.2.1.2, C.11.2.1.3)."""

    LINEAR = "LINEAR"
    LINEAR_EXACT = "LINEAR_EXACT"
    SIGMOID = "SIGMOID"


@dataclass(frozen=True, slots=True)
class LookupTable:
    """Entries for the input values `first`, `first + 1`, ...; `bits` is the range of the entries.

    Inputs outside take the nearest entry.
    """

    first: int
    entries: NDArray[np.uint16]
    bits: int


@dataclass(frozen=True, slots=True)
class Window:
    """The range of values that is shown. One that cannot be read has NaN for what is not known."""

    center: float
    width: float
    function: VoiFunction


@dataclass(frozen=True, slots=True, kw_only=True)
class Attributes:
    """What the pixels are, and the steps to grey.

    Stored values have `bits_stored` bits that end at `high_bit`, of cells of `bits_allocated`.
    `padding` is the range of stored values outside the exposed field, or None. A slope or intercept
    that cannot be read is NaN: an error only where it is used.
    """

    height_px: int
    width_px: int
    bits_allocated: int
    bits_stored: int
    high_bit: int
    is_signed: bool
    is_inverted: bool  # MONOCHROME1: the lowest value is white
    slope: float
    intercept: float
    modality_lut: LookupTable | None
    voi_lut: LookupTable | None
    window: Window | None
    padding: tuple[int, int] | None
    warnings: tuple[InputWarning, ...]

    @property
    def cells_bytes(self) -> int:
        """Bytes of the cells of all pixels."""
        return self.height_px * self.width_px * self.bits_allocated // 8


def attributes_of(elements: Elements) -> Attributes:
    """Read the attributes of an image. Raises ImageFormatUnsupported and ImageUnreadable."""
    reader = _Reader(elements.values, elements.byte_order)
    refuse_objects(elements.values.get(0x0008_0016, b""))
    if elements.pixels is None:
        raise ImageUnreadable("The DICOM file has no pixels, or is cut short.")
    _refuse_other_images(reader)
    bits_allocated = reader.number(0x0028_0100)
    bits_stored = reader.number(0x0028_0101, bits_allocated)
    high_bit = reader.number(0x0028_0102, bits_stored - 1)
    if bits_allocated not in (8, 16):
        raise ImageFormatUnsupported(f"The DICOM image has pixels of {bits_allocated} bits.")
    if not (1 <= bits_stored <= bits_allocated and bits_stored <= high_bit + 1 <= bits_allocated):
        raise ImageUnreadable("The bits stored and allocated of the DICOM image are inconsistent.")
    is_signed = reader.number(0x0028_0103, 0) == 1
    photometric = reader.text(0x0028_0004)
    padding = reader.padding(is_signed, bits_stored)
    # Some writers state a slope of 0 for none.
    slope, intercept = reader.decimal(0x0028_1053) or 1.0, reader.decimal(0x0028_1052) or 0.0
    modality_lut = voi_lut = None
    if elements.modality_luts:
        modality_lut = reader.of(elements.modality_luts[0]).lookup_table(is_signed)
    if elements.voi_luts:  # its inputs are signed if rescaled values can be negative
        low = -(2 ** (bits_stored - 1)) if is_signed else 0
        high = low + 2**bits_stored - 1
        is_input_signed = min(low * slope, high * slope) + intercept < 0 and not modality_lut
        voi_lut = reader.of(elements.voi_luts[0]).lookup_table(is_input_signed)
    return Attributes(
        height_px=reader.number(0x0028_0010),
        width_px=reader.number(0x0028_0011),
        bits_allocated=bits_allocated,
        bits_stored=bits_stored,
        high_bit=high_bit,
        is_signed=is_signed,
        is_inverted=photometric == "MONOCHROME1",
        slope=slope,
        intercept=intercept,
        modality_lut=modality_lut,
        voi_lut=voi_lut,
        window=reader.window(),
        padding=padding,
        warnings=_warnings(reader, photometric),
    )


def _refuse_other_images(reader: "_Reader") -> None:
    frames = reader.decimal(0x0028_0008) or 1  # some writers state 1.0, or 0
    if math.isnan(frames):
        raise ImageUnreadable("The number of frames of the DICOM file cannot be read.")
    if frames != 1:
        raise ImageFormatUnsupported(f"The DICOM file has {frames:g} frames; send one image.")
    photometric = reader.text(0x0028_0004)
    if not photometric:
        raise ImageUnreadable(_UNSTATED)
    if photometric == "PALETTE COLOR":
        raise ImageFormatUnsupported("The DICOM image has a colour palette; send a greyscale one.")
    if photometric not in ("MONOCHROME1", "MONOCHROME2"):
        name = photometric[:16] if photometric.isascii() and photometric.isprintable() else ""
        raise ImageFormatUnsupported(
            f"The DICOM image is not greyscale (its photometric interpretation is {name!r})."
        )
    if reader.number(0x0028_0002, 1) != 1:
        raise ImageFormatUnsupported("The DICOM image has several samples per pixel.")


def _warnings(reader: "_Reader", photometric: str) -> tuple[InputWarning, ...]:
    view, orientation = reader.text(0x0018_5101), reader.texts(0x0020_0020)
    leading = "".join(direction[:1] for direction in orientation)  # the first letter leads most
    is_sagittal = not {*"AP"}.isdisjoint(leading) and {*"LR"}.isdisjoint(leading)
    part, modality = reader.text(0x0018_0015), reader.text(0x0008_0060)
    shape = reader.text(0x2050_0020)
    expected = {"MONOCHROME1": "INVERSE", "MONOCHROME2": "IDENTITY"}[photometric]
    checks = {
        InputWarning.LATERAL_VIEW: _is_lateral(view) or is_sagittal,
        InputWarning.MIRRORED: leading in _MIRRORED,
        InputWarning.POSSIBLY_ROTATED: leading in _TURNED,
        InputWarning.NOT_CHEST: modality not in _RADIOGRAPHS
        or bool(part and not any(word in part for word in _CHEST)),
        InputWarning.FOR_PROCESSING: reader.text(0x0008_0068) == "FOR PROCESSING",
        InputWarning.BURNED_IN_ANNOTATION: reader.text(0x0028_0301) == "YES",
        InputWarning.PIXELS_NOT_SQUARE: reader.aspect_error() > MAX_ASPECT_ERROR,
        InputWarning.PRESENTATION_CONFLICT: shape not in ("", expected),
    }
    return tuple(warning for warning, applies in checks.items() if applies)


def _is_lateral(view: str) -> bool:
    """Tell whether a view position is lateral: a defined term, or words such as LATERAL or LAT."""
    in_words = any(word.startswith("LAT") for word in view.split()) and "DECUB" not in view
    return view in _LATERAL_VIEWS or in_words


class _Reader:
    """Reads values of elements by their value representation. Only an empty value is absent.

    Only ASCII is needed: numbers and defined terms.
    """

    def __init__(self, values: Values, byte_order: str) -> None:
        self._values, self._order = values, byte_order

    def of(self, values: Values) -> "_Reader":
        """Return a reader of other values in the same byte order."""
        return _Reader(values, self._order)

    def texts(self, tag: int) -> list[str]:
        """Return the values of a text in upper case; [] if it is absent."""
        text = self._values.get(tag, b"").decode("ascii", "replace").strip(" \0").upper()
        return [each.strip(" \0") for each in text.split("\\")] if text else []

    def text(self, tag: int) -> str:
        """Return the first value of a text in upper case, "" if it is absent."""
        return next(iter(self.texts(tag)), "")

    def decimals(self, tag: int) -> list[float | None]:
        """Return the values of a decimal or integer string (DS, IS) at their positions.

        None for an empty one, NaN for one that is no finite number.
        """
        return [_number(text) if text else None for text in self.texts(tag)]

    def decimal(self, tag: int) -> float | None:
        """Return the first value of a decimal or integer string, as `decimals` does."""
        return next(iter(self.decimals(tag)), None)

    def number(self, tag: int, default: int | None = None) -> int:
        """Return an unsigned short (US), or the default. Raises ImageUnreadable without one."""
        value = self._values.get(tag, b"")
        if len(value) >= 2:
            return int(struct.unpack_from(self._order + "H", value)[0])
        if value or default is None:
            raise ImageUnreadable(_UNSTATED)
        return default

    def padding(self, is_signed: bool, bits_stored: int) -> tuple[int, int] | None:
        """Return the stored values that are padding (PS3.3, C.7.5.1.1.2), or None."""
        if len(self._values.get(0x0028_0120, b"")) < 2:
            return None
        first = self.number(0x0028_0120)
        last = self.number(0x0028_0121, first)
        if is_signed:
            first, last = ((each ^ 0x8000) - 0x8000 for each in (first, last))
        return min(first, last), max(first, last)

    def window(self) -> Window | None:
        """Return the first window whose center and width are stated, or None.

        They are paired by position (PS3.3, C.11.2.1.2). Some writers state a width of 0 for none. A
        negative width or an unknown function cannot be read.
        """
        function = self.text(0x0028_1056) or VoiFunction.LINEAR
        pairs = zip(self.decimals(0x0028_1050), self.decimals(0x0028_1051), strict=False)
        for center, width in pairs:
            if center is None or not width:
                continue
            if width < 0 or function not in set(VoiFunction):
                return Window(math.nan, math.nan, VoiFunction.LINEAR)
            return Window(center, width, VoiFunction(function))
        return None

    def lookup_table(self, is_signed: bool) -> LookupTable:
        """Return the table of a LUT item (PS3.3, C.11.1.1). Raises ImageUnreadable.

        The first input is signed if inputs are; entries are always unsigned. Of 8-bit
        tables some writers store each entry in a word, others pack two into it.
        """
        descriptor, data = self._values.get(0x0028_3002, b""), self._values.get(0x0028_3006, b"")
        if len(descriptor) < 6:
            raise ImageUnreadable("A lookup table of the DICOM file has no descriptor.")
        count, first, bits = struct.unpack_from(self._order + "HHH", descriptor)
        count = count or 2**16  # 0 stands for 65,536 (PS3.3, C.11.1.1)
        if is_signed:
            first = (first ^ 0x8000) - 0x8000
        words = np.frombuffer(data, np.dtype(self._order + "u2"), len(data) // 2)
        entries = words.astype(np.uint16)
        if len(words) < count <= len(data) and bits <= 8:
            entries = np.frombuffer(data, np.uint8, count).astype(np.uint16)
            if self._order == ">":  # packed into words, whose lower byte is the first
                pairs = np.frombuffer(data, np.uint8, len(data) // 2 * 2).reshape(-1, 2)
                entries = pairs[:, ::-1].ravel()[:count].astype(np.uint16)
        if len(entries) < count or not 8 <= bits <= 16:
            raise ImageUnreadable("A lookup table of the DICOM file is broken.")
        entries = entries[:count]
        # Some writers state the size of an entry as stored, 16, not its range.
        used_bits = max(8, int(entries.max()).bit_length())
        return LookupTable(first, entries, used_bits if bits == 16 else max(bits, used_bits))

    def aspect_error(self) -> float:
        """Return by what share the sides of a pixel differ; 0 if nothing is stated."""
        for tag in (0x0028_0034, 0x0028_0030, 0x0018_1164):
            sides = [side for side in self.decimals(tag) if side and side > 0]
            if len(sides) == 2:
                return max(sides) / min(sides) - 1
        return 0.0


def _number(text: str) -> float:
    """Return the number that a text states, NaN if it is no finite one."""
    try:
        number = float(text)
    except ValueError:
        return math.nan
    return number if math.isfinite(number) else math.nan
