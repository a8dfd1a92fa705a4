"""Maps: one class evidence map and the region that readers marked -> its measures."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray
from scipy.ndimage import distance_transform_edt, zoom

from cxr_client.evaluation.localisation.regions import Shape

HEIGHTS = (0.25, 0.5, 0.75)
"""Shares of a map's peak at which it is cut for the intersection over union."""

_PEAK_TOLERANCE = 1e-6
"""Share of the maximum within which a value counts as the maximum, as in the server."""


@dataclass(frozen=True, slots=True)
class Measures:
    """How one map fits one region. A map without positive evidence misses it."""

    hit: bool
    """Pointing game: the peak lies in the region, or at most the margin beside it."""

    chance: float
    """Share of the crop's pixels that would be a hit."""

    energy: float
    """Share of the positive evidence in the region."""

    iou: tuple[float, ...]
    """At each of `HEIGHTS`."""

    outside: float
    """Share of the region that the network did not see: it lies outside the crop."""


def heat_map(evidence: NDArray[np.float32], side_px: int) -> NDArray[np.float64]:
    """Return the positive part of a map [rows, columns], enlarged bilinearly to a square."""
    factors = [side_px / count for count in evidence.shape]
    wide = zoom(evidence.astype(np.float64), factors, order=1, mode="nearest", grid_mode=True)
    positive: NDArray[np.float64] = np.maximum(wide, 0.0)
    return positive


def measures(
    heat: NDArray[np.float64], shapes: Sequence[Shape], info: dict[str, Any], margin_px: int
) -> Measures | None:
    """Compare on a raster of the whole image in which the crop has the heat map's size.

    Args:
        heat: Of the crop, [side, side].
        shapes: Their union is the region.
        info: The image's `image_info` in the run.
        margin_px: Of the pointing game, in pixels of the network's input.

    Returns:
        None where the region lies outside the image.
    """
    side = len(heat)
    crop = info["crop_box"]
    across, down = side / crop["width_px"], side / crop["height_px"]
    left, top = round(crop["x_px"] * across), round(crop["y_px"] * down)
    shape = (
        max(round(info["height_px"] * down), top + side),
        max(round(info["width_px"] * across), left + side),
    )
    region = np.zeros(shape, bool)
    for each in shapes:
        region |= each.raster(shape, info["width_px"], info["height_px"])
    area = int(region.sum())
    if area == 0:
        return None
    inside = region[top : top + side, left : left + side]
    total = float(heat.sum())
    near = _dilated(region, margin_px)[top : top + side, left : left + side]
    iou = []
    for height in HEIGHTS:
        hot = (heat >= height * heat.max()) & (heat > 0)
        both = int((hot & inside).sum())
        iou.append(both / (int(hot.sum()) + area - both))
    return Measures(
        hit=total > 0 and bool(near[_peak(heat)]),
        chance=float(near.mean()),
        energy=float(heat[inside].sum()) / total if total > 0 else 0.0,
        iou=tuple(iou),
        outside=1 - int(inside.sum()) / area,
    )


def _peak(heat: NDArray[np.float64]) -> tuple[int, int]:
    """Return the pixel of the highest value; of several, the one nearest the middle.

    So does the server: enlarging repeats the edges, so that the maximum of a cell at the border is
    a plateau up to the border, whose pixel nearest the middle is that cell's centre.
    """
    rows, columns = np.nonzero(heat >= heat.max() * (1 - _PEAK_TOLERANCE))
    middle = (len(heat) - 1) / 2
    nearest = int(np.argmin((rows - middle) ** 2 + (columns - middle) ** 2))
    return int(rows[nearest]), int(columns[nearest])


def _dilated(region: NDArray[np.bool_], margin_px: int) -> NDArray[np.bool_]:
    """Return the pixels within a distance of a region."""
    if margin_px == 0:
        return region
    near: NDArray[np.bool_] = distance_transform_edt(~region) <= margin_px
    return near
