"""Radiograph: the decoded image, and what codecs make it of. Used by all of imaging."""

from dataclasses import dataclass
from enum import StrEnum
from typing import Any

import numpy as np
from numpy.typing import NDArray

from cxr_server.errors import ImageTooManyPixels, ImageTooSmall

Pixels = NDArray[np.uint8] | NDArray[np.uint16]
"""Unsigned pixels of 8 or 16 bits; zero is black, the dtype's maximum is white."""


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
            raise ImageTooManyPixels(f"{size}; no side may have more than {self.max_side_px}.")
        if height_px * width_px > self.max_pixel_count:
            raise ImageTooManyPixels(f"{size}; the maximum is {self.max_pixel_count} in total.")


@dataclass(frozen=True, slots=True)
class Header:
    """What a codec reads of a file without decoding pixels.

    The size is the one before any rotation, the bit depth that of a channel, and the orientation
    EXIF's, 1 to 8. `pixel_data` is what the codec has left to decode.
    """

    height_px: int
    width_px: int
    bit_depth: int
    orientation: int
    pixel_data: Any


@dataclass(frozen=True, slots=True)
class Radiograph:
    """An upright greyscale image.

    Pixels are C-contiguous; zero is black, `max_value` white. The file format is the codec's name,
    the bit depth that of a channel in the file. The warnings are those that only decoding can see:
    COLOR, TRANSPARENT, REORIENTED.
    """

    pixels_hw: Pixels
    max_value: int
    file_format: str
    bit_depth: int
    warnings: tuple[InputWarning, ...] = ()

    @property
    def height_px(self) -> int:
        """Height."""
        return int(self.pixels_hw.shape[0])

    @property
    def width_px(self) -> int:
        """Width."""
        return int(self.pixels_hw.shape[1])

    @property
    def value_range(self) -> tuple[int, int]:
        """Least and greatest pixel value that occur."""
        return int(self.pixels_hw.min()), int(self.pixels_hw.max())

    @property
    def bits_used(self) -> int:
        """Number of bits from the lowest to the highest that is set in any pixel.

        12 for a 12-bit image in a 16-bit container, shifted up or not; 0 if all pixels are black.
        """
        bits = int(np.bitwise_or.reduce(self.pixels_hw, axis=None))
        return (bits // (bits & -bits)).bit_length() if bits else 0
