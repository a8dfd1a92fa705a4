"""JPEG chroma: luma and chroma -> greyscale, and whether the image shows colour."""

import numpy as np
from numpy.typing import NDArray

from cxr_server.imaging.pixels import BAND_ROWS, COLOR_SPREAD, has_color
from cxr_server.imaging.radiograph import Decoded, InputWarning

_BLOCK_PX = 8  # side of the blocks whose means are looked at: noise of one pixel is no colour
GREY_CHROMA = 128
_GREY_DEVIATION = int(COLOR_SPREAD * 255 / 3.2)
"""Deviation from grey up to which no two of red, green and blue differ by `COLOR_SPREAD`: red and
blue differ most, by 1.402 + 1.772 times the deviation."""


def luma(stored_hwc: NDArray[np.uint8]) -> Decoded:
    """Return the luma of an image of luma, blue and red chroma; COLOR if it shows colour."""
    height, width, _ = stored_hwc.shape
    lines = stored_hwc.reshape(height, -1)  # reduced faster than with the components apart
    luma_hw = np.empty((height, width), np.uint8)
    low, high = lines[0].copy(), lines[0].copy()
    for top in range(0, height, BAND_ROWS):
        band = slice(top, top + BAND_ROWS)
        luma_hw[band] = stored_hwc[band, :, 0]
        np.minimum(low, lines[band].min(axis=0), out=low)
        np.maximum(high, lines[band].max(axis=0), out=high)
    chroma = np.stack([low, high]).reshape(-1, 3)[:, 1:].astype(np.int32)
    is_grey = np.abs(chroma - GREY_CHROMA).max() <= _GREY_DEVIATION
    is_color = not is_grey and has_color(_rgb(_means_of_blocks(lines, width)))
    return Decoded(luma_hw, (InputWarning.COLOR,) if is_color else ())


def _means_of_blocks(lines: NDArray[np.uint8], width: int) -> NDArray[np.float32]:
    """Return the rounded means of blocks [component, row, column], given [H, W * components]."""
    height, component_count = len(lines), lines.shape[1] // width
    block_h, block_w = min(_BLOCK_PX, height), min(_BLOCK_PX, width)
    rows, columns = height // block_h, width // block_w
    sums = lines[: rows * block_h].reshape(rows, block_h, -1).sum(axis=1, dtype=np.uint16)
    means_chw = np.zeros((component_count, rows, columns), np.float32)
    for component, mean_hw in enumerate(means_chw):
        for column in range(block_w):
            start = column * component_count + component
            mean_hw += sums[:, start :: block_w * component_count][:, :columns]
    return np.floor(means_chw / np.float32(block_h * block_w) + np.float32(0.5))


def _rgb(luma_chroma_chw: NDArray[np.float32]) -> NDArray[np.uint8]:
    """Convert as JFIF 1.02, section 3: [component, H, W] -> [H, W, 3]."""
    luma_hw, blue_hw, red_hw = luma_chroma_chw
    blue_hw, red_hw = blue_hw - GREY_CHROMA, red_hw - GREY_CHROMA
    green_hw = luma_hw - 0.344136 * blue_hw - 0.714136 * red_hw
    rgb_chw = (luma_hw + 1.402 * red_hw, green_hw, luma_hw + 1.772 * blue_hw)
    return np.asarray(np.clip(np.rint(np.stack(rgb_chw, axis=-1)), 0, 255), np.uint8)
