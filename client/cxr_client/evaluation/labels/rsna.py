"""RSNA Pneumonia Detection Challenge: stage_2_train_labels.csv, a row for each box."""

from pathlib import Path

import numpy as np

from cxr_client.evaluation.labels.label_set import Choices, LabelError, LabelSet, stem_of
from cxr_client.evaluation.labels.tables import read_columns

FINDINGS = ("Lung Opacity", "Pneumonia")


def read(path: Path, _: Choices) -> LabelSet:
    """Read the labels of images; several rows of an image are its boxes.

    Raises:
        LabelError: The file is not of this format.
    """
    table = read_columns(path, ["patientId", "Target"])
    targets: dict[str, str] = {}
    for key, target in zip(table["patientId"], table["Target"], strict=True):
        if targets.setdefault(key, target) != target or target not in ("0", "1"):
            raise LabelError(f'{path}: the image {key} has the Target "{target}"')
    labels = np.array([target == "1" for target in targets.values()], np.float32)
    return LabelSet(
        title="RSNA Pneumonia Detection Challenge",
        keys=tuple(targets),
        findings=dict.fromkeys(FINDINGS, labels),
        key_of=stem_of,
        choices=(
            "Target 1 is an opacity that suggests pneumonia: both findings are compared with it.",
        ),
        cautions=(
            "The file has no patients (its patientId names an image), so intervals treat every "
            "image as a separate patient and may be too narrow.",
            "Negatives include images that are abnormal but show no lung opacity.",
        ),
        # The challenge's images were taken from NIH ChestX-ray14.
        datasets=("rsna", "nih"),
    )
