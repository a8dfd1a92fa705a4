"""Heat maps: evidence of one finding -> HeatMap. Next: regions, render."""

from dataclasses import dataclass
from enum import StrEnum
from typing import Any

import numpy as np
from numpy.typing import NDArray
from PIL import Image

FIXED_FULL_SCALE_LOGITS = 0.5  # full heat of the fixed scale: what one grid cell adds to the logit
MIN_RANGE = 1e-7  # added to a map's range before dividing by it, as pytorch-grad-cam does
PEAK_TOLERANCE = 1e-6  # heat within this share of the maximum counts as the maximum


class HeatScale(StrEnum):
    """What full heat means; see `HeatScale` in the contract."""

    PER_MAP = "PER_MAP"
    FIXED = "FIXED"


@dataclass(frozen=True, slots=True)
class HeatMap:
    """Heat of one finding on the square that the network saw.

    `values_hw` [side, side] are in [0, 1], which stand for `low` and `high`: logits that a grid
    cell adds if `in_logits`, else relative. `peak_row_column` is the highest point, even where a
    fixed scale clips the map; None if nothing speaks for the finding.
    """

    values_hw: NDArray[np.float32]
    low: float
    high: float
    peak_row_column: tuple[int, int] | None
    in_logits: bool = True


def from_evidence(evidence_hw: NDArray[np.float32], side_px: int, scale: HeatScale) -> HeatMap:
    """Return the Grad-CAM map of one finding, of its signed evidence [h, w] in logits.

    `evidence / (h * w)` is what each cell adds to the logit; its positive part is Grad-CAM at
    the last rectified feature map, where the gradient is the classifier's weight over h * w
    (Selvaraju et al. 2017; equal to CAM, Zhou et al. 2016, and HiResCAM, Draelos and Carin
    2021, for a network that ends in ReLU, global average pool and a linear layer).

    `HeatScale.PER_MAP` stretches the map to [0, 1] before and after enlarging it, as
    pytorch-grad-cam 1.5.7 does (`utils/image.py`, `scale_cam_image`).
    """
    contribution_hw = np.maximum(evidence_hw.astype(np.float64), 0) / evidence_hw.size
    # The lowest cell is added after enlarging, so that rounding leaves a level map level.
    lowest = float(contribution_hw.min())
    above_hw = enlarge(contribution_hw - lowest, side_px)
    enlarged_hw = lowest + above_hw
    at = _peak_row_column(enlarged_hw)
    if scale is HeatScale.FIXED:
        values_hw = np.minimum(enlarged_hw / FIXED_FULL_SCALE_LOGITS, 1)
        return HeatMap(values_hw.astype(np.float32), 0.0, FIXED_FULL_SCALE_LOGITS, at)
    # Both stretches in one step, since enlarging is linear.
    first_range = MIN_RANGE + float(np.ptp(contribution_hw))
    above_hw -= above_hw.min()
    values_hw = above_hw / (MIN_RANGE * first_range + float(above_hw.max()))
    low, high = float(enlarged_hw.min()), float(enlarged_hw.max())
    return HeatMap(values_hw.astype(np.float32), low, high, at)


def from_saliency(saliency_hw: NDArray[np.float32]) -> HeatMap:
    """Return a saliency map, of values from 0, as a heat map relative to its maximum."""
    highest = float(saliency_hw.max())
    values_hw = (saliency_hw / (highest or 1.0)).astype(np.float32)
    return HeatMap(values_hw, 0.0, 1.0, _peak_row_column(values_hw), in_logits=False)


def enlarge(values_hw: NDArray[np.float64], side_px: int) -> NDArray[np.float64]:
    """Enlarge bilinearly: half-pixel centres and repeated edges, as OpenCV's INTER_LINEAR."""
    image = Image.fromarray(values_hw.astype(np.float32))
    return np.asarray(image.resize((side_px, side_px), Image.Resampling.BILINEAR), np.float64)


def _peak_row_column(values_hw: NDArray[np.floating[Any]]) -> tuple[int, int] | None:
    """Return the highest point above zero, or None; of several, the one nearest the middle.

    Enlarging repeats the edges, so the maximum of a cell at the border is a plateau up to the
    border. Its point nearest the middle is that cell's centre.
    """
    highest = float(values_hw.max())
    if not highest > 0:
        return None
    rows, columns = np.nonzero(values_hw >= highest * (1 - PEAK_TOLERANCE))
    height, width = values_hw.shape
    distance = (rows - (height - 1) / 2) ** 2 + (columns - (width - 1) / 2) ** 2
    nearest = int(np.argmin(distance))
    return int(rows[nearest]), int(columns[nearest])
