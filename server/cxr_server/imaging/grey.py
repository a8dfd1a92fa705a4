"""Grey: a file of pixels -> grey pixels and what was seen on the way. Next: decode.

Pillow decodes PNG here, kornia plain grey ones up to `locked_bytes`, and simplejpeg (libjpeg-turbo)
JPEG; none of them does so anywhere else. simplejpeg is told to fail where libjpeg would only
warn: Pillow passes over such warnings, and hands out the missing half of a damaged file as plain
grey. Pillow's plugin class is called by itself, so that neither its registry nor its global
settings matter.
"""

from io import BytesIO

import numpy as np
import simplejpeg
from kornia_rs.io import decode_image_png_u8, decode_image_png_u16
from numpy.typing import NDArray
from PIL import Image, PngImagePlugin

from cxr_server.errors import ImageUnreadable
from cxr_server.imaging import png
from cxr_server.imaging.jpeg import JpegHeader
from cxr_server.imaging.quality import Caution

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
"""JPEG colour is looked for in a picture reduced by this: its pixels are the averages of the
file's 8 x 8 blocks, and come without a transform."""
_UNLIKELY: dict[str, int | tuple[int, ...]] = {
    "1": 1,
    "L": 0x5A,
    "P": 0xC7,
    "I;16": 0x5AC7,
    "RGB": (0x5A, 0xC7, 0x13),
    "LA": (0x5A, 0x13),
    "RGBA": (0x5A, 0xC7, 0x13, 0x13),
}
"""A value, by Pillow's mode, that hardly ever fills the last row of a PNG."""
BAND_ROWS = 256
"""Rows of a CMYK image that are turned to grey at once."""
_LUMA = np.array([19_595, 38_470, 7_471], dtype=np.uint32)
"""ITU-R 601 luma times 65536, rounded as in Pillow and libjpeg."""


def from_png(header: png.PngHeader, body: png.PngBody, locked_bytes: int) -> tuple[Pixels, Found]:
    """Decode a PNG's pixels to grey, uint16 for grey of 16 bits and else uint8.

    Args:
        header: The file's header.
        body: What else it holds.
        locked_bytes: Most bytes of pixels for which the interpreter's lock may be kept.
    """
    if header.color_type == png.GREY and png.stored_byte_count(header) <= locked_bytes:
        plain_hw = _load_plain(header, body)
        if plain_hw is not None:
            return _hide(plain_hw, header.bit_depth, body.transparency)
    image = _load_png(header, body)
    if header.color_type == png.PALETTE:
        return _from_palette(np.asarray(image), body)
    if header.color_type == png.GREY:
        spread = image.convert("L") if header.bit_depth == 1 else image
        return _hide(np.asarray(spread), header.bit_depth, body.transparency)
    found: Found = ()
    if header.color_type != png.GREY_ALPHA and _has_color(np.asarray(_grid(image))):
        found = (Caution.COLOR,)
    grey_hw = np.asarray(image.convert("L"))
    if header.color_type != png.RGB:
        visible_hw = np.asarray(image.getchannel("A"))
    elif body.transparency is not None:
        # One colour of the file stands for "transparent"; of 16 bits, the upper 8 are compared.
        hidden = np.frombuffer(body.transparency, ">u2")[:3] >> (header.bit_depth - 8)
        visible_hw = np.where((np.asarray(image) == hidden).all(axis=-1), 0, 255).astype(np.uint8)
    else:
        return grey_hw, found
    if (visible_hw == 255).all():
        return grey_hw, found
    return _over_black(grey_hw, visible_hw), (*found, Caution.TRANSPARENT)


def from_jpeg(header: JpegHeader) -> tuple[Pixels, Found]:
    """Decode a JPEG's pixels to uint8 grey, straight to its luma where it has one."""
    if header.component_count == 4:
        stored_hwc = _load_jpeg(header, "CMYK")
        inverted = 0 if header.adobe else 255

        def rgb_of(ink: NDArray[np.uint8]) -> NDArray[np.uint8]:
            # Ink that is stored inverted is light: the more, the brighter.
            light = ink ^ np.uint8(inverted)
            return _over_black(light[..., :3], light[..., 3:])

        grey_hw = np.empty(stored_hwc.shape[:2], dtype=np.uint8)
        for top in range(0, len(grey_hw), BAND_ROWS):  # a whole image in 32 bits is large
            band = slice(top, top + BAND_ROWS)
            grey_hw[band] = _luma(rgb_of(stored_hwc[band]))
        has_color = _has_color(rgb_of(_grid_points(stored_hwc)))
        return grey_hw, (Caution.COLOR,) if has_color else ()
    found: Found = ()
    if header.component_count == 3 and _has_color(_load_jpeg(header, "RGB", JPEG_COLOR_REDUCTION)):
        found = (Caution.COLOR,)
    return _load_jpeg(header, "GRAY")[..., 0], found


def _load_plain(header: png.PngHeader, body: png.PngBody) -> Pixels | None:
    """Decode a grey PNG by kornia, in a quarter of Pillow's time; None for what it does not read.

    kornia (the png crate of Rust) keeps the interpreter's lock meanwhile, so that no other thread
    of Python runs. What it objects to goes to Pillow, whose verdict counts. What it does not object
    to is the same to Pillow, but for a wrong Adler-32 behind the compressed pixels, at which kornia
    does not look; the chunks' own checksums were right if we are here.
    """
    if header.interlaced or header.bit_depth < 8:
        return None
    load = decode_image_png_u16 if header.bit_depth == 16 else decode_image_png_u8
    try:
        pixels_hwc: Pixels = load(body.pixel_file, (header.height_px, header.width_px), "mono")
    except BaseException as error:
        if isinstance(error, Exception) or type(error).__name__ == "PanicException":  # pyo3's
            return None
        raise
    return pixels_hwc[..., 0]


def _load_png(header: png.PngHeader, body: png.PngBody) -> Image.Image:
    """Decode a PNG's pixels; whatever Pillow says becomes one sentence of ours.

    Where the compressed pixels end early but cleanly, Pillow leaves the rest as it was. So the
    image is filled with an unlikely value first, and counted where that shows in the end.
    """
    try:
        image = PngImagePlugin.PngImageFile(BytesIO(body.pixel_file))
        blank = Image.new(image.mode, image.size, _UNLIKELY[image.mode])
        image.im = blank.im
        image.load()
    except (OSError, SyntaxError, ValueError, EOFError, IndexError) as error:
        raise ImageUnreadable("The pixels of the PNG file are broken or cut short.") from error
    # Rows come in order; of an interlaced image the odd rows come last.
    last = image.height - 1
    if header.interlaced and last % 2 == 0:
        last = max(0, last - 1)
    row = image.crop((0, last, image.width, last + 1))
    untouched = row.tobytes() == Image.new(row.mode, row.size, _UNLIKELY[row.mode]).tobytes()
    if untouched and not png.is_complete(body, header):
        raise ImageUnreadable("The PNG file holds fewer pixels than it states.")
    return image


def _load_jpeg(header: JpegHeader, colorspace: str, reduction: int = 1) -> NDArray[np.uint8]:
    """Decode a JPEG's pixels [height, width, channels]; libjpeg's warnings are errors."""
    try:
        pixels_hwc: NDArray[np.uint8] = simplejpeg.decode_jpeg(
            header.pixel_file,
            colorspace,
            min_height=header.height_px // reduction,
            min_width=header.width_px // reduction,
            strict=True,
        )
    except ValueError as error:
        raise ImageUnreadable("The pixels of the JPEG file are broken or cut short.") from error
    return pixels_hwc


def _hide(grey_hw: Pixels, bit_depth: int, transparency: bytes | None) -> tuple[Pixels, Found]:
    """Blacken the one grey that the file names transparent, if it does."""
    if transparency is None:
        return grey_hw, ()
    top = (1 << bit_depth) - 1
    level = int.from_bytes(transparency[:2], "big") & top
    hidden_hw = grey_hw == (level if bit_depth == 16 else level * 255 // top)
    if not hidden_hw.any():
        return grey_hw, ()
    return np.where(hidden_hw, grey_hw.dtype.type(0), grey_hw), (Caution.TRANSPARENT,)


def _from_palette(index_hw: NDArray[np.uint8], body: png.PngBody) -> tuple[Pixels, Found]:
    """Turn palette indices to grey by a table of 256 greys."""
    rgb = np.zeros((256, 3), dtype=np.uint8)
    entries = np.frombuffer(body.palette or b"", dtype=np.uint8).reshape(-1, 3)
    rgb[: len(entries)] = entries
    visible = np.full(256, 255, dtype=np.uint8)
    stated = np.frombuffer(body.transparency or b"", dtype=np.uint8)[:256]
    visible[: len(stated)] = stated
    found: Found = (Caution.COLOR,) if _has_color(rgb[_grid_points(index_hw)]) else ()
    if (stated < 255).any() and (visible < 255)[index_hw].any():
        found += (Caution.TRANSPARENT,)
    return _over_black(_luma(rgb), visible)[index_hw], found


def _luma(rgb: NDArray[np.uint8]) -> NDArray[np.uint8]:
    return np.asarray((rgb @ _LUMA + 0x8000) >> 16, dtype=np.uint8)


def _over_black(values: NDArray[np.uint8], visible: NDArray[np.uint8]) -> NDArray[np.uint8]:
    """Weaken values by how visible they are, 0 to 255."""
    return np.asarray((values.astype(np.uint16) * visible + 127) // 255, dtype=np.uint8)


def _grid(image: Image.Image) -> Image.Image:
    """Take a grid of points out of an image, to judge it by."""
    width, height = (min(side, COLOR_GRID_SIDE) for side in image.size)
    return image.resize((width, height), Image.Resampling.NEAREST)


def _grid_points(pixels: NDArray[np.uint8]) -> NDArray[np.uint8]:
    height, width = pixels.shape[:2]
    return pixels[:: max(1, height // COLOR_GRID_SIDE), :: max(1, width // COLOR_GRID_SIDE)]


def _has_color(points: NDArray[np.uint8]) -> bool:
    """Tell whether points [..., channels], red, green and blue first, show colour."""
    red, green, blue = (points[..., channel] for channel in range(3))
    brightest = np.maximum(np.maximum(red, green), blue)
    spread = brightest - np.minimum(np.minimum(red, green), blue)
    return bool(np.count_nonzero(spread > COLOR_SPREAD) > COLOR_SHARE * spread.size)
