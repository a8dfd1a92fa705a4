"""CheXpert: train.csv and valid.csv, and MIMIC-CXR-JPG, whose labels are the same labeller's.

Irvin et al., AAAI 2019; Johnson et al., arXiv 1901.07042. 1 is positive, 0 negative, -1 uncertain
and blank not mentioned.
"""

from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from cxr_client.evaluation.labels.label_set import (
    AGE,
    SEX,
    VIEW,
    Choices,
    LabelError,
    LabelSet,
    strings,
    study_path_of,
)
from cxr_client.evaluation.labels.tables import read_columns

FINDINGS = {
    "Atelectasis": "Atelectasis",
    "Cardiomegaly": "Cardiomegaly",
    "Consolidation": "Consolidation",
    "Edema": "Edema",
    "Enlarged Cardiomediastinum": "Enlarged Cardiomediastinum",
    "Fracture": "Fracture",
    "Lung Lesion": "Lung Lesion",
    "Lung Opacity": "Lung Opacity",
    "Pleural Effusion": "Effusion",
    "Pneumonia": "Pneumonia",
    "Pneumothorax": "Pneumothorax",
}
UNMAPPED = ("Pleural Other", "Support Devices")
NO_FINDING = "No Finding"
_VALUES = {"1": 1.0, "0": 0.0, "-1": -1.0, "": np.nan}
_key_of = study_path_of(3)


def read(path: Path, choices: Choices) -> LabelSet:
    """Read the labels of images.

    Raises:
        LabelError: The file is not of this format.
    """
    required = ["Path", *FINDINGS]
    table = read_columns(path, required, ["Frontal/Lateral", NO_FINDING, "Sex", "Age", "AP/PA"])
    keys = [_key_of(each) for each in table["Path"]]
    keep = np.ones(len(keys), bool)
    if choices.laterals == "drop":
        # The test set's file has no such column; its names end in _frontal or _lateral.
        views = table.get("Frontal/Lateral", keys)
        keep = np.array([not view.lower().endswith("lateral") for view in views], bool)
    columns = {
        name: strings(table[column])[keep]
        for name, column in ((SEX, "Sex"), (AGE, "Age"), (VIEW, "AP/PA"))
        if column in table
    }
    return LabelSet(
        title="CheXpert",
        keys=tuple(key for key, kept in zip(keys, keep, strict=True) if kept),
        findings=findings_of(table, choices, keep),
        key_of=_key_of,
        patients=strings([key.split("/")[0] for key in keys])[keep],
        columns=columns,
        choices=(
            *statements(choices),
            "Lateral images are left out."
            if choices.laterals == "drop"
            else "Lateral images are kept; the model is made for frontal ones.",
        ),
        cautions=(
            "The labels were mined from reports by a program and are of a study, not of an image.",
        ),
        left_out={"lateral image": int((~keep).sum())} if not keep.all() else {},
        unmapped=UNMAPPED,
        datasets=("chexpert",),
    )


def findings_of(
    table: dict[str, list[str]], choices: Choices, keep: NDArray[np.bool_]
) -> dict[str, NDArray[np.float32]]:
    """Return the labels of the kept rows by finding, float32 [n].

    Raises:
        LabelError: A value is none of 1, 0, -1 and blank.
    """
    uncertain = {"ignore": np.nan, "positive": 1.0, "negative": 0.0}[choices.uncertain]
    healthy = np.zeros(int(keep.sum()), bool)
    if NO_FINDING in table:
        healthy = _numbers(table[NO_FINDING], NO_FINDING)[keep] == 1
    findings = {}
    for label, finding in FINDINGS.items():
        raw = _numbers(table[label], label)[keep]
        values = np.where(raw == -1, uncertain, raw).astype(np.float32)
        blank = np.isnan(raw)
        values[blank & healthy if choices.blank == "ignore" else blank] = 0
        findings[finding] = values
    return findings


def statements(choices: Choices) -> tuple[str, ...]:
    """Return how blank and uncertain labels were read."""
    unknown = choices.blank == "ignore"
    return (
        "A finding that is not mentioned (blank) is unknown, unless No Finding is 1."
        if unknown
        else "A finding that is not mentioned (blank) is negative.",
        f"Uncertain labels (-1) are {choices.uncertain.replace('ignore', 'unknown')}.",
    )


def _numbers(texts: list[str], column: str) -> NDArray[Any]:
    try:
        return np.array([_VALUES[text.strip().removesuffix(".0")] for text in texts], np.float64)
    except KeyError as error:
        value = error.args[0]
        raise LabelError(f'the column {column} holds "{value}", not 1, 0, -1 or blank') from None
