"""Contours: the outlines of a map's regions, drawn on a picture. Used by render."""

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from cxr_server.explanation.heatmap import HeatMap
from cxr_server.explanation.regions import REGION_HEIGHT
from cxr_server.geometry import Box

LINE, HALO = (255, 255, 255), (0, 0, 0)  # white inside of the regions, black around them


def draw_contours(picture: Image.Image, heat: HeatMap, seen: Box) -> None:
    """Draw the outlines of `regions` on the part of a picture that the network saw.

    A white line with a black one around it, which can be seen on dark and bright ground.
    """
    highest = float(heat.values_hw.max())
    if not highest > 0:
        return
    shares = Image.fromarray(np.rint(heat.values_hw * (255 / highest)).astype(np.uint8))
    size = seen.width_px, seen.height_px
    if shares.size != size:
        shares = shares.resize(size, Image.Resampling.BILINEAR)
    inside_hw = np.asarray(shares) >= 255 * REGION_HEIGHT
    width_px = max(1, max(picture.size) // 400)
    halo_hw = _grown(inside_hw, width_px) & ~inside_hw
    line_hw = inside_hw & _grown(~inside_hw, width_px)
    for mask_hw, color in ((halo_hw, HALO), (line_hw, LINE)):
        picture.paste(color, (seen.x_px, seen.y_px), Image.fromarray(mask_hw))


def _grown(mask_hw: NDArray[np.bool_], by_px: int) -> NDArray[np.bool_]:
    """Return a mask that reaches further by this much, along rows and columns."""
    for _ in range(by_px):
        grown_hw = mask_hw.copy()
        grown_hw[1:] |= mask_hw[:-1]
        grown_hw[:-1] |= mask_hw[1:]
        grown_hw[:, 1:] |= mask_hw[:, :-1]
        grown_hw[:, :-1] |= mask_hw[:, 1:]
        mask_hw = grown_hw
    return mask_hw
