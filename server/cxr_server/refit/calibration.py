"""Calibration: raw probabilities and labels -> a curve, and how well it fits. Next: fit."""

import numpy as np
from numpy.typing import NDArray

from cxr_server.bundles.refit import CalibrationFigures, CalibrationMethod, Isotonic, Platt

Floats = NDArray[np.float64]
Flags = NDArray[np.bool_]

BINS = 10
"""Bins between deciles, for the expected calibration error."""

_EDGE = 1e-7
"""A float32 probability nearer to 0 or 1 has no exact logit."""

_STEPS = 100


def logits(probabilities: Floats) -> Floats:
    """Return log(p / (1 - p)), bounded at either end."""
    bounded = np.clip(probabilities, _EDGE, 1 - _EDGE)
    found: Floats = np.log(bounded) - np.log1p(-bounded)
    return found


def fit_curve(
    method: CalibrationMethod, probabilities: Floats, positive: Flags
) -> Platt | Isotonic | None:
    """Return the calibration of probabilities [n] to labels [n] of both kinds.

    None where Platt's curve would fall, or there is none.
    """
    if method == "isotonic":
        return _isotonic(logits(probabilities), positive)
    count, hits = len(positive), int(positive.sum())
    # Platt's targets: without them, separable films would be given 0 and 1.
    high, low = (hits + 1) / (hits + 2), 1 / (count - hits + 2)
    found = _logistic(logits(probabilities), np.where(positive, high, low))
    return Platt(found[1], found[0]) if found and found[1] > 0 else None


def calibrated(curve: Platt | Isotonic, probabilities: Floats) -> Floats:
    """Return the calibrated probabilities [n]."""
    return np.array([curve.probability(each) for each in logits(probabilities).tolist()])


def figures(probabilities: Floats, positive: Flags) -> CalibrationFigures:
    """Return Brier score, ECE and slope of probabilities [n] and labels [n]."""
    edges = np.quantile(probabilities, np.linspace(0, 1, BINS + 1)[1:-1])
    number = np.searchsorted(edges, probabilities)
    away = float(np.abs(np.bincount(number, probabilities - positive)).sum())
    found = _logistic(logits(probabilities), positive.astype(np.float64))
    return CalibrationFigures(
        brier_score=float(((probabilities - positive) ** 2).mean()),
        expected_calibration_error=away / len(positive),
        slope=found[1] if found else None,
    )


def _logistic(x: Floats, targets: Floats) -> tuple[float, float] | None:
    """Return intercept and slope of the logistic regression of targets in [0, 1] on x, both [n].

    By Newton's method with halved steps. None where it does not converge: x is constant, or tells
    targets of 0 and 1 apart.
    """
    design = np.stack([np.ones_like(x), x], axis=1)

    def loss(beta: Floats) -> float:
        z = design @ beta
        return float((np.logaddexp(0, z) - targets * z).sum())

    beta, now = np.zeros(2), loss(np.zeros(2))
    for _ in range(_STEPS):
        fitted = np.exp(-np.logaddexp(0, -design @ beta))  # the sigmoid
        information = (design * (fitted * (1 - fitted))[:, None]).T @ design
        if not np.isfinite(information).all() or np.linalg.cond(information) > 1e12:
            return None
        step = np.linalg.solve(information, design.T @ (targets - fitted))
        if np.abs(step).max() < 1e-10:
            return float(beta[0]), float(beta[1])
        while (then := loss(beta + step)) > now + 1e-12 * abs(now):
            step = step / 2
        beta, now = beta + step, then
    return None


def _isotonic(x: Floats, positive: Flags) -> Isotonic:
    """Return the isotonic regression, by pooling adjacent violators."""
    xs, group = np.unique(x, return_inverse=True)
    weights = np.bincount(group)
    hits = np.bincount(group, positive)
    pooled: list[tuple[float, int, int]] = []  # hits, films, distinct logits
    for hit, weight in zip(hits.tolist(), weights.tolist(), strict=True):
        block = (hit, weight, 1)
        while pooled and pooled[-1][0] * block[1] >= block[0] * pooled[-1][1]:
            before = pooled.pop()
            block = (before[0] + block[0], before[1] + block[1], before[2] + block[2])
        pooled.append(block)
    points: list[tuple[float, float]] = []
    start = 0
    for hit, weight, size in pooled:
        ends = dict.fromkeys((start, start + size - 1))
        points += [(float(xs[end]), hit / weight) for end in ends]
        start += size
    return Isotonic(tuple(each for each, _ in points), tuple(each for _, each in points))
