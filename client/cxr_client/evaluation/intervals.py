"""Intervals: DeLong for AUROC, Wilson for proportions, percentiles of a bootstrap. All 95 %."""

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from scipy.special import expit, logit

from cxr_client.evaluation.metrics import Ranking

Z = 1.959963984540054
"""The 97.5 % point of the normal distribution."""

LEAST = 10
"""Positives and negatives below which no interval is stated."""


@dataclass(frozen=True, slots=True)
class Estimate:
    """A figure with its 95 % interval; None where it cannot be computed or is not stated."""

    value: float | None
    low: float | None = None
    high: float | None = None


def delong(ranking: Ranking) -> float:
    """Return the standard error of AUROC after DeLong, every image independent.

    DeLong et al., Biometrics 1988, by mid-ranks: Sun and Xu, IEEE Signal Processing Letters 2014.
    """
    m, n = len(ranking.positives), len(ranking.negatives)
    placement = (ranking.below + ranking.up_to) / (2 * n)
    # Each positive scores above the negatives before `below` and ties with those before `up_to`.
    above = np.bincount(ranking.below, minlength=n + 1) + np.bincount(
        ranking.up_to, minlength=n + 1
    )
    of_negatives = np.cumsum(above[::-1])[::-1][1:] / (2 * m)
    return float(np.sqrt(placement.var(ddof=1) / m + of_negatives.var(ddof=1) / n))


def logit_interval(value: float, standard_error: float) -> Estimate:
    """Return a proportion with an interval that is symmetric in its logit."""
    if not 0 < value < 1:
        return Estimate(value)
    half = Z * standard_error / (value * (1 - value))
    centre = logit(value)
    return Estimate(value, float(expit(centre - half)), float(expit(centre + half)))


def wilson(hits: int, of: int) -> Estimate:
    """Return hits / of with Wilson's score interval; nothing without trials."""
    if of == 0:
        return Estimate(None)
    share, z2 = hits / of, Z * Z / of
    centre = (share + z2 / 2) / (1 + z2)
    half = Z * np.sqrt(share * (1 - share) / of + z2 / (4 * of)) / (1 + z2)
    low = 0.0 if hits == 0 else float(centre - half)
    return Estimate(share, low, 1.0 if hits == of else float(centre + half))


def at_the_edge(value: float, trials: int) -> Estimate:
    """Return 0 or 1 with Wilson's interval: there, neither DeLong nor a bootstrap has a spread.

    Args:
        value: 0 or 1.
        trials: Number of images, or of patients; of the smaller class for an area.
    """
    return wilson(round(value) * trials, trials)


def percentiles(value: float, replicates: NDArray[np.float64]) -> Estimate:
    """Return a figure with the percentile interval of its replicates [replicates], NaN aside."""
    if not np.isfinite(value):
        return Estimate(None)
    kept = replicates[np.isfinite(replicates)]
    if len(kept) < len(replicates) / 2:
        return Estimate(value)
    low, high = np.quantile(kept, [0.025, 0.975])
    return Estimate(value, float(low), float(high))
