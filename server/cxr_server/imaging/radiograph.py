"""Radiograph: the decoded image, and what codecs make it of. Used by all of imaging."""

from dataclasses import dataclass
from enum import StrEnum
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from cxr_server.errors import ImageTooManyPixels, ImageTooSmall

Pixels = NDArray[np.uint8] | NDArray[np.uint16]
"""Unsigned pixels of 8 or 16 bits; zero is black, the dtype's maximum is white."""
ImageBytes = bytes | memoryview
"""An image file: its bytes, or a view of the bytes of the request that holds it."""

MIN_SPAN = 0.5
"""Share of the range of 16 bits that a properly exported image spans. Unscaled data of 14, 12 or 10
bits spans a quarter or less."""
SPAN_STEP = 16  # rows and columns that are left out where the span is first looked for


class InputWarning(StrEnum):
    """A reason to trust an answer less. Named as in the contract's `WarningCode`."""

    PHANTOM_MODEL = "PHANTOM_MODEL"
    CROPPED = "CROPPED"
    LOW_RESOLUTION = "LOW_RESOLUTION"
    LOW_CONTRAST = "LOW_CONTRAST"
    CLIPPED = "CLIPPED"
    POSSIBLY_INVERTED = "POSSIBLY_INVERTED"
    COLOR = "COLOR"
    TRANSPARENT = "TRANSPARENT"
    UNUSUAL_ASPECT_RATIO = "UNUSUAL_ASPECT_RATIO"
    REORIENTED = "REORIENTED"
    RANGE_UNUSED = "RANGE_UNUSED"
    LATERAL_VIEW = "LATERAL_VIEW"
    MIRRORED = "MIRRORED"
    NOT_CHEST = "NOT_CHEST"
    FOR_PROCESSING = "FOR_PROCESSING"
    BURNED_IN_ANNOTATION = "BURNED_IN_ANNOTATION"
    PIXELS_NOT_SQUARE = "PIXELS_NOT_SQUARE"
    PRESENTATION_CONFLICT = "PRESENTATION_CONFLICT"
    POSSIBLY_ROTATED = "POSSIBLY_ROTATED"
    POSSIBLY_NOT_CHEST = "POSSIBLY_NOT_CHEST"
    LETTERBOXED = "LETTERBOXED"
    UNTYPICAL_IMAGE = "UNTYPICAL_IMAGE"
    POSSIBLY_PHOTOGRAPH = "POSSIBLY_PHOTOGRAPH"


class DicomPresentation(StrEnum):
    """How stored values become grey; see `DicomPresentation` in the contract."""

    AS_SHOWN = "AS_SHOWN"  # as a viewer shows the image at first
    STORED = "STORED"  # as torchxrayvision 1.5.7 reads it (`utils.py`, `read_xray_dcm`)


@dataclass(frozen=True, slots=True)
class DecodeOptions:
    """How to decode what can be decoded in several ways."""

    presentation: DicomPresentation = DicomPresentation.AS_SHOWN


class Decoded(NamedTuple):
    """Greyscale pixels [height, width] as stored, and what their file said about them.

    `padding_hw` tells which pixels are outside of the exposed field; None if all are inside.
    """

    pixels_hw: Pixels
    warnings: tuple[InputWarning, ...] = ()
    padding_hw: NDArray[np.bool_] | None = None


@dataclass(frozen=True, slots=True)
class DecodeLimits:
    """Bounds on image size, checked against the file's header before any pixel is decoded."""

    min_side_px: int = 32
    max_side_px: int = 16_384
    max_pixel_count: int = 50_000_000

    def check(self, height_px: int, width_px: int) -> None:
        """Raise `ImageTooSmall` or `ImageTooManyPixels` if an image is out of bounds."""
        size = f"The image is {width_px} x {height_px} pixels"
        if min(height_px, width_px) < self.min_side_px:
            raise ImageTooSmall(f"{size}; each side must have at least {self.min_side_px}.")
        if max(height_px, width_px) > self.max_side_px:
            raise ImageTooManyPixels(
                f"{size}; no side may have more than {self.max_side_px}: send a reduced copy."
            )
        if height_px * width_px > self.max_pixel_count:
            raise ImageTooManyPixels(
                f"{size}; the maximum is {self.max_pixel_count} in total: send a reduced copy."
            )


@dataclass(frozen=True, slots=True)
class Header:
    """What a codec reads of a file without decoding pixels.

    The size is the one before any rotation, the bit depth that of a channel, and the orientation
    one of EXIF's, 1 to 8. `pixel_data` is what the codec has left to decode, which takes
    `decode_bytes` at most. `isolated` says that its decoder has had faults of memory, so that it
    must not run in the process of the server. `is_photograph` says that metadata of a camera are in
    the file.
    """

    height_px: int
    width_px: int
    bit_depth: int
    orientation: int
    pixel_data: Any
    decode_bytes: int
    isolated: bool = False
    is_photograph: bool = False


@dataclass(frozen=True, slots=True)
class Radiograph:
    """An upright greyscale image.

    Pixels are C-contiguous; zero is black, `max_value` white. The file format is the codec's name,
    the bit depth that of a channel in the file. The warnings are those that only decoding can see,
    such as COLOR, TRANSPARENT and REORIENTED, and those that a DICOM header gives rise to.
    `padding_hw` is that of `Decoded`. `presentation` is what was applied, None but for DICOM.
    """

    pixels_hw: Pixels
    max_value: int
    file_format: str
    bit_depth: int
    warnings: tuple[InputWarning, ...] = ()
    padding_hw: NDArray[np.bool_] | None = None
    presentation: DicomPresentation | None = None

    @property
    def height_px(self) -> int:
        """Height."""
        return int(self.pixels_hw.shape[0])

    @property
    def width_px(self) -> int:
        """Width."""
        return int(self.pixels_hw.shape[1])

    @property
    def display_range(self) -> tuple[int, int]:
        """The pixel values that a picture of this image shows as black and as white.

        The whole range, (0, `max_value`), or the least and the greatest value of a 16-bit image
        that spans less than `MIN_SPAN` of it. The network's input is always scaled by the whole
        range, as in torchxrayvision.
        """
        whole = 0, self.max_value
        if self.pixels_hw.dtype == np.uint8:
            return whole
        for step in (SPAN_STEP, 1):  # most images are known to span enough from few pixels
            part = self.pixels_hw[::step, ::step]
            low, high = int(part.min()), int(part.max())
            if high - low >= MIN_SPAN * self.max_value:
                return whole
        return (low, high) if low < high else whole

    def display_hw(self) -> NDArray[np.uint8]:
        """Return a copy with 8 bits, its `display_range` spread over 0 to 255."""
        pixels_hw, (low, high) = self.pixels_hw, self.display_range
        if pixels_hw.dtype == np.uint8:
            return pixels_hw.astype(np.uint8)
        if (low, high) == (0, 0xFFFF):
            return np.right_shift(pixels_hw, 8).astype(np.uint8)
        levels = np.clip((np.arange(high + 1) - low) * (255 / (high - low)), 0, 255)
        return np.asarray(np.rint(levels).astype(np.uint8)[pixels_hw])
