"""MIMIC-CXR-JPG: mimic-cxr-2.0.0-chexpert.csv, labels of studies. Johnson et al., 1901.07042."""

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
from cxr_client.evaluation.labels.label_set import Choices, LabelSet, strings
from cxr_client.evaluation.labels.tables import read_columns

_STUDY = re.compile(r"(?:^|[/\\])s(\d{8})[/\\]")


def read(path: Path, choices: Choices) -> LabelSet:
    """Read the labels of studies; images are found by the folder of their study.

    Raises:
        LabelError: The file is not of this format.
    """
    table = read_columns(path, ["subject_id", "study_id", *FINDINGS], [NO_FINDING])
    return LabelSet(
        title="MIMIC-CXR-JPG",
        keys=tuple(table["study_id"]),
        findings=findings_of(table, choices, np.ones(len(table["study_id"]), bool)),
        key_of=_study_of,
        unit="study",
        patients=strings(table["subject_id"]),
        choices=statements(choices),
        cautions=(
            "The labels were mined from reports by a program and are of a study: every image of "
            "a study has its labels. The file does not say which images are lateral.",
        ),
        unmapped=UNMAPPED,
        datasets=("mimic",),
    )


def _study_of(file: str) -> str:
    """Return the study in a path such as files/p10/p10000032/s50414267/02aa804e.jpg."""
    found = _STUDY.search(file)
    return found[1] if found else ""
