"""Heat maps: evidence of one finding -> HeatMap. Next: regions, render."""

import math
from dataclasses import dataclass
from functools import lru_cache

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from cxr_server.explanation.options import MIN_SCALE_LOGITS

MIN_EVIDENCE_LOGITS = 1.0
"""A finding has evidence if a cell reaches this. What stays below adds, in all cells together,
less than this to the finding's logit, which is the mean over the cells."""
PEAK_TOLERANCE = 1e-6  # heat within this share of the maximum counts as the maximum


@dataclass(frozen=True, slots=True)
class HeatMap:
    """Heat of one finding on the square that the network saw.

    `values_hw` [side, side] are in [0, 1], which stand for `low` and `high`: evidence in logits,
    as in the contract's `EvidenceGrid`, if `in_logits`, else relative. `peak_row_column` is the
    highest point, even where a fixed scale clips the map; None if nothing speaks for the finding.
    """

    values_hw: NDArray[np.float32]
    low: float
    high: float
    peak_row_column: tuple[int, int] | None
    in_logits: bool = True


def has_evidence(evidence_hw: NDArray[np.float32]) -> bool:
    """Tell whether the evidence [h, w] of a finding is worth a map."""
    return bool(evidence_hw.max() >= MIN_EVIDENCE_LOGITS)


def no_heat(side_px: int, high: float, *, in_logits: bool = True) -> HeatMap:
    """Return the map of a finding without evidence."""
    values_hw = np.zeros((side_px, side_px), np.float32)
    return HeatMap(values_hw, 0.0, high, None, in_logits)


def from_evidence(
    evidence_hw: NDArray[np.float32], side_px: int, full_scale_logits: float | None = None
) -> HeatMap:
    """Return the Grad-CAM map of one finding, of its signed evidence [h, w] in logits.

    The mean of the evidence is what the image adds to the finding's logit. Its positive part is
    Grad-CAM at the last rectified feature map, but for a constant factor: there the gradient is
    the classifier's weight over h * w (Selvaraju et al. 2017; equal to CAM, Zhou et al. 2016, and
    HiResCAM, Draelos and Carin 2021, for a network that ends in ReLU, global average pool and a
    linear layer).

    Heat of 1 is `full_scale_logits`. Without it the map is stretched to [0, 1] after enlarging, as
    by pytorch-grad-cam 1.5.7 (`utils/image.py`, `scale_cam_image`), but never from a range below
    `MIN_SCALE_LOGITS`.
    """
    if not has_evidence(evidence_hw):
        return no_heat(side_px, full_scale_logits or MIN_SCALE_LOGITS)
    positive_hw = np.maximum(evidence_hw, 0)
    # The lowest cell is added after enlarging, so that rounding leaves a level map level.
    lowest = positive_hw.min()
    above_hw = enlarge(positive_hw - lowest, side_px)
    highest = above_hw.max()
    at = _peak_row_column(above_hw, float(highest))
    if full_scale_logits is not None:
        values_hw = np.minimum((above_hw + lowest) / np.float32(full_scale_logits), 1)
        return HeatMap(values_hw, 0.0, full_scale_logits, at)
    start = above_hw.min()
    above_hw -= start
    stretched_from = max(float(highest - start), MIN_SCALE_LOGITS)
    above_hw /= np.float32(stretched_from)
    low = float(lowest) + float(start)
    return HeatMap(above_hw, low, low + stretched_from, at)


def from_saliency(saliency_hw: NDArray[np.float32]) -> HeatMap:
    """Return a saliency map, of values from 0, as a heat map relative to its maximum."""
    highest = float(saliency_hw.max())
    if not highest > 0:
        return no_heat(saliency_hw.shape[0], 1.0, in_logits=False)
    values_hw = (saliency_hw / highest).astype(np.float32)
    return HeatMap(values_hw, 0.0, 1.0, _peak_row_column(values_hw, 1), in_logits=False)


def enlarge(values_hw: NDArray[np.float32], side_px: int) -> NDArray[np.float32]:
    """Enlarge bilinearly: half-pixel centres and repeated edges, as OpenCV's INTER_LINEAR.

    The values are Pillow's, to the last bit.
    """
    if any(math.frexp(side_px / count)[0] != 0.5 for count in values_hw.shape):
        image = Image.fromarray(values_hw.astype(np.float32, copy=False))
        return np.array(image.resize((side_px, side_px), Image.Resampling.BILINEAR))
    # By a power of two, as every network does: the products of float64 are exact then, so that
    # none depends on the order of operations. A quarter of Pillow's time.
    rows, columns = (_interpolation(count, side_px) for count in values_hw.shape)
    wide_hw = (values_hw @ columns.T).astype(np.float32)
    enlarged_hw: NDArray[np.float32] = (rows @ wide_hw).astype(np.float32)
    return enlarged_hw


@lru_cache(maxsize=16)
def _interpolation(count: int, side_px: int) -> NDArray[np.float64]:
    """Return the matrix [side_px, count] that enlarges an axis."""
    place = np.clip((np.arange(side_px) + 0.5) * count / side_px - 0.5, 0, count - 1)
    distance = np.abs(place[:, None] - np.arange(count))
    return np.asarray(np.maximum(1 - distance, 0))


def _peak_row_column(values_hw: NDArray[np.float32], highest: float) -> tuple[int, int]:
    """Return the point of the highest value; of several, the one nearest the middle.

    Enlarging repeats the edges, so the maximum of a cell at the border is a plateau up to the
    border. Its point nearest the middle is that cell's centre.
    """
    height, width = values_hw.shape
    # Four times as fast as a nonzero of two dimensions.
    rows, columns = divmod(np.flatnonzero(values_hw >= highest * (1 - PEAK_TOLERANCE)), width)
    distance = (rows - (height - 1) / 2) ** 2 + (columns - (width - 1) / 2) ** 2
    nearest = int(np.argmin(distance))
    return int(rows[nearest]), int(columns[nearest])
