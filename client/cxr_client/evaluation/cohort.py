"""Cohort: scores and labels -> the images that have both. Next: evaluate."""

from collections import Counter
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from cxr_client.evaluation.labels.label_set import LabelError, LabelSet
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
    findings = [each for each in scores.header["labels"] if each in labels.findings]
    if not findings:
        has = ", ".join(labels.findings)
        raise LabelError(f"the label file has none of the model's findings, but {has}")
    counts = Counter(labels.keys)
    unit_of = {key: unit for unit, key in enumerate(labels.keys) if counts[key] == 1}
    rows: list[int] = []
    units: list[int] = []
    seen: set[int] = set()
    absent = ambiguous = repeated = 0
    for row, file in enumerate(scores.files):
        key = labels.key_of(file)
        unit = unit_of.get(key)
        if unit is None:
            ambiguous += key in counts
            absent += key not in counts
        elif labels.unit == "image" and unit in seen:
            repeated += 1
        else:
            seen.add(unit)
            rows.append(row)
            units.append(unit)
    if not rows:
        raise LabelError(
            f"none of the {len(scores.files)} images of the run is in the label file: is it the "
            "file of these images, and are their names those of the data set?"
        )
    of = np.array(units, np.intp)
    patients, unnamed = None, np.zeros(len(of), bool)
    if labels.patients is not None:
        unnamed = labels.patients[of] == ""
        patients = _numbered(labels.patients[of], ~unnamed)
    total = len(scores.files) + sum(scores.failures.values())
    steps = [Step("Images in the run", total)]
    steps += [Step(f"not answered: {why}", n, True) for why, n in scores.failures.items()]
    steps += [
        Step("not in the label file, or left out of it", absent, True),
        Step("named by several rows of the label file", ambiguous, True),
        Step("a further file of an image that is already evaluated", repeated, True),
        Step("Images evaluated", len(rows)),
    ]
    return Cohort(
        rows=np.array(rows, np.intp),
        labels={finding: labels.findings[finding][of] for finding in findings},
        patients=patients,
        unnamed=unnamed,
        columns={name: column[of] for name, column in labels.columns.items()},
        flow=tuple(step for step in steps if step.count or not step.left_out),
    )


def _numbered(patients: NDArray[np.str_], named: NDArray[np.bool_]) -> NDArray[np.intp]:
    """Return the number of each image's patient [n], those that are `named` first."""
    distinct, known = np.unique(patients[named], return_inverse=True)
    numbers = np.empty(len(patients), np.intp)
    numbers[named] = known
    # Images of unknown patients are not all of one.
    numbers[~named] = len(distinct) + np.arange(int((~named).sum()))
    return numbers
