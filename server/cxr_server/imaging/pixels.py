"""Pixels: what codecs share to make greyscale of colour and alpha."""

from typing import cast

import numpy as np
from numpy.typing import NDArray

from cxr_server.imaging.radiograph import Decoded, InputWarning, Pixels

COLOR_GRID_SIDE = 256  # colour is looked for on a grid of about this many rows and columns
COLOR_SPREAD = 24 / 255
"""A grid point is coloured if its channels differ by more than this share of white, or of the
brightest point of 16 bits, which may be 12 that are not scaled; JPEG's rounding alone makes a few
levels of 255."""
COLOR_SHARE = 0.002  # an image is coloured if more than this share of its grid points is
BAND_ROWS = 64
"""Rows that are converted at once: the 32-bit intermediates of a band fit the cache, those of a
whole image of 50 megapixels would take 200 MB."""
_LUMA = (19_595, 38_470, 7_471)
"""ITU-R BT.601 luma times 65536, rounded as by Pillow and libjpeg. Sums for 16 bits fit in 32."""


def to_greyscale(pixels: Pixels) -> Decoded:
    """Convert colour to luma and blend what is transparent over black.

    Pixels are [height, width], or [height, width, channels] of grey and alpha, RGB or RGBA. Returns
    them as [height, width] of the same dtype, C-contiguous, and COLOR and TRANSPARENT if so.
    """
    if pixels.ndim == 2:
        return Decoded(pixels)
    channels = pixels.shape[2]
    white = int(np.iinfo(pixels.dtype).max)
    is_color = channels >= 3
    is_transparent = channels in (2, 4) and int(pixels[..., -1].min()) < white
    warnings = [InputWarning.COLOR] if is_color and has_color(pixels) else []
    if is_transparent:
        warnings.append(InputWarning.TRANSPARENT)
    grey_hw = np.empty(pixels.shape[:2], pixels.dtype)
    for top in range(0, len(grey_hw), BAND_ROWS):
        band = pixels[top : top + BAND_ROWS]
        grey = _luma(band) if is_color else band[..., 0].astype(np.uint32)
        if is_transparent:
            grey = (grey * band[..., -1] + white // 2) // white
        grey_hw[top : top + BAND_ROWS] = grey
    return Decoded(cast(Pixels, grey_hw), tuple(warnings))


def has_color(pixels_hwc: Pixels) -> bool:
    """Tell whether an image, whose first channels are red, green and blue, shows colour."""
    height, width = pixels_hwc.shape[:2]
    points = pixels_hwc[:: max(1, height // COLOR_GRID_SIDE), :: max(1, width // COLOR_GRID_SIDE)]
    red, green, blue = (points[..., channel] for channel in range(3))
    brightest = np.maximum(np.maximum(red, green), blue)
    spread = brightest - np.minimum(np.minimum(red, green), blue)
    white = 255 if pixels_hwc.dtype == np.uint8 else int(brightest.max())
    colored = spread > COLOR_SPREAD * white
    return bool(np.count_nonzero(colored) > COLOR_SHARE * spread.size)


def _luma(rgb_hwc: Pixels) -> NDArray[np.uint32]:
    total_hw = np.full(rgb_hwc.shape[:2], 0x8000, np.uint32)
    for channel, weight in enumerate(_LUMA):
        total_hw += np.multiply(rgb_hwc[..., channel], weight, dtype=np.uint32)
    return total_hw >> np.uint32(16)
