"""Evaluate: a cohort and its scores -> figures of every finding. Next: report."""

from dataclasses import dataclass, field

import numpy as np
from numpy.typing import NDArray

from cxr_client.evaluation import metrics
from cxr_client.evaluation.bootstrap import replicate
from cxr_client.evaluation.calibration import Calibration, calibrate
from cxr_client.evaluation.cohort import Cohort
from cxr_client.evaluation.figures import FindingFigures, Histogram, Points, Subgroup
from cxr_client.evaluation.intervals import (
    LEAST,
    Estimate,
    at_the_edge,
    delong,
    logit_interval,
    percentiles,
    wilson,
)
from cxr_client.evaluation.metrics import MEASURES, Ranking, measure
from cxr_client.evaluation.predictive import predictive
from cxr_client.evaluation.review import typicality_errors, warning_errors, worst_cases
from cxr_client.evaluation.scores import Scores
from cxr_client.evaluation.subgroups import levels

_POINTS = 400
"""Points of a curve that are kept for drawing."""

_HISTOGRAM_BINS = 25

Replicates = NDArray[np.float64]


@dataclass(frozen=True, slots=True, kw_only=True)
class Options:
    """What the figures depend on, beyond run and labels."""

    subgroups: tuple[str, ...] = ()
    prevalence: dict[str, float] = field(default_factory=dict)
    """By finding; "" is for all others."""

    replicates: int = 1000
    seed: int = 0
    threads: int = 2
    worst: int = 5
    """Errors of each kind that are listed for each finding."""

    names: bool = False
    """Whether that list has the names of files."""


@dataclass(frozen=True, slots=True)
class _Stratum:
    """A finding in some of the images: all, or a level of a column."""

    finding: str
    column: str
    level: str
    rows: NDArray[np.intp]
    ranking: Ranking


def evaluate(scores: Scores, cohort: Cohort, options: Options) -> tuple[FindingFigures, ...]:
    """Return the figures of each finding that has labels, in the order of the model."""
    n = len(cohort.rows)
    units = np.arange(n) if cohort.patients is None else cohort.patients
    groups = {name: levels(name, cohort.columns[name]) for name in options.subgroups}
    strata = _strata(scores, cohort, units, groups)
    # Where a class is empty or small, nothing is drawn from the replicates.
    drawn = [each for each in strata if _enough(each.ranking, cohort.patients is not None)]
    replicates = replicate(
        [each.ranking for each in drawn],
        int(units.max()) + 1,
        replicates=options.replicates,
        seed=options.seed,
        threads=options.threads,
    )
    replicates_of = {id(each): replicates[:, index] for index, each in enumerate(drawn)}
    figures = []
    for finding in cohort.labels:
        own = [each for each in strata if each.finding == finding]
        whole, parts = own[0], own[1:]
        subgroups = tuple(
            _subgroup(part, cohort, units, replicates_of.get(id(part))) for part in parts
        )
        figures.append(
            _figures(whole, scores, cohort, units, replicates_of.get(id(whole)), subgroups, options)
        )
    return tuple(figures)


def _strata(
    scores: Scores,
    cohort: Cohort,
    units: NDArray[np.intp],
    groups: dict[str, dict[str, NDArray[np.bool_]]],
) -> list[_Stratum]:
    found = []
    for finding, labels in cohort.labels.items():
        column = scores.header["labels"].index(finding)
        probabilities = scores.probabilities[cohort.rows, column]
        flags = scores.flags[cohort.rows, column]
        everything = np.arange(len(labels))
        parts = [("", "", everything)]
        parts += [
            (name, level, np.flatnonzero(mask))
            for name, masks in groups.items()
            for level, mask in masks.items()
        ]
        for name, level, rows in parts:
            ranking = Ranking.of(probabilities[rows], labels[rows], flags[rows], units[rows])
            found.append(_Stratum(finding, name, level, rows, ranking))
    return found


def _enough(ranking: Ranking, patients: bool) -> bool:
    """Whether there are ten positives and ten negatives, in images and in patients."""
    sides = (ranking.positives, ranking.negatives)
    return all(len(np.unique(side) if patients else side) >= LEAST for side in sides)


def _discrimination(
    stratum: _Stratum, clustered: bool, replicates: Replicates | None
) -> dict[str, Estimate]:
    """Return the estimates of `MEASURES` by name."""
    ranking = stratum.ranking
    ones = np.ones(_size(ranking), np.int32)
    values = measure(ranking, ones)
    counts = metrics.counts(ranking)
    if replicates is None:
        rates = {
            "sensitivity": wilson(counts["true_positives"], len(ranking.positives)),
            "specificity": wilson(counts["true_negatives"], len(ranking.negatives)),
        }
        bare = {
            name: Estimate(_or_none(value)) for name, value in zip(MEASURES, values, strict=True)
        }
        return bare | {name: Estimate(each.value) for name, each in rates.items()}
    found = {
        name: percentiles(value, replicates[:, index])
        for index, (name, value) in enumerate(zip(MEASURES, values, strict=True))
    }
    if not clustered:
        found["auroc"] = logit_interval(float(values[0]), delong(ranking))
        found["sensitivity"] = wilson(counts["true_positives"], len(ranking.positives))
        found["specificity"] = wilson(counts["true_negatives"], len(ranking.negatives))
    positives, negatives = (
        len(np.unique(side) if clustered else side)
        for side in (ranking.positives, ranking.negatives)
    )
    trials = dict.fromkeys(("auroc", "average_precision"), min(positives, negatives))
    trials |= {"sensitivity": positives, "specificity": negatives}
    for name, count in trials.items():
        value = found[name].value
        if value in (0, 1):
            found[name] = at_the_edge(value, count)
    return found


def _figures(
    stratum: _Stratum,
    scores: Scores,
    cohort: Cohort,
    units: NDArray[np.intp],
    replicates: Replicates | None,
    subgroups: tuple[Subgroup, ...],
    options: Options,
) -> FindingFigures:
    finding, ranking = stratum.finding, stratum.ranking
    labels = cohort.labels[finding]
    column = scores.header["labels"].index(finding)
    known = np.flatnonzero(~np.isnan(labels))
    probabilities = scores.probabilities[cohort.rows[known], column]
    positive = labels[known] == 1
    clustered = cohort.patients is not None
    found = _discrimination(stratum, clustered, replicates)
    stated = options.prevalence.get(finding, options.prevalence.get(""))
    ppv, npv = predictive(found, replicates, None)
    ppv_at, npv_at = predictive(found, replicates, stated) if stated else (Estimate(None),) * 2
    return FindingFigures(
        finding=finding,
        n=len(known),
        patients=len(np.unique(units[known])) if clustered else None,
        positives=len(ranking.positives),
        positive_patients=len(np.unique(ranking.positives)) if clustered else None,
        negatives=len(ranking.negatives),
        missing=len(labels) - len(known),
        threshold=scores.header["thresholds"][finding],
        **metrics.counts(ranking),
        auroc=found["auroc"],
        auroc_method=_method(clustered, replicates is not None),
        average_precision=found["average_precision"],
        sensitivity=found["sensitivity"],
        specificity=found["specificity"],
        ppv=ppv,
        npv=npv,
        stated_prevalence=stated,
        ppv_at_stated=ppv_at,
        npv_at_stated=npv_at,
        calibration=calibrate(probabilities, positive, units[known]) if len(known) else None,
        calibrated=_calibrated(
            scores.calibrated[cohort.rows[known], column], positive, units[known]
        ),
        roc=_roc(probabilities, positive),
        precision_recall=_precision_recall(probabilities, positive),
        histogram=_histogram(probabilities, positive),
        subgroups=subgroups,
        warnings=warning_errors(scores, cohort, finding),
        typicality=typicality_errors(scores, cohort, finding),
        worst=worst_cases(scores, cohort, finding, each=options.worst, names=options.names),
    )


def _calibrated(
    probabilities: NDArray[np.float64],
    positive: NDArray[np.bool_],
    units: NDArray[np.intp],
) -> Calibration | None:
    """Return the calibration of probabilities that the model may lack, NaN."""
    if not len(probabilities) or np.isnan(probabilities).any():
        return None
    return calibrate(probabilities, positive, units)


def _subgroup(
    stratum: _Stratum, cohort: Cohort, units: NDArray[np.intp], replicates: Replicates | None
) -> Subgroup:
    clustered = cohort.patients is not None
    known = stratum.rows[~np.isnan(cohort.labels[stratum.finding][stratum.rows])]
    found = _discrimination(stratum, clustered, replicates)
    return Subgroup(
        column=stratum.column,
        level=stratum.level,
        n=len(known),
        patients=len(np.unique(units[known])) if clustered else None,
        positives=len(stratum.ranking.positives),
        auroc=found["auroc"],
        sensitivity=found["sensitivity"],
        specificity=found["specificity"],
    )


def _method(clustered: bool, enough: bool) -> str:
    if not enough:
        return f"none: fewer than {LEAST} positives or negatives"
    return "bootstrap over patients" if clustered else "DeLong"


def _size(ranking: Ranking) -> int:
    return int(max(side.max(initial=-1) for side in (ranking.positives, ranking.negatives))) + 1


def _or_none(value: float) -> float | None:
    return float(value) if np.isfinite(value) else None


def _roc(probabilities: NDArray[np.float64], positive: NDArray[np.bool_]) -> Points:
    if not positive.any() or positive.all():
        return ()
    false, true, _ = metrics.roc_curve(probabilities, positive)
    return _thinned(false, true)


def _precision_recall(probabilities: NDArray[np.float64], positive: NDArray[np.bool_]) -> Points:
    if not positive.any() or positive.all():
        return ()
    precision, recall, _ = metrics.precision_recall_curve(probabilities, positive)
    return _thinned(recall, precision)


def _thinned(x: NDArray[np.float64], y: NDArray[np.float64]) -> Points:
    """Return at most `_POINTS` points, evenly spread along the curve, with both ends."""
    length = np.concatenate([[0.0], np.cumsum(np.hypot(np.diff(x), np.diff(y)))])
    wanted = np.linspace(0, length[-1], _POINTS)
    index = np.unique(np.searchsorted(length, wanted).clip(max=len(x) - 1))
    index = np.union1d(index, [0, len(x) - 1])
    points = zip(x[index].round(5), y[index].round(5), strict=True)
    return tuple((float(a), float(b)) for a, b in points)


def _histogram(probabilities: NDArray[np.float64], positive: NDArray[np.bool_]) -> Histogram:
    edges = np.linspace(0, 1, _HISTOGRAM_BINS + 1)
    hits, _ = np.histogram(probabilities[positive], edges)
    others, _ = np.histogram(probabilities[~positive], edges)
    return Histogram(positives=tuple(hits.tolist()), negatives=tuple(others.tolist()))
