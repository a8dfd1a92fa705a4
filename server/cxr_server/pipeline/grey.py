"""Grey: a file of pixels -> grey pixels and what was seen on the way. Next: decode.

Pillow decodes here and nowhere else. It is given files that consist of pixels alone, through
the two plugins' own classes, so that neither its registry nor its global settings matter.
"""

from io import BytesIO

import numpy as np
from numpy.typing import NDArray
from PIL import Image, ImageChops, ImageFile, JpegImagePlugin, PngImagePlugin

from cxr_server.errors import ImageUnreadable
from cxr_server.pipeline import png
from cxr_server.pipeline.cautions import Caution
from cxr_server.pipeline.jpeg import JpegHeader

Pixels = NDArray[np.uint8] | NDArray[np.uint16]
Found = tuple[Caution, ...]

COLOR_GRID_SIDE = 256
"""Colour is looked for on a grid of about this many rows and columns."""
COLOR_SPREAD = 24
"""A point is coloured when its channels differ by more than this, of 255; rounding in JPEG
makes a few of it."""
COLOR_SHARE = 0.002
"""An image is coloured when more than this share of its points is."""
JPEG_COLOR_REDUCTION = 8
"""JPEG colour is looked for in a picture reduced by this, which costs little to decode."""
_LUMA = np.array([19_595, 38_470, 7_471], dtype=np.uint32)
"""ITU-R 601 luma times 65536, rounded as in Pillow."""


def from_png(header: png.PngHeader, body: png.PngBody) -> tuple[Pixels, Found]:
    """Decode a PNG's pixels to grey, uint16 for grey of 16 bits and else uint8."""
    image = _loaded(_opened(PngImagePlugin.PngImageFile, body.pixel_file))
    if header.color_type == png.PALETTE:
        return _from_palette(np.asarray(image), body)
    if header.color_type == png.GREY:
        return _from_grey(np.asarray(image), header.bit_depth, body.transparency)
    coloured: Found = ()
    if header.color_type in (png.RGB, png.RGB_ALPHA) and _has_color(_grid(np.asarray(image))):
        coloured = (Caution.COLOR,)
    if header.color_type == png.RGB and body.transparency is None:
        return np.asarray(image.convert("L")), coloured
    grey_alpha = np.asarray(image.convert("RGBA").convert("LA"))
    grey_hw, seen = _over_black(grey_alpha[..., 0], grey_alpha[..., 1])
    return grey_hw, coloured + seen


def from_jpeg(header: JpegHeader) -> tuple[Pixels, Found]:
    """Decode a JPEG's pixels to uint8 grey, straight to its luma where it has one."""
    image = _opened(JpegImagePlugin.JpegImageFile, header.pixel_file)
    if header.component_count == 4:
        cmyk: Image.Image = _loaded(image)
        if not header.adobe:
            # Pillow takes every CMYK JPEG for inverted, as Adobe writes them.
            cmyk = ImageChops.invert(cmyk)
        rgb = cmyk.convert("RGB")
        coloured = (Caution.COLOR,) if _has_color(_grid(np.asarray(rgb))) else ()
        return np.asarray(rgb.convert("L")), coloured
    coloured = ()
    if header.component_count == 3:
        small = _opened(JpegImagePlugin.JpegImageFile, header.pixel_file)
        small.draft(
            "RGB",
            (
                max(1, header.width_px // JPEG_COLOR_REDUCTION),
                max(1, header.height_px // JPEG_COLOR_REDUCTION),
            ),
        )
        if _has_color(_grid(np.asarray(_loaded(small)))):
            coloured = (Caution.COLOR,)
        image.draft("L", image.size)
    return np.asarray(_loaded(image)), coloured


def _opened(
    plugin: type[PngImagePlugin.PngImageFile] | type[JpegImagePlugin.JpegImageFile],
    pixel_file: bytes,
) -> ImageFile.ImageFile:
    try:
        return plugin(BytesIO(pixel_file))
    except (OSError, SyntaxError, ValueError, EOFError) as error:
        raise ImageUnreadable("The header of the image is broken.") from error


def _loaded(image: ImageFile.ImageFile) -> ImageFile.ImageFile:
    """Decode the pixels; whatever the decoder says becomes one sentence of ours."""
    try:
        image.load()
    except (OSError, SyntaxError, ValueError, EOFError, IndexError) as error:
        raise ImageUnreadable("The pixels of the image are broken or cut short.") from error
    return image


def _from_grey(stored: Pixels, bit_depth: int, transparency: bytes | None) -> tuple[Pixels, Found]:
    grey_hw: Pixels = stored
    if bit_depth == 1:
        grey_hw = stored.view(np.uint8) * np.uint8(255)
    if transparency is None or len(transparency) < 2:
        return grey_hw, ()
    level = int.from_bytes(transparency[:2], "big") & ((1 << bit_depth) - 1)
    hidden = grey_hw == (level if bit_depth == 16 else level * 255 // ((1 << bit_depth) - 1))
    if not hidden.any():
        return grey_hw, ()
    return np.where(hidden, grey_hw.dtype.type(0), grey_hw), (Caution.TRANSPARENT,)


def _from_palette(index_hw: NDArray[np.uint8], body: png.PngBody) -> tuple[Pixels, Found]:
    """Turn palette indices to grey by a table of 256 greys."""
    rgb = np.zeros((256, 3), dtype=np.uint8)
    entries = np.frombuffer(body.palette or b"", dtype=np.uint8).reshape(-1, 3)
    rgb[: len(entries)] = entries
    alpha = np.full(256, 255, dtype=np.uint8)
    stated = np.frombuffer(body.transparency or b"", dtype=np.uint8)[:256]
    alpha[: len(stated)] = stated
    luma = ((rgb @ _LUMA + 0x8000) >> 16).astype(np.uint8)
    table = (luma.astype(np.uint16) * alpha + 127) // 255
    grid = _grid(index_hw)
    found: Found = (Caution.COLOR,) if _has_color(rgb[grid]) else ()
    if (alpha[grid] < 255).any():
        found += (Caution.TRANSPARENT,)
    return table.astype(np.uint8)[index_hw], found


def _over_black(
    grey_hw: NDArray[np.uint8], alpha_hw: NDArray[np.uint8]
) -> tuple[NDArray[np.uint8], Found]:
    if (alpha_hw == 255).all():
        return np.ascontiguousarray(grey_hw), ()
    laid = (grey_hw.astype(np.uint16) * alpha_hw + 127) // 255
    return laid.astype(np.uint8), (Caution.TRANSPARENT,)


def _grid(pixels: NDArray[np.uint8]) -> NDArray[np.uint8]:
    """Take a grid of points out of an image, to judge it by."""
    height, width = pixels.shape[:2]
    return pixels[:: max(1, height // COLOR_GRID_SIDE), :: max(1, width // COLOR_GRID_SIDE)]


def _has_color(points_hwc: NDArray[np.uint8]) -> bool:
    rgb = points_hwc[..., :3]
    spread = rgb.max(axis=-1) - rgb.min(axis=-1)
    return bool(np.count_nonzero(spread > COLOR_SPREAD) > COLOR_SHARE * spread.size)
