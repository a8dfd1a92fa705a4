"""Folders: a folder for each class, as in Kaggle's chest-xray-pneumonia: NORMAL and PNEUMONIA."""

import re
from pathlib import Path

import numpy as np

from cxr_client.evaluation.labels.label_set import (
    Choices,
    LabelError,
    LabelSet,
    sentence_list,
    strings,
    study_path_of,
)

_SUFFIXES = {".dcm", ".png", ".jpg", ".jpeg"}
_NEGATIVE = {"normal", "no finding", "no_finding", "negative"}
_key_of = study_path_of(2)
# person1_bacteria_2.jpeg; IM-0115-0001.jpeg and NORMAL2-IM-0927-0001.jpeg.
_PATIENT = re.compile(r"(person\d+)_|((?:NORMAL2-)?IM-\d+)-")


def read(path: Path, _: Choices) -> LabelSet:
    """Read a tree of folders: the folder that an image lies in is its class.

    Raises:
        LabelError: There is no such tree.
    """
    if not path.is_dir():
        raise LabelError(f"{path} is not a folder: with --format folders, --labels names one")
    files = sorted(file for file in path.rglob("*") if file.suffix.lower() in _SUFFIXES)
    classes = sorted({file.parent.name for file in files})
    # train/TB and test/tb are one class; which letters of it are large, the model says.
    findings = {name.lower(): name for name in classes if name.lower() not in _NEGATIVE}
    if not findings or len(findings) == len({name.lower() for name in classes}):
        raise LabelError(f"{path}: no image lies in a folder NORMAL beside that of a finding")
    kaggle = set(classes) == {"NORMAL", "PNEUMONIA"}
    of = [file.parent.name.lower() for file in files]
    matches = [_PATIENT.match(file.name) for file in files]
    patients = [found[1] or found[2] if found else "" for found in matches]
    return LabelSet(
        title="Kaggle chest-xray-pneumonia" if kaggle else path.name,
        keys=tuple(_key_of(str(file)) for file in files),
        findings={
            finding: np.array([name == lower for name in of], np.float32)
            for lower, finding in findings.items()
        },
        key_of=_key_of,
        patients=strings(patients) if all(patients) else None,
        choices=(
            f"The name of its folder is an image's class: {sentence_list(classes)}.",
            "An image is found by its name and its folder's.",
        ),
        cautions=(
            "These are radiographs of children of one to five years, outside the population that "
            "the model was trained on: the figures say nothing about adults.",
        )
        if kaggle
        else (),
        datasets=("kaggle-pneumonia",) if kaggle else (),
    )
