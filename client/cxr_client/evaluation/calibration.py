"""Calibration: raw probabilities and labels -> curve, Brier score, ECE, slope and intercept."""

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from scipy.special import expit, logit

from cxr_client.evaluation.intervals import LEAST, Estimate, Z, wilson

BINS = 10
"""Bins between deciles, for the curve and for the ECE."""

_EDGE = 1e-7


@dataclass(frozen=True, slots=True)
class Bin:
    """One of at most `BINS` bins: images with neighbouring probabilities."""

    n: int
    mean_probability: float
    positives: Estimate
    """Their share, with Wilson's interval."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Calibration:
    """How far a probability can be read as one.

    `slope` and `intercept` are of the logistic regression of the label on the logit (1 and 0 are
    perfect), with intervals that are robust to several images of a patient (sandwich). `ece` is
    the mean distance of the bins from the diagonal, weighted by n.
    """

    brier: float
    ece: float
    bins: tuple[Bin, ...]
    slope: Estimate
    intercept: Estimate
    mean_probability: float
    prevalence: float


def calibrate(
    probabilities: NDArray[np.float64],
    positive: NDArray[np.bool_],
    units: NDArray[np.intp],
) -> Calibration:
    """Return the calibration of one finding.

    Args:
        probabilities: In [0, 1], [n] with n > 0.
        positive: Labels, [n].
        units: Number of each image's patient, [n].
    """
    # Between deciles, so that equal probabilities share a bin, whatever the order of the images.
    edges = np.quantile(probabilities, np.linspace(0, 1, BINS + 1)[1:-1])
    number = np.searchsorted(edges, probabilities)
    bins = [
        Bin(
            int(part.sum()),
            float(probabilities[part].mean()),
            wilson(int(positive[part].sum()), int(part.sum())),
        )
        for part in (number == each for each in np.unique(number))
    ]
    distances = [each.n * abs(each.mean_probability - (each.positives.value or 0)) for each in bins]
    intercept, slope = _regression(probabilities, positive, units)
    return Calibration(
        brier=float(((probabilities - positive) ** 2).mean()),
        ece=sum(distances) / len(probabilities),
        bins=tuple(bins),
        slope=slope,
        intercept=intercept,
        mean_probability=float(probabilities.mean()),
        prevalence=float(positive.mean()),
    )


def _regression(
    probabilities: NDArray[np.float64], positive: NDArray[np.bool_], units: NDArray[np.intp]
) -> tuple[Estimate, Estimate]:
    """Return intercept and slope by Newton's method; nothing for few or separable patients."""
    used = len(np.unique(units))
    few = min(len(np.unique(units[side])) for side in (positive, ~positive)) < LEAST
    x = logit(np.clip(probabilities, _EDGE, 1 - _EDGE))
    if few or np.ptp(x) == 0:
        return Estimate(None), Estimate(None)
    design = np.stack([np.ones_like(x), x], axis=1)
    beta = np.zeros(2)
    for _ in range(50):
        fitted = expit(design @ beta)
        information = (design * (fitted * (1 - fitted))[:, None]).T @ design
        if np.linalg.cond(information) > 1e12:
            return Estimate(None), Estimate(None)
        step = np.linalg.solve(information, design.T @ (positive - fitted))
        beta = beta + step
        if np.abs(step).max() < 1e-10:
            break
    else:
        return Estimate(None), Estimate(None)
    residuals = design * (positive - fitted)[:, None]
    clusters = int(units.max()) + 1
    sums = np.stack([np.bincount(units, each, clusters) for each in residuals.T], axis=1)
    bread = np.linalg.inv(information)
    covariance = bread @ (sums.T @ sums) @ bread * (used / (used - 1))
    halves = Z * np.sqrt(np.diag(covariance))
    intercept, slope = (
        Estimate(float(value), float(value - half), float(value + half))
        for value, half in zip(beta, halves, strict=True)
    )
    return intercept, slope
