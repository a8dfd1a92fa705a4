"""Measure: evidence and truth -> operating points, AUC and pointing accuracy. Pure numpy.

Pointing follows the pointing game (Zhang et al. 2018): is the map's highest point on the
finding? Here within one cell of the evidence grid, which is as fine as the map can be.
"""

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from scipy import ndimage
from scipy.stats import rankdata

from cxr_server.phantom.dataset import CELL_PX, GRID, INPUT_PX, PhantomSet


@dataclass(frozen=True, slots=True)
class FindingQuality:
    """How well one finding is recognised and located on held-out phantoms.

    Attributes:
        positives: phantoms in which it was planted.
        auc: area under the ROC curve.
        sensitivity, specificity: at the operating point.
        true_positives: planted and above the operating point.
        pointing: share of true positives whose map peaks within one cell of the mask.
    """

    label: str
    positives: int
    auc: float
    sensitivity: float
    specificity: float
    true_positives: int
    pointing: float


def operating_point(raw: NDArray[np.float64], truth: NDArray[np.bool_]) -> float:
    """The threshold of greatest Youden's J (sensitivity + specificity - 1).

    As torchxrayvision's scripts/model_calibrate.py finds its thresholds, but halfway between
    the two neighbouring values, so that neither lies on the boundary.

    Args:
        raw: sigmoid outputs [N].
        truth: whether the finding is there [N]; both kinds must occur.
    """
    order = np.argsort(raw)
    values, positive = raw[order], truth[order]
    missed = np.cumsum(positive) / positive.sum()
    spared = np.cumsum(~positive) / (~positive).sum()
    # Cutting after place i: those up to i are called negative.
    best = int(np.argmax((spared - missed)[:-1]))
    return float((values[best] + values[best + 1]) / 2)


def area_under_curve(raw: NDArray[np.float64], truth: NDArray[np.bool_]) -> float:
    """AUC as the Mann-Whitney statistic, ties counting half."""
    positives, negatives = int(truth.sum()), int((~truth).sum())
    ranks = rankdata(raw)[truth].sum()
    return float((ranks - positives * (positives + 1) / 2) / (positives * negatives))


def peak_px(evidence_hw: NDArray[np.float32]) -> tuple[int, int]:
    """Row and column of the highest point of the map [7, 7] enlarged to 224 x 224.

    Bilinear with half-pixel centres and repeated edges, as OpenCV's resize does it.
    """
    at = np.clip((np.arange(INPUT_PX) + 0.5) / CELL_PX - 0.5, 0, GRID - 1)
    weights = np.maximum(0, 1 - np.abs(at[:, None] - np.arange(GRID)))
    enlarged = weights @ np.maximum(evidence_hw, 0) @ weights.T
    row, column = np.unravel_index(int(np.argmax(enlarged)), enlarged.shape)
    return int(row), int(column)


def measure(
    labels: tuple[str, ...],
    evidence_nkhw: NDArray[np.float32],
    raw_nk: NDArray[np.float64],
    thresholds: tuple[float, ...],
    truth: PhantomSet,
) -> tuple[FindingQuality, ...]:
    """Quality per finding on a held-out set; a map without positive evidence points nowhere."""
    rows = []
    for k, label in enumerate(labels):
        there = truth.labels_nk[:, k]
        called = raw_nk[:, k] >= thresholds[k]
        hits = np.flatnonzero(there & called)
        on_it = [_points_at(evidence_nkhw[n, k], truth.mask(int(n), k)) for n in hits]
        rows.append(
            FindingQuality(
                label=label,
                positives=int(there.sum()),
                auc=round(area_under_curve(raw_nk[:, k], there), 4),
                sensitivity=round(float(called[there].mean()), 4),
                specificity=round(float((~called[~there]).mean()), 4),
                true_positives=len(hits),
                pointing=round(float(np.mean(on_it)), 4) if on_it else 0.0,
            )
        )
    return tuple(rows)


def _points_at(evidence_hw: NDArray[np.float32], mask_hw: NDArray[np.bool_]) -> bool:
    if evidence_hw.max() <= 0:
        return False
    distance_px = ndimage.distance_transform_edt(~mask_hw)
    return bool(distance_px[peak_px(evidence_hw)] <= CELL_PX)


def table(rows: tuple[FindingQuality, ...]) -> str:
    """The rows as text for a terminal."""
    head = f"{'finding':<15}{'n':>6}{'AUC':>9}{'sens.':>8}{'spec.':>8}{'TP':>6}{'pointing':>10}"
    return "\n".join(
        [head]
        + [
            f"{r.label:<15}{r.positives:>6}{r.auc:>9.4f}{r.sensitivity:>8.3f}{r.specificity:>8.3f}"
            f"{r.true_positives:>6}{r.pointing:>10.3f}"
            for r in rows
        ]
    )
