"""Bootstrap: rankings -> replicates of their measures, with patients drawn, not images.

All findings and subgroups of a replicate see the same patients, so differences are paired.
"""

from concurrent.futures import ThreadPoolExecutor
from functools import partial

import numpy as np
from numpy.typing import NDArray

from cxr_client.evaluation.metrics import MEASURES, Ranking, Weights, measure

_PARTS = 16
"""Streams of random numbers: fixed, so that the replicates do not depend on the threads."""


def replicate(
    rankings: list[Ranking], units: int, *, replicates: int, seed: int, threads: int
) -> NDArray[np.float64]:
    """Return `MEASURES` of each ranking in each replicate, float64 [replicates, rankings, 5].

    Args:
        rankings: Their indices are those of the units.
        units: Number of patients, or of images where patients are unknown.
        replicates: How often `units` of them are drawn with replacement.
        seed: Of the random numbers.
        threads: NumPy releases the GIL in most of this.
    """
    sizes = [len(part) for part in np.array_split(np.arange(replicates), _PARTS)]
    seeds = np.random.SeedSequence(seed).spawn(_PARTS)
    with ThreadPoolExecutor(threads) as pool:
        # Collected in here: an interrupt takes the parts back that have not begun.
        return np.concatenate(list(pool.map(partial(_part, rankings, units), sizes, seeds)))


def _part(
    rankings: list[Ranking], units: int, size: int, seed: np.random.SeedSequence
) -> NDArray[np.float64]:
    random = np.random.default_rng(seed)
    found = np.empty((size, len(rankings), len(MEASURES)))
    for each in found:
        drawn = random.integers(0, units, units)
        weights: Weights = np.bincount(drawn, minlength=units).astype(np.int32)
        for index, ranking in enumerate(rankings):
            each[index] = measure(ranking, weights)
    return found
