"""VinDr-CXR: train.csv of the VinBigData challenge, a row for each reader and box.

Nguyen et al., Scientific Data 2022. Three of 17 radiologists have read each image.
"""

from collections import defaultdict
from pathlib import Path

import numpy as np

from cxr_client.evaluation.labels.label_set import Choices, LabelSet, stem_of
from cxr_client.evaluation.labels.tables import read_columns

FINDINGS = {
    "Atelectasis": ("Atelectasis",),
    "Cardiomegaly": ("Cardiomegaly",),
    "Consolidation": ("Consolidation",),
    "Infiltration": ("Infiltration",),
    "Lung Opacity": ("Lung Opacity",),
    "Nodule/Mass": ("Mass", "Nodule"),
    "Pleural effusion": ("Effusion",),
    "Pleural thickening": ("Pleural_Thickening",),
    "Pneumothorax": ("Pneumothorax",),
    "Pulmonary fibrosis": ("Fibrosis",),
}
_SENTENCES = {
    "majority": "A finding is positive where more than half of an image's readers name it.",
    "any": "A finding is positive where any of an image's readers names it.",
    "all": "A finding is positive where all of an image's readers name it.",
}


def read(path: Path, choices: Choices) -> LabelSet:
    """Read the labels of images.

    Raises:
        LabelError: The file is not of this format.
    """
    table = read_columns(path, ["image_id", "class_name", "rad_id"])
    readers: dict[str, set[str]] = defaultdict(set)
    named: dict[tuple[str, str], set[str]] = defaultdict(set)
    for image, label, reader in zip(*table.values(), strict=True):
        readers[image].add(reader)
        named[image, label].add(reader)
    labels = {label for _, label in named}

    def positive(image: str, label: str) -> bool:
        votes, of = len(named.get((image, label), ())), len(readers[image])
        return {"majority": 2 * votes > of, "any": votes > 0, "all": votes == of}[choices.readers]

    findings = {
        finding: np.array([positive(image, label) for image in readers], np.float32)
        for label, targets in FINDINGS.items()
        for finding in targets
    }
    return LabelSet(
        title="VinDr-CXR",
        keys=tuple(readers),
        findings=findings,
        key_of=stem_of,
        choices=(
            _SENTENCES[choices.readers],
            "The label Nodule/Mass stands for both: Nodule and Mass are each compared with it.",
        ),
        cautions=(
            "The file has no patients, so intervals treat every image as a separate patient.",
        ),
        unmapped=tuple(sorted(labels - set(FINDINGS) - {"No finding"})),
        datasets=("vindr",),
    )
