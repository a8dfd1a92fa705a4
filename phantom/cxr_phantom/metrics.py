"""Metrics: evidence maps and ground truth -> operating points, AUC, pointing accuracy. No torch.

Pointing accuracy is that of the pointing game (Zhang et al. 2018): is the maximum of the map on
the finding? The tolerance is one cell of the evidence grid, which is its resolution.
"""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from scipy import ndimage
from scipy.stats import rankdata

from cxr_phantom.dataset import CELL_PX, GRID, INPUT_PX, PhantomSet


@dataclass(frozen=True, slots=True)
class FindingMetrics:
    """Classification and localisation of one finding on held-out phantoms.

    Attributes:
        label: Name of the finding.
        positives: Number of phantoms in which it is planted.
        auc: Area under the ROC curve.
        sensitivity: At the operating point.
        specificity: At the operating point.
        true_positives: Number planted and at or above the operating point.
        pointing: Fraction of true positives whose map peaks within one cell of the mask.
    """

    label: str
    positives: int
    auc: float
    sensitivity: float
    specificity: float
    true_positives: int
    pointing: float


def operating_point(raw: NDArray[np.float64], truth: NDArray[np.bool_]) -> float:
    """Return the threshold that maximises Youden's J (sensitivity + specificity - 1).

    The same criterion as in torchxrayvision's scripts/model_calibrate.py, but halfway between
    two neighbouring outputs, so that no output of the set equals the threshold.

    Args:
        raw: Sigmoid outputs [N].
        truth: Ground truth [N]; must contain both classes.
    """
    order = np.argsort(raw)
    values, positive = raw[order], truth[order]
    # Rates if everything up to and including an index is called negative.
    false_negative_rate = np.cumsum(positive) / positive.sum()
    true_negative_rate = np.cumsum(~positive) / (~positive).sum()
    best = int(np.argmax((true_negative_rate - false_negative_rate)[:-1]))
    return float((values[best] + values[best + 1]) / 2)


def area_under_curve(raw: NDArray[np.float64], truth: NDArray[np.bool_]) -> float:
    """Return the AUC of outputs [N] and truth [N]: Mann-Whitney, ties count half."""
    positives, negatives = int(truth.sum()), int((~truth).sum())
    ranks = rankdata(raw)[truth].sum()
    return float((ranks - positives * (positives + 1) / 2) / (positives * negatives))


def peak_px(evidence_hw: NDArray[np.float32]) -> tuple[int, int]:
    """Return row and column of the maximum of a map [7, 7] resized to 224 x 224.

    Bilinear with half-pixel centres and replicated borders, as `cv2.resize`.
    """
    at = np.clip((np.arange(INPUT_PX) + 0.5) / CELL_PX - 0.5, 0, GRID - 1)
    weights = np.maximum(0, 1 - np.abs(at[:, None] - np.arange(GRID)))
    resized = weights @ np.maximum(evidence_hw, 0) @ weights.T
    row, column = np.unravel_index(int(np.argmax(resized)), resized.shape)
    return int(row), int(column)


def evaluate(
    labels: Sequence[str],
    evidence_nkhw: NDArray[np.float32],
    raw_nk: NDArray[np.float64],
    thresholds: Sequence[float],
    truth: PhantomSet,
) -> tuple[FindingMetrics, ...]:
    """Compute the metrics of each finding. A map without positive evidence counts as a miss."""
    rows = []
    for k, label in enumerate(labels):
        positive = truth.labels_nk[:, k]
        predicted = raw_nk[:, k] >= thresholds[k]
        hits = np.flatnonzero(positive & predicted)
        on_target = [_peak_is_near(evidence_nkhw[n, k], truth.mask(int(n), k)) for n in hits]
        rows.append(
            FindingMetrics(
                label=label,
                positives=int(positive.sum()),
                auc=round(area_under_curve(raw_nk[:, k], positive), 4),
                sensitivity=round(float(predicted[positive].mean()), 4),
                specificity=round(float((~predicted[~positive]).mean()), 4),
                true_positives=len(hits),
                pointing=round(float(np.mean(on_target)), 4) if on_target else 0.0,
            )
        )
    return tuple(rows)


def _peak_is_near(evidence_hw: NDArray[np.float32], mask_hw: NDArray[np.bool_]) -> bool:
    if evidence_hw.max() <= 0:
        return False
    distance_px = ndimage.distance_transform_edt(~mask_hw)
    return bool(distance_px[peak_px(evidence_hw)] <= CELL_PX)


def format_table(rows: Sequence[FindingMetrics]) -> str:
    """Format metrics as a plain-text table."""
    head = f"{'finding':<15}{'n':>6}{'AUC':>9}{'sens.':>8}{'spec.':>8}{'TP':>6}{'pointing':>10}"
    return "\n".join(
        [head]
        + [
            f"{r.label:<15}{r.positives:>6}{r.auc:>9.4f}{r.sensitivity:>8.3f}{r.specificity:>8.3f}"
            f"{r.true_positives:>6}{r.pointing:>10.3f}"
            for r in rows
        ]
    )
