"""NIH ChestX-ray14: Data_Entry_2017.csv. Wang et al., CVPR 2017."""

from pathlib import Path

import numpy as np

from cxr_client.evaluation.labels.label_set import (
    AGE,
    SEX,
    VIEW,
    Choices,
    LabelSet,
    stem_of,
    strings,
)
from cxr_client.evaluation.labels.tables import read_columns

FINDINGS = {
    "Atelectasis": "Atelectasis",
    "Cardiomegaly": "Cardiomegaly",
    "Consolidation": "Consolidation",
    "Edema": "Edema",
    "Effusion": "Effusion",
    "Emphysema": "Emphysema",
    "Fibrosis": "Fibrosis",
    "Hernia": "Hernia",
    "Infiltration": "Infiltration",
    # The list of boxes, and the first edition of the labels' paper, say so.
    "Infiltrate": "Infiltration",
    "Mass": "Mass",
    "Nodule": "Nodule",
    "Pleural_Thickening": "Pleural_Thickening",
    "Pneumonia": "Pneumonia",
    "Pneumothorax": "Pneumothorax",
}
_COLUMNS = {"Patient Gender": SEX, "Patient Age": AGE, "View Position": VIEW}


def read(path: Path, _: Choices) -> LabelSet:
    """Read the labels; every image has all of them.

    Raises:
        LabelError: The file is not of this format.
    """
    required = ["Image Index", "Finding Labels", "Patient ID"]
    table = read_columns(path, required, optional=list(_COLUMNS))
    named = table["Finding Labels"]
    labels = {text: frozenset(text.split("|")) for text in set(named)}
    found = {label for each in labels.values() for label in each}
    findings = {}
    for finding in sorted(set(FINDINGS.values())):
        words = {label for label, target in FINDINGS.items() if target == finding}
        positive = {text for text, each in labels.items() if each & words}
        findings[finding] = np.array([text in positive for text in named], np.float32)
    return LabelSet(
        title="NIH ChestX-ray14",
        keys=tuple(map(stem_of, table["Image Index"])),
        findings=findings,
        key_of=stem_of,
        patients=strings(table["Patient ID"]),
        columns={_COLUMNS[name]: strings(table[name]) for name in _COLUMNS if name in table},
        choices=("A finding that an image's labels do not name is negative.",),
        cautions=(
            "The labels were mined from reports by a program; its authors state an accuracy "
            "above 90 %, others have found less.",
        ),
        unmapped=tuple(sorted(found - set(FINDINGS) - {"No Finding"})),
        datasets=("nih",),
    )
