"""Predictive values: sensitivity and specificity -> PPV and NPV at a prevalence."""

import numpy as np
from numpy.typing import NDArray

from cxr_client.evaluation.intervals import Estimate, percentiles
from cxr_client.evaluation.metrics import MEASURES, predictive_values


def predictive(
    found: dict[str, Estimate], replicates: NDArray[np.float64] | None, prevalence: float | None
) -> tuple[Estimate, Estimate]:
    """Return PPV and NPV at a prevalence, or at the sample's for None.

    Args:
        found: The estimates of `MEASURES` by name.
        replicates: Of `MEASURES`, [replicates, 5]; None where no interval is stated.
        prevalence: Between 0 and 1.
    """
    values = [found[name].value for name in MEASURES[2:]]
    if None in values:
        return Estimate(None), Estimate(None)
    sensitivity, specificity, own = np.array(values, np.float64)
    at = predictive_values(sensitivity, specificity, own if prevalence is None else prevalence)
    if replicates is None:
        ppv, npv = (Estimate(float(value) if np.isfinite(value) else None) for value in at)
        return ppv, npv
    spread = predictive_values(replicates[:, 2], replicates[:, 3], prevalence or replicates[:, 4])
    edges = _at_the_ends(found, prevalence or float(own))
    ppv, npv = (
        Estimate(float(value), *ends) if value in (0, 1) else percentiles(float(value), drawn)
        for value, drawn, ends in zip(at, spread, edges, strict=True)
    )
    return ppv, npv


def _at_the_ends(
    found: dict[str, Estimate], prevalence: float
) -> tuple[tuple[float, float], tuple[float, float]]:
    """Return the bounds (low, high) of PPV and of NPV, which grow with sensitivity and specificity.

    A bootstrap never draws an error where there is none, so it has no spread at 0 and 1.
    """
    rates = [found[name] for name in MEASURES[2:4]]
    low, high = (
        predictive_values(sensitivity, specificity, prevalence)
        for sensitivity, specificity in (
            np.array([each.low for each in rates], np.float64),
            np.array([each.high for each in rates], np.float64),
        )
    )
    return (float(low[0]), float(high[0])), (float(low[1]), float(high[1]))
