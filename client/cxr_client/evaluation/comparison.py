"""Comparison: two runs over the same images and one label file -> paired differences."""

import dataclasses
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from cxr_client.evaluation.bootstrap import replicate
from cxr_client.evaluation.cohort import Cohort
from cxr_client.evaluation.intervals import LEAST, Estimate, percentiles
from cxr_client.evaluation.labels.label_set import LabelError, stem_of
from cxr_client.evaluation.metrics import MEASURES, Ranking, measure
from cxr_client.evaluation.scores import Scores


@dataclass(frozen=True, slots=True, kw_only=True)
class Changed:
    """An image on another side of the operating point in B; lines are those of the runs."""

    line_a: int
    line_b: int
    file: str | None
    probability_a: float
    probability_b: float
    label: str


@dataclass(frozen=True, slots=True, kw_only=True)
class FindingComparison:
    """One finding in both runs. Differences are B minus A, with paired intervals."""

    finding: str
    n: int
    positives: int
    auroc_a: float | None
    auroc_b: float | None
    auroc_difference: Estimate
    sensitivity_difference: Estimate
    specificity_difference: Estimate
    same_side: float
    kappa: float | None
    """Cohen's, of the two runs' sides of the operating point."""

    raised: int
    """Images above the operating point in B alone."""

    lowered: int
    changed: tuple[Changed, ...]


def pair(
    a: tuple[Scores, Cohort], b: tuple[Scores, Cohort], *, studies: bool
) -> tuple[Cohort, Cohort]:
    """Return both cohorts with the same images in the same order.

    With labels of `studies`, which have several images, images are told by their names.

    Raises:
        LabelError: The runs share no image, or no finding.
    """
    places = []
    for scores, cohort in (a, b):
        names = [stem_of(scores.files[row]) for row in cohort.rows.tolist()]
        keys: list[Any] = names if studies else cohort.units.tolist()
        places.append({key: place for place, key in enumerate(keys)})
    shared = [key for key in places[0] if key in places[1]]
    findings = [each for each in a[1].labels if each in b[1].labels]
    if not (shared and findings):
        raise LabelError(f"the runs share no {'finding' if shared else 'image'} with labels")
    halves = []
    for (_, cohort), of in zip((a, b), places, strict=True):
        index = np.array([of[key] for key in shared], np.intp)
        patients = None
        if cohort.patients is not None:
            _, patients = np.unique(cohort.patients[index], return_inverse=True)
        halves.append(
            dataclasses.replace(
                cohort,
                rows=cohort.rows[index],
                units=cohort.units[index],
                labels={finding: cohort.labels[finding][index] for finding in findings},
                patients=patients,
                unnamed=cohort.unnamed[index],
                columns={},
            )
        )
    return halves[0], halves[1]


def compare(
    a: tuple[Scores, Cohort],
    b: tuple[Scores, Cohort],
    *,
    replicates: int,
    seed: int,
    threads: int,
    listed: int,
    names: bool,
) -> tuple[FindingComparison, ...]:
    """Return the comparison of each finding; the cohorts are those of `pair`."""
    cohort = a[1]
    n = len(cohort.rows)
    units = np.arange(n) if cohort.patients is None else cohort.patients
    rankings: list[Ranking] = []
    for finding, labels in cohort.labels.items():
        for scores, half in (a, b):
            probabilities, flags = _of(scores, half, finding)
            rankings.append(Ranking.of(probabilities, labels, flags, units))
    drawn = replicate(
        rankings, int(units.max()) + 1, replicates=replicates, seed=seed, threads=threads
    )
    ones = np.ones(int(units.max()) + 1, np.int32)
    found = []
    for index, finding in enumerate(cohort.labels):
        pair_of = rankings[2 * index : 2 * index + 2]
        values = [measure(each, ones) for each in pair_of]
        sides = (pair_of[0].positives, pair_of[0].negatives)
        enough = min(len(np.unique(side)) for side in sides) >= LEAST
        spread = drawn[:, 2 * index + 1] - drawn[:, 2 * index]
        differences = {
            name: percentiles(float((values[1] - values[0])[column]), spread[:, column])
            for column, name in enumerate(MEASURES)
        }
        # A bootstrap draws no error where there is none: two perfect runs may still differ.
        bare = [
            name
            for column, name in enumerate(MEASURES)
            if not enough or values[0][column] == values[1][column] in (0, 1)
        ]
        differences |= {name: Estimate(differences[name].value) for name in bare}
        found.append(_figures(finding, a, b, values, differences, listed=listed, names=names))
    return tuple(found)


def _figures(
    finding: str,
    a: tuple[Scores, Cohort],
    b: tuple[Scores, Cohort],
    values: list[NDArray[np.float64]],
    differences: dict[str, Estimate],
    *,
    listed: int,
    names: bool,
) -> FindingComparison:
    labels = a[1].labels[finding]
    (score_a, flag_a), (score_b, flag_b) = _of(*a, finding), _of(*b, finding)
    moved = np.flatnonzero(flag_a != flag_b)
    moved = moved[np.argsort(-np.abs(score_b - score_a)[moved], kind="stable")]
    words = {1.0: "positive", 0.0: "negative"}
    return FindingComparison(
        finding=finding,
        n=int((~np.isnan(labels)).sum()),
        positives=int((labels == 1).sum()),
        auroc_a=_or_none(values[0][0]),
        auroc_b=_or_none(values[1][0]),
        auroc_difference=differences["auroc"],
        sensitivity_difference=differences["sensitivity"],
        specificity_difference=differences["specificity"],
        same_side=float((flag_a == flag_b).mean()),
        kappa=_kappa(flag_a, flag_b),
        raised=int((flag_b & ~flag_a).sum()),
        lowered=int((flag_a & ~flag_b).sum()),
        changed=tuple(
            Changed(
                line_a=int(a[0].lines[a[1].rows[place]]),
                line_b=int(b[0].lines[b[1].rows[place]]),
                file=b[0].files[b[1].rows[place]] if names else None,
                probability_a=float(score_a[place]),
                probability_b=float(score_b[place]),
                label=words.get(float(labels[place]), "unknown"),
            )
            for place in moved[:listed].tolist()
        ),
    )


def _of(
    scores: Scores, cohort: Cohort, finding: str
) -> tuple[NDArray[np.float64], NDArray[np.bool_]]:
    column = scores.header["labels"].index(finding)
    return scores.probabilities[cohort.rows, column], scores.flags[cohort.rows, column]


def _kappa(a: NDArray[np.bool_], b: NDArray[np.bool_]) -> float | None:
    expected = a.mean() * b.mean() + (1 - a.mean()) * (1 - b.mean())
    if expected == 1:
        return None
    return float(((a == b).mean() - expected) / (1 - expected))


def _or_none(value: float) -> float | None:
    return float(value) if np.isfinite(value) else None
