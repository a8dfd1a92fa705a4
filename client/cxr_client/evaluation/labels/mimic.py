"""MIMIC-CXR-JPG: mimic-cxr-2.0.0-chexpert.csv, labels of studies. Johnson et al., 1901.07042.

mimic-cxr-2.0.0-metadata.csv, which has the view of each image, makes images of the studies.
"""

import re
from pathlib import Path

import numpy as np

from cxr_client.evaluation.labels.chexpert import (
    FINDINGS,
    NO_FINDING,
    UNMAPPED,
    findings_of,
    statements,
)
from cxr_client.evaluation.labels.label_set import VIEW, Choices, LabelSet, stem_of, strings
from cxr_client.evaluation.labels.tables import read_columns

_STUDY = re.compile(r"(?:^|[/\\])s(\d{8})[/\\]")
_LATERAL = frozenset({"LATERAL", "LL", "RL", "XTABLE LATERAL", "SWIMMERS"})
_MINED = "The labels were mined from reports by a program and are of a study: every image of "


def read(path: Path, choices: Choices) -> LabelSet:
    """Read the labels of studies, or with `metadata` those of images.

    Studies are found by the folder of an image, images by their names.

    Raises:
        LabelError: A file is not of this format.
    """
    table = read_columns(path, ["subject_id", "study_id", *FINDINGS], [NO_FINDING])
    if choices.metadata is not None:
        return _images(table, choices.metadata, choices)
    return LabelSet(
        title="MIMIC-CXR-JPG",
        keys=tuple(table["study_id"]),
        findings=findings_of(table, choices, np.ones(len(table["study_id"]), bool)),
        key_of=_study_of,
        unit="study",
        patients=strings(table["subject_id"]),
        choices=statements(choices),
        cautions=(
            f"{_MINED}a study has its labels. The file does not say which images are lateral: "
            "--metadata does.",
        ),
        unmapped=UNMAPPED,
        datasets=("mimic",),
    )


def _images(table: dict[str, list[str]], metadata: Path, choices: Choices) -> LabelSet:
    names = ["dicom_id", "subject_id", "study_id", "ViewPosition"]
    images, patients, studies, views = read_columns(metadata, names).values()
    row_of = {study: row for row, study in enumerate(table["study_id"])}
    labelled = np.array([study in row_of for study in studies], bool)
    drop = choices.laterals == "drop"
    lateral = np.array([drop and view.strip().upper() in _LATERAL for view in views], bool)
    keep = labelled & ~lateral
    kept = np.flatnonzero(keep).tolist()
    rows = np.array([row_of[studies[index]] for index in kept], np.intp)
    of_studies = findings_of(table, choices, np.ones(len(table["study_id"]), bool))
    left_out = {
        "lateral image": int((labelled & lateral).sum()),
        "image of a study without labels": int((~labelled).sum()),
    }
    return LabelSet(
        title="MIMIC-CXR-JPG",
        keys=tuple(stem_of(images[index]) for index in kept),
        findings={finding: values[rows] for finding, values in of_studies.items()},
        key_of=stem_of,
        patients=strings(patients)[keep],
        columns={VIEW: strings(views)[keep]},
        choices=(
            *statements(choices),
            f"Views are those of {metadata.name}; lateral images are left out."
            if drop
            else f"Views are those of {metadata.name}; lateral images are kept.",
        ),
        cautions=(f"{_MINED}a study has its labels.",),
        left_out={reason: count for reason, count in left_out.items() if count},
        unmapped=UNMAPPED,
        datasets=("mimic",),
    )


def _study_of(file: str) -> str:
    """Return the study in a path such as files/p10/p10000032/s50414267/02aa804e.jpg."""
    found = _STUDY.search(file)
    return found[1] if found else ""
