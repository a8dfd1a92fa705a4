"""Films: scores and labels of every image -> a table in CSV, which `cxr-server refit` reads."""

import csv
import io

import numpy as np

from cxr_client.evaluation.cohort import Cohort
from cxr_client.evaluation.scores import Scores

_LABELS = {1.0: "1", 0.0: "0"}


def films_table(scores: Scores, cohort: Cohort) -> str:
    """Return a row for each image of a cohort, in the order of the run, without names.

    Columns: its line in the run, the number of its patient where patients are known, and for each
    finding the raw probability and the label, 1, 0 or nothing.
    """
    columns = [scores.header["labels"].index(finding) for finding in cohort.labels]
    probabilities = scores.probabilities[cohort.rows][:, columns].tolist()
    labels = np.stack(list(cohort.labels.values()), axis=1).tolist()
    units = [scores.lines[cohort.rows].tolist()]
    if cohort.patients is not None:
        units.append(cohort.patients.tolist())
    text = io.StringIO()
    rows = csv.writer(text, lineterminator="\n")
    kinds = [f"{finding}_{kind}" for finding in cohort.labels for kind in ("probability", "label")]
    rows.writerow([*("line", "patient")[: len(units)], *kinds])
    for *unit, of_image, labelled in zip(*units, probabilities, labels, strict=True):
        cells = list(unit)
        for probability, label in zip(of_image, labelled, strict=True):
            cells += [repr(probability), _LABELS.get(label, "")]
        rows.writerow(cells)
    return text.getvalue()
