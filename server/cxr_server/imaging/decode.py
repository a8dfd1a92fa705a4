"""Decode: image bytes -> Radiograph. Next: cautions, fit."""

from dataclasses import dataclass
from typing import cast

import numpy as np

from cxr_server.errors import ImageTooManyPixels, ImageTooSmall
from cxr_server.imaging import grey, jpeg, png
from cxr_server.imaging.grey import Pixels
from cxr_server.imaging.header import FileFormat, file_format
from cxr_server.imaging.quality import Caution

LOCKED_BYTES = 2_200_000
"""Pixels of a PNG that may be decoded while Python's other threads wait: 1024 x 1024 of 16 bits."""


@dataclass(frozen=True, slots=True)
class DecodeLimits:
    """What is decoded at most; checked against the header before any pixel is.

    Attributes:
        min_side_px: Least height and width.
        max_side_px: Greatest height and width.
        max_pixel_count: Most pixels.
        locked_bytes: Most bytes of pixels that may be decoded by a faster library that keeps
            Python's other threads waiting, some 4 ms for each MiB; 0 for never.
    """

    min_side_px: int = 32
    max_side_px: int = 16_384
    max_pixel_count: int = 50_000_000
    locked_bytes: int = LOCKED_BYTES


@dataclass(frozen=True, slots=True)
class Radiograph:
    """A grey image, upright.

    Attributes:
        pixels_hw: uint8 or uint16 [height, width], C-contiguous, zero is black; read-only.
        max_value: The value of white: 255 for uint8, 65535 for uint16.
        file_format: "PNG" or "JPEG".
        bit_depth: Bits per channel in the file: 1, 2, 4, 8 or 16.
        cautions: What only decoding sees: COLOR, TRANSPARENT, REORIENTED.
    """

    pixels_hw: Pixels
    max_value: int
    file_format: FileFormat
    bit_depth: int
    cautions: tuple[Caution, ...] = ()

    @property
    def height_px(self) -> int:
        """Height of the upright image."""
        return int(self.pixels_hw.shape[0])

    @property
    def width_px(self) -> int:
        """Width of the upright image."""
        return int(self.pixels_hw.shape[1])


DEFAULT_LIMITS = DecodeLimits()


def decode(data: bytes, limits: DecodeLimits = DEFAULT_LIMITS) -> Radiograph:
    """Decode a PNG or JPEG file to grey.

    Grey of 1, 2, 4 and 8 bits becomes 0..255, grey of 16 bits stays. Colour becomes luma
    (ITU-R 601, as Pillow's "L"): JPEG's own luma channel where it has one. Colour and
    grey-with-alpha PNG of 16 bits keep their upper 8. What is transparent is laid over black.
    CMYK JPEG counts as inverted where Adobe's segment says so. The EXIF orientation of either
    format is applied.

    Args:
        data: The file's bytes.
        limits: Least and greatest sides and pixels.

    Raises:
        ImageEmpty: There are no bytes.
        ImageFormatUnsupported: Neither PNG nor JPEG, or a kind of those that is not read.
        ImageTooSmall: A side is below the limit.
        ImageTooManyPixels: A side, or the pixels, are above the limit.
        ImageUnreadable: The file is broken, cut short or inconsistent.
    """
    kind = file_format(data)
    if kind == "PNG":
        png_header = png.read_header(data)
        _check_size(png_header.height_px, png_header.width_px, limits)
        body = png.read_body(data, png_header)
        pixels_hw, found = grey.from_png(png_header, body, limits.locked_bytes)
        orientation, bit_depth = body.orientation, png_header.bit_depth
    else:
        jpeg_header = jpeg.read_header(data)
        _check_size(jpeg_header.height_px, jpeg_header.width_px, limits)
        jpeg.check_scans(jpeg_header)
        pixels_hw, found = grey.from_jpeg(jpeg_header)
        orientation, bit_depth = jpeg_header.orientation, 8
    if orientation != 1:
        pixels_hw = upright(pixels_hw, orientation)
        found = (*found, Caution.REORIENTED)
    max_value = 65_535 if pixels_hw.dtype == np.uint16 else 255
    return Radiograph(pixels_hw, max_value, kind, bit_depth, found)


def upright(pixels_hw: Pixels, orientation: int) -> Pixels:
    """Undo an EXIF orientation of 1 to 8 (EXIF 2.32, tag 0x0112)."""
    if orientation in (5, 6, 7, 8):
        pixels_hw = pixels_hw.T
    if orientation in (3, 4, 7, 8):
        pixels_hw = pixels_hw[::-1]
    if orientation in (2, 3, 6, 7):
        pixels_hw = pixels_hw[:, ::-1]
    return cast(Pixels, np.ascontiguousarray(pixels_hw))


def _check_size(height_px: int, width_px: int, limits: DecodeLimits) -> None:
    if min(height_px, width_px) < limits.min_side_px:
        raise ImageTooSmall(
            f"The image is {width_px} x {height_px} pixels; "
            f"each side must have at least {limits.min_side_px}."
        )
    if max(height_px, width_px) > limits.max_side_px:
        raise ImageTooManyPixels(
            f"The image is {width_px} x {height_px} pixels; "
            f"no side may have more than {limits.max_side_px}."
        )
    if height_px * width_px > limits.max_pixel_count:
        raise ImageTooManyPixels(
            f"The image is {width_px} x {height_px} pixels; "
            f"it may have at most {limits.max_pixel_count}."
        )
