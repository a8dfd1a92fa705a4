"""Cohort: scores and labels -> the images that have both. Next: evaluate."""

from collections import Counter
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from cxr_client.evaluation.labels.label_set import LabelError, LabelSet
from cxr_client.evaluation.paths import finder, path_of
from cxr_client.evaluation.scores import Scores


@dataclass(frozen=True, slots=True)
class Step:
    """One line of the flow of images: how many are left, or left out."""

    text: str
    count: int
    left_out: bool = False


@dataclass(frozen=True, slots=True, kw_only=True)
class Cohort:
    """n images with scores and labels."""

    rows: NDArray[np.intp]
    """Index of each image in the scores, [n]."""

    units: NDArray[np.intp]
    """Index of each image, or of its study, in the label file, [n]."""

    labels: dict[str, NDArray[np.float32]]
    """By finding that both the model and the label file have: 1, 0 or NaN, [n] each."""

    patients: NDArray[np.intp] | None
    """Number of each image's patient from 0, [n]; where none is stated, one of its own."""

    unnamed: NDArray[np.bool_]
    """Images whose patient the label file leaves blank, [n]."""

    columns: dict[str, NDArray[np.str_]]
    """[n] each."""

    flow: tuple[Step, ...]


def join(scores: Scores, labels: LabelSet) -> Cohort:
    """Find each image of a run in the label file.

    Raises:
        LabelError: No image is in the label file, or it has no finding of the model.
    """
    # A folder or column may be called PNEUMONIA, the model's finding Pneumonia.
    by_lower = {finding.lower(): finding for finding in labels.findings}
    findings = {
        each: each if each in labels.findings else by_lower[each.lower()]
        for each in scores.header["labels"]
        if each.lower() in by_lower
    }
    if not findings:
        has = ", ".join(labels.findings)
        raise LabelError(f"the label file has none of the model's findings, but {has}")
    pairs, left_out = _matched(scores, labels)
    if not pairs:
        raise LabelError(_nothing(scores, left_out))
    of = np.array([unit for _, unit in pairs], np.intp)
    patients, unnamed = None, np.zeros(len(of), bool)
    if labels.patients is not None:
        unnamed = labels.patients[of] == ""
        patients = _numbered(labels.patients[of], ~unnamed)
    total = len(scores.files) + sum(scores.failures.values())
    steps = [Step("Images in the run", total)]
    steps += [Step(f"not answered: {why}", n, True) for why, n in scores.failures.items()]
    steps += [*left_out, Step("Images evaluated", len(pairs))]
    return Cohort(
        rows=np.array([row for row, _ in pairs], np.intp),
        units=of,
        labels={finding: labels.findings[name][of] for finding, name in findings.items()},
        patients=patients,
        unnamed=unnamed,
        columns={name: column[of] for name, column in labels.columns.items()},
        flow=tuple(step for step in steps if step.count or not step.left_out),
    )


def _matched(scores: Scores, labels: LabelSet) -> tuple[list[tuple[int, int]], list[Step]]:
    """Return pairs of rows of the scores and of the label file, and what has none."""
    find = finder(labels.keys, scores.files, labels.key_of, by_path=labels.by_path)
    counts = Counter(labels.keys)
    unit_of = {key: unit for unit, key in enumerate(labels.keys)}
    rows_of: dict[int, list[int]] = {}
    absent = ambiguous = repeated = alike = 0
    for row, file in enumerate(scores.files):
        keys = find(file)
        if not keys:
            absent += 1
        elif len(keys) > 1 or counts[keys[0]] > 1:
            ambiguous += 1
        else:
            rows_of.setdefault(unit_of[keys[0]], []).append(row)
    if labels.unit == "image":
        for unit, rows in list(rows_of.items()):
            if labels.by_path and not _copies(scores, rows):
                alike += len(rows_of.pop(unit))
            else:
                repeated += len(rows) - 1
                rows_of[unit] = rows[:1]
    left_out = [
        Step("not in the label file, or left out of it", absent, True),
        Step("named by several rows of the label file", ambiguous, True),
        Step("named like other images of the run, so that its row is not known", alike, True),
        Step("a further file of an image that is already evaluated", repeated, True),
    ]
    pairs = [(row, unit) for unit, rows in rows_of.items() for row in rows]
    return sorted(pairs), left_out


def _copies(scores: Scores, rows: list[int]) -> bool:
    """Whether files are one image: they differ by their suffix, or the run found them equal."""
    paths = {path_of(scores.files[row]) for row in rows}
    return len(paths) == 1 or len({scores.keys[row] for row in rows}) == 1


def _nothing(scores: Scores, left_out: list[Step]) -> str:
    """Return why there is no image to evaluate."""
    if left_out[0].count == len(scores.files):
        return (
            f"none of the {len(scores.files)} images of the run is in the label file: is it the "
            "file of these images, and are their names those of the data set?"
        )
    why = "; ".join(f"{step.text}: {step.count}" for step in left_out if step.count)
    return f"no image of the run can be evaluated: {why}"


def _numbered(patients: NDArray[np.str_], named: NDArray[np.bool_]) -> NDArray[np.intp]:
    """Return the number of each image's patient [n], those that are `named` first."""
    distinct, known = np.unique(patients[named], return_inverse=True)
    numbers = np.empty(len(patients), np.intp)
    numbers[named] = known
    # Images of unknown patients are not all of one.
    numbers[~named] = len(distinct) + np.arange(int((~named).sum()))
    return numbers
