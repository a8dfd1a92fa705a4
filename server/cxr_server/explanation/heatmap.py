"""Explain: evidence of one finding -> heat map, peak and regions. Next: render."""

from dataclasses import dataclass
from enum import StrEnum
from functools import lru_cache
from operator import itemgetter

import numpy as np
from numpy.typing import NDArray

from cxr_server.explanation import components
from cxr_server.geometry import Box

FIXED_FULL_SCALE_LOGITS = 0.5
"""What a grid cell adds to the logit at full colour of the fixed scale."""
LEAST_RANGE = 1e-7
"""pytorch-grad-cam adds this to a map's range before dividing by it."""
PLATEAU = 1e-6
"""Heat within this of the highest counts as highest."""


class Scale(StrEnum):
    """What full heat means; see `HeatScale` in the contract."""

    PER_MAP = "PER_MAP"
    FIXED = "FIXED"


@dataclass(frozen=True, slots=True)
class HeatMap:
    """Heat on the square that the network saw.

    Attributes:
        values_hw: float32 [side, side] in [0, 1].
        no_positive_evidence: Nothing speaks for the finding; the map is all zero.
        low: What a value of 0 stands for.
        high: What a value of 1 stands for.
        in_logits: Whether `low` and `high` are logits contributed by a grid cell; otherwise
            they are relative.
        hottest_row_column: The highest point, or None; kept apart from `values_hw` because a
            fixed scale may flatten the map's top.
    """

    values_hw: NDArray[np.float32]
    no_positive_evidence: bool
    low: float
    high: float
    in_logits: bool = True
    hottest_row_column: tuple[int, int] | None = None


@dataclass(frozen=True, slots=True)
class Peak:
    """The highest point of a map, in pixels of the upright original image."""

    x_px: float
    y_px: float
    value: float


@dataclass(frozen=True, slots=True)
class Region:
    """A connected region of a map, as a box in the upright original image."""

    box: Box
    peak_value: float
    threshold: float


def heat_map(evidence_hw: NDArray[np.float32], side_px: int, scale: Scale) -> HeatMap:
    """Make the Grad-CAM map of one finding out of its evidence.

    `evidence / (h * w)` is what each cell adds to the logit; its positive part is Grad-CAM at
    the last rectified feature map, where the gradient is the classifier's weight over h * w
    (Selvaraju et al. 2017; equal to CAM, Zhou et al. 2016, and HiResCAM, Draelos and Carin
    2021, for a network that ends in ReLU, global average pool and a linear layer).

    `Scale.PER_MAP` stretches the map to [0, 1] before and after it is enlarged, as
    pytorch-grad-cam 1.5.7 does (`utils/image.py`, `scale_cam_image`).

    Args:
        evidence_hw: Signed evidence [h, w] in logits.
        side_px: Side of the map to make.
        scale: What full heat means.
    """
    contribution_hw = np.maximum(evidence_hw.astype(np.float64), 0) / evidence_hw.size
    # The lowest cell is added after enlarging, so that rounding leaves a level map level.
    lowest = float(contribution_hw.min())
    above_hw = enlarge(contribution_hw - lowest, side_px)
    enlarged_hw = lowest + above_hw
    if not contribution_hw.max() > 0:
        return HeatMap(enlarged_hw.astype(np.float32), True, 0.0, _no_heat_limit(scale))
    hottest = _hottest(enlarged_hw)
    if scale is Scale.FIXED:
        values_hw = np.minimum(enlarged_hw / FIXED_FULL_SCALE_LOGITS, 1)
        low, high = 0.0, FIXED_FULL_SCALE_LOGITS
    else:
        low, high = float(enlarged_hw.min()), float(enlarged_hw.max())
        # Stretched, enlarged and stretched again, in one step, since enlarging is linear.
        first_range = LEAST_RANGE + float(np.ptp(contribution_hw))
        above_hw -= above_hw.min()
        values_hw = above_hw / (LEAST_RANGE * first_range + float(above_hw.max()))
    return HeatMap(values_hw.astype(np.float32), False, low, high, hottest_row_column=hottest)


def from_saliency(saliency_hw: NDArray[np.float32]) -> HeatMap:
    """Wrap a map that another method made; its heat is relative, from 0 to its highest.

    Args:
        saliency_hw: [side, side], at least zero.
    """
    highest = float(saliency_hw.max())
    if not highest > 0:
        return HeatMap(np.zeros_like(saliency_hw, dtype=np.float32), True, 0.0, 1.0, False)
    values_hw = (saliency_hw / highest).astype(np.float32)
    return HeatMap(values_hw, False, 0.0, 1.0, False, _hottest(values_hw))


def peak(heat: HeatMap, crop: Box) -> Peak | None:
    """Return the map's highest point in the original image, or None without any heat."""
    if heat.hottest_row_column is None or not heat.values_hw.max() > 0:
        return None
    row, column = heat.hottest_row_column
    height, width = heat.values_hw.shape
    return Peak(
        x_px=crop.x_px + (column + 0.5) * crop.width_px / width,
        y_px=crop.y_px + (row + 0.5) * crop.height_px / height,
        value=float(heat.values_hw[row, column]),
    )


def regions(heat: HeatMap, crop: Box, threshold: float = 0.5) -> tuple[Region, ...]:
    """Return the regions where the map reaches a share of its highest value, largest first.

    Args:
        heat: The map.
        crop: Where the map lies in the original image.
        threshold: The share, in (0, 1].
    """
    highest = float(heat.values_hw.max())
    if not highest > 0:
        return ()
    level = threshold * highest
    numbered, count = components.label(heat.values_hw >= level)
    sizes = np.bincount(numbered.ravel())
    found = []
    for number in range(1, count + 1):
        inside_hw = numbered == number
        rows, columns = (np.flatnonzero(inside_hw.any(axis=axis)) for axis in (1, 0))
        box = (slice(rows[0], rows[-1] + 1), slice(columns[0], columns[-1] + 1))
        peak_value = float(heat.values_hw[inside_hw].max())
        place = _to_original(box, heat.values_hw.shape, crop)
        found.append((-sizes[number], number, Region(place, peak_value, level)))
    return tuple(region for _, _, region in sorted(found, key=itemgetter(0, 1)))


def enlarge(values_hw: NDArray[np.float64], side_px: int) -> NDArray[np.float64]:
    """Enlarge bilinearly, pixel centres at halves, edges repeated, as OpenCV's INTER_LINEAR."""
    rows = _enlarge_operator(values_hw.shape[0], side_px)
    columns = _enlarge_operator(values_hw.shape[1], side_px)
    return np.asarray(rows @ values_hw @ columns.T)


@lru_cache(maxsize=16)
def _enlarge_operator(side_in: int, side_out: int) -> NDArray[np.float64]:
    position = (np.arange(side_out) + 0.5) * side_in / side_out - 0.5
    position = np.clip(position, 0, side_in - 1)
    return np.asarray(np.maximum(0, 1 - np.abs(position[:, None] - np.arange(side_in))))


def _no_heat_limit(scale: Scale) -> float:
    return FIXED_FULL_SCALE_LOGITS if scale is Scale.FIXED else 0.0


def _hottest(values_hw: NDArray[np.float64] | NDArray[np.float32]) -> tuple[int, int]:
    """Return the highest point, of several equal ones that nearest the middle.

    Enlarging repeats the edges, so a hot cell there has a flat top that reaches the border;
    the point nearest the middle is that cell's centre.
    """
    rows, columns = np.nonzero(values_hw >= values_hw.max() * (1 - PLATEAU))
    height, width = values_hw.shape
    distance = (rows - (height - 1) / 2) ** 2 + (columns - (width - 1) / 2) ** 2
    nearest = int(np.argmin(distance))
    return int(rows[nearest]), int(columns[nearest])


def _to_original(box: tuple[slice, slice], shape_hw: tuple[int, ...], crop: Box) -> Box:
    """Return the smallest box of whole original pixels around a box of map pixels."""
    top = crop.y_px + box[0].start * crop.height_px // shape_hw[0]
    bottom = crop.y_px - (-box[0].stop * crop.height_px // shape_hw[0])
    left = crop.x_px + box[1].start * crop.width_px // shape_hw[1]
    right = crop.x_px - (-box[1].stop * crop.width_px // shape_hw[1])
    return Box(x_px=left, y_px=top, width_px=right - left, height_px=bottom - top)
