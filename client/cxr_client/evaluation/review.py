"""Review: which errors are worst, and whether warnings foretell errors."""

import numpy as np
from numpy.typing import NDArray

from cxr_client.evaluation.cohort import Cohort
from cxr_client.evaluation.figures import WarningErrors, WorstCase
from cxr_client.evaluation.intervals import LEAST, Estimate, wilson
from cxr_client.evaluation.scores import Scores


def warning_errors(scores: Scores, cohort: Cohort, finding: str) -> tuple[WarningErrors, ...]:
    """Return the share of errors with and without each warning, every image independent.

    A warning of every image, or of none, tells nothing.
    """
    labels, flags, _ = _of(scores, cohort, finding)
    known = ~np.isnan(labels)
    wrong = (flags != (labels == 1)) & known
    found = []
    for code, marked in scores.warnings.items():
        warned = marked[cohort.rows] & known
        n, others = int(warned.sum()), int((known & ~warned).sum())
        if not (n and others):
            continue
        errors = int((wrong & warned).sum())
        here = wilson(errors, n)
        there = wilson(int((wrong & ~warned).sum()), others)
        stated = n >= LEAST and others >= LEAST
        found.append(
            WarningErrors(
                code=code,
                n=n,
                errors=errors,
                with_warning=here if stated else Estimate(here.value),
                without_warning=there if stated else Estimate(there.value),
                difference=newcombe(here, there) if stated else Estimate(None),
            )
        )
    return tuple(found)


def newcombe(a: Estimate, b: Estimate) -> Estimate:
    """Return the difference a - b of two proportions with Wilson intervals (Newcombe 1998)."""
    if a.value is None or a.low is None or a.high is None:
        return Estimate(None)
    if b.value is None or b.low is None or b.high is None:
        return Estimate(None)
    down = np.hypot(a.value - a.low, b.high - b.value)
    up = np.hypot(a.high - a.value, b.value - b.low)
    between = a.value - b.value
    return Estimate(between, float(between - down), float(between + up))


def worst_cases(
    scores: Scores, cohort: Cohort, finding: str, *, each: int, names: bool
) -> tuple[WorstCase, ...]:
    """Return the missed positives with the lowest, and false alarms with the highest scores."""
    labels, flags, probabilities = _of(scores, cohort, finding)
    missed = np.flatnonzero((labels == 1) & ~flags)
    alarms = np.flatnonzero((labels == 0) & flags)
    missed = missed[np.argsort(probabilities[missed], kind="stable")][:each]
    alarms = alarms[np.argsort(-probabilities[alarms], kind="stable")][:each]
    # A warning of every image says nothing about these.
    telling = {code: marked for code, marked in scores.warnings.items() if not marked.all()}
    return tuple(
        WorstCase(
            kind=kind,
            line=int(scores.lines[row]),
            file=scores.files[row] if names else None,
            probability=float(scores.probabilities[row, scores.header["labels"].index(finding)]),
            warnings=tuple(code for code, marked in telling.items() if marked[row]),
        )
        for kind, images in (("missed", missed), ("false alarm", alarms))
        for row in cohort.rows[images].tolist()
    )


def _of(
    scores: Scores, cohort: Cohort, finding: str
) -> tuple[NDArray[np.float32], NDArray[np.bool_], NDArray[np.float64]]:
    """Return labels, flags and probabilities of the cohort, [n] each."""
    column = scores.header["labels"].index(finding)
    rows = cohort.rows
    return cohort.labels[finding], scores.flags[rows, column], scores.probabilities[rows, column]
