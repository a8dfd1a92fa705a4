"""Review: which errors are worst, and whether warnings predict errors."""

import numpy as np
from numpy.typing import NDArray

from cxr_client.evaluation.cohort import Cohort
from cxr_client.evaluation.figures import TypicalityErrors, WarningErrors, WorstCase
from cxr_client.evaluation.intervals import (
    LEAST,
    Estimate,
    at_the_edge,
    delong,
    logit_interval,
    wilson,
)
from cxr_client.evaluation.metrics import Ranking, measure
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


def typicality_errors(scores: Scores, cohort: Cohort, finding: str) -> TypicalityErrors | None:
    """Return how well a low typicality tells errors from right answers; None without any.

    The AUROC of errors as positives and of 1 - typicality as their score, every image independent.
    """
    labels, flags, _ = _of(scores, cohort, finding)
    typicality = scores.typicality[cohort.rows]
    known = ~np.isnan(labels) & ~np.isnan(typicality)
    if not known.any():
        return None
    wrong = flags[known] != (labels[known] == 1)
    n, errors = len(wrong), int(wrong.sum())
    rows = np.arange(n)
    ranking = Ranking.of(1 - typicality[known], wrong.astype(np.float32), wrong, rows)
    if ranking.small:
        return TypicalityErrors(n=n, errors=errors, auroc=Estimate(None))
    area = float(measure(ranking, np.ones(n, np.int32))[0])
    if min(errors, n - errors) < LEAST:
        return TypicalityErrors(n=n, errors=errors, auroc=Estimate(area))
    if area in (0, 1):
        return TypicalityErrors(
            n=n, errors=errors, auroc=at_the_edge(area, min(errors, n - errors))
        )
    return TypicalityErrors(n=n, errors=errors, auroc=logit_interval(area, delong(ranking)))


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
