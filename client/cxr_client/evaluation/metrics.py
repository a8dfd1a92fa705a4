"""Metrics: scores and labels of one finding -> AUROC, average precision, curves, 2 x 2 table.

All take weights of images, so that the bootstrap needs no sorting: `Ranking` sorts once.
"""

from dataclasses import dataclass
from typing import Self

import numpy as np
from numpy.typing import NDArray

Floats = NDArray[np.float64]
Weights = NDArray[np.int32]


@dataclass(frozen=True, slots=True, kw_only=True)
class Ranking:
    """m positives and n negatives by ascending score; indices are those of the weights."""

    positives: NDArray[np.intp]
    negatives: NDArray[np.intp]
    below: NDArray[np.intp]
    """Number of negatives with a lower score than each positive, [m]."""

    up_to: NDArray[np.intp]
    """Number of negatives with a score not above that of each positive, [m]."""

    first: NDArray[np.intp]
    """Number of positives with a lower score than each positive, [m]."""

    false_negatives: int
    """Positives below the operating point."""

    true_negatives: int

    @classmethod
    def of(
        cls,
        scores: Floats,
        labels: NDArray[np.float32],
        flags: NDArray[np.bool_],
        units: NDArray[np.intp],
    ) -> Self:
        """Sort the images, NaN labels aside.

        Args:
            scores: Higher means positive, [images].
            labels: 1, 0 or NaN, [images].
            flags: Whether the image is above the operating point, [images].
            units: What is weighted: the index of each image's weight, [images].
        """
        order = np.argsort(scores, kind="stable")
        positives, negatives = order[labels[order] == 1], order[labels[order] == 0]
        high, low = scores[positives], scores[negatives]
        return cls(
            positives=units[positives],
            negatives=units[negatives],
            below=np.searchsorted(low, high, "left"),
            up_to=np.searchsorted(low, high, "right"),
            first=np.searchsorted(high, high, "left"),
            false_negatives=int((~flags[positives]).sum()),
            true_negatives=int((~flags[negatives]).sum()),
        )

    @property
    def small(self) -> bool:
        """Whether one class has no image."""
        return not (len(self.positives) and len(self.negatives))


MEASURES = ("auroc", "average_precision", "sensitivity", "specificity", "prevalence")
"""The columns of `measure`."""


def measure(ranking: Ranking, weights: Weights) -> Floats:
    """Return `MEASURES` with weighted images, float64 [5]; NaN where a class has no weight.

    AUROC counts ties as one half (Mann-Whitney). Average precision is the step-wise sum of
    precision over recall, as in scikit-learn.
    """
    positive = weights[ranking.positives]
    n_up_to = np.zeros(len(ranking.negatives) + 1, np.int64)
    np.cumsum(weights[ranking.negatives], out=n_up_to[1:])
    p_up_to = np.zeros(len(positive) + 1, np.int64)
    np.cumsum(positive, out=p_up_to[1:])
    p, n = int(p_up_to[-1]), int(n_up_to[-1])
    if not (p and n):
        return np.full(len(MEASURES), np.nan)
    below = n_up_to[ranking.below]
    auroc = (positive * (below + n_up_to[ranking.up_to])).sum() / (2 * p * n)
    true = p - p_up_to[ranking.first]
    precision = true / np.maximum(true + n - below, 1)
    return np.array(
        [
            auroc,
            (positive * precision).sum() / p,
            1 - p_up_to[ranking.false_negatives] / p,
            n_up_to[ranking.true_negatives] / n,
            p / (p + n),
        ]
    )


def predictive_values(
    sensitivity: Floats, specificity: Floats, prevalence: Floats | float
) -> tuple[Floats, Floats]:
    """Return PPV and NPV at a prevalence by Bayes' theorem; NaN where nothing is flagged."""
    true, false = sensitivity * prevalence, (1 - specificity) * (1 - prevalence)
    missed, cleared = (1 - sensitivity) * prevalence, specificity * (1 - prevalence)
    with np.errstate(invalid="ignore", divide="ignore"):
        return true / (true + false), cleared / (missed + cleared)


def counts(ranking: Ranking) -> dict[str, int]:
    """Return the 2 x 2 table at the operating point."""
    return {
        "true_positives": len(ranking.positives) - ranking.false_negatives,
        "false_negatives": ranking.false_negatives,
        "false_positives": len(ranking.negatives) - ranking.true_negatives,
        "true_negatives": ranking.true_negatives,
    }


def roc_curve(scores: Floats, positive: NDArray[np.bool_]) -> tuple[Floats, Floats, Floats]:
    """Return false and true positive rates [t + 1], (0, 0) to (1, 1), and the thresholds [t].

    Args:
        scores: Higher means positive, [images].
        positive: Labels, [images], of both kinds.
    """
    thresholds, true, false = _cumulated(scores, positive)
    return (
        np.concatenate([[0.0], false / false[-1]]),
        np.concatenate([[0.0], true / true[-1]]),
        thresholds,
    )


def precision_recall_curve(
    scores: Floats, positive: NDArray[np.bool_]
) -> tuple[Floats, Floats, Floats]:
    """Return precision, recall and their falling thresholds, [t] each; see `roc_curve`."""
    thresholds, true, false = _cumulated(scores, positive)
    return true / (true + false), true / true[-1], thresholds


def _cumulated(scores: Floats, positive: NDArray[np.bool_]) -> tuple[Floats, Floats, Floats]:
    order = np.argsort(-scores, kind="stable")
    ranked, hits = scores[order], positive[order]
    last = np.concatenate([np.flatnonzero(np.diff(ranked)), [len(ranked) - 1]])
    true = np.cumsum(hits)[last].astype(np.float64)
    return ranked[last], true, last + 1.0 - true
