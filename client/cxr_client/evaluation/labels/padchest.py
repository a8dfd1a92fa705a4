"""PadChest: PADCHEST_chest_x_ray_images_labels_160K_01.02.19.csv. Bustos et al., MedIA 2020.

Labels are matched whole, after their spaces are stripped: "nodule" is in "pseudonodule", too.
"""

import ast
from functools import cache
from pathlib import Path

import numpy as np

from cxr_client.evaluation.labels.label_set import (
    AGE,
    SCANNER,
    SEX,
    VIEW,
    Choices,
    LabelSet,
    stem_of,
    strings,
)
from cxr_client.evaluation.labels.tables import read_columns

FINDINGS: dict[str, frozenset[str]] = {
    "Atelectasis": frozenset(
        {
            "atelectasis",
            "atelectasis basal",
            "laminar atelectasis",
            "lobar atelectasis",
            "round atelectasis",
            "segmental atelectasis",
            "total atelectasis",
        }
    ),
    "Cardiomegaly": frozenset({"cardiomegaly"}),
    "Consolidation": frozenset({"consolidation", "air bronchogram"}),
    "Edema": frozenset({"pulmonary edema"}),
    "Effusion": frozenset(
        {"pleural effusion", "loculated pleural effusion", "loculated fissural effusion"}
    ),
    "Emphysema": frozenset({"emphysema"}),
    "Fibrosis": frozenset({"pulmonary fibrosis"}),
    "Fracture": frozenset(
        {
            "fracture",
            "callus rib fracture",
            "clavicle fracture",
            "humeral fracture",
            "rib fracture",
            "vertebral fracture",
        }
    ),
    "Hernia": frozenset({"hiatal hernia"}),
    "Infiltration": frozenset(
        {
            "infiltrates",
            "alveolar pattern",
            "ground glass pattern",
            "interstitial pattern",
            "reticular interstitial pattern",
            "reticulonodular interstitial pattern",
        }
    ),
    "Mass": frozenset({"mass", "pulmonary mass"}),
    "Nodule": frozenset({"nodule", "multiple nodules"}),
    "Pleural_Thickening": frozenset(
        {"pleural thickening", "apical pleural thickening", "calcified pleural thickening"}
    ),
    "Pneumonia": frozenset({"pneumonia", "atypical pneumonia"}),
    "Pneumothorax": frozenset({"pneumothorax", "hydropneumothorax"}),
}
_FRONTAL = {"PA", "AP", "AP_horizontal"}
_SET_ASIDE = {"exclude", "suboptimal study"}


def read(path: Path, choices: Choices) -> LabelSet:
    """Read the labels of images.

    Raises:
        LabelError: The file is not of this format.
    """
    table = read_columns(
        path,
        ["ImageID", "PatientID", "Projection", "Labels"],
        ["PatientSex_DICOM", "PatientBirth", "StudyDate_DICOM", "Manufacturer_DICOM"],
    )
    named = [_labels(text) for text in table["Labels"]]
    reasons = {
        "without labels": np.array([each is None for each in named]),
        "labelled exclude or suboptimal study": np.array(
            [bool(each and each & _SET_ASIDE) for each in named]
        ),
        "not a frontal image": np.array([view not in _FRONTAL for view in table["Projection"]])
        & (choices.laterals == "drop"),
    }
    keep, left_out = np.ones(len(named), bool), {}
    for reason, of in reasons.items():
        left_out[reason] = int((keep & of).sum())
        keep &= ~of
    kept = [each for each, used in zip(named, keep, strict=True) if used and each is not None]
    sources = {SEX: table.get("PatientSex_DICOM"), VIEW: table["Projection"]}
    sources[SCANNER] = table.get("Manufacturer_DICOM")
    if "PatientBirth" in table and "StudyDate_DICOM" in table:
        pairs = zip(table["PatientBirth"], table["StudyDate_DICOM"], strict=True)
        sources[AGE] = [_age(birth, date) for birth, date in pairs]
    return LabelSet(
        title="PadChest",
        keys=tuple(
            stem_of(name) for name, used in zip(table["ImageID"], keep, strict=True) if used
        ),
        findings={
            finding: np.array([bool(each & words) for each in kept], np.float32)
            for finding, words in FINDINGS.items()
        },
        key_of=stem_of,
        patients=strings(table["PatientID"])[keep],
        columns={name: strings(column)[keep] for name, column in sources.items() if column},
        choices=(
            "Labels are matched whole: pseudonodule is not Nodule, pericardial effusion not "
            "Effusion, mediastinal mass not Mass.",
            *(
                f"{finding} is any of {', '.join(sorted(words))}."
                for finding, words in FINDINGS.items()
                if len(words) > 1
            ),
            "A finding that an image's labels do not name is negative.",
            "Lateral and other views are left out."
            if choices.laterals == "drop"
            else "Lateral views are kept; the model is made for frontal ones.",
        ),
        cautions=("27 % of the reports were labelled by physicians, the others by a program.",),
        left_out={reason: count for reason, count in left_out.items() if count},
        unmapped=_unmapped(kept),
        datasets=("padchest",),
    )


@cache
def _labels(text: str) -> frozenset[str] | None:
    """Return the labels in a Python list of strings; None where the field is nan."""
    try:
        values = ast.literal_eval(text)
    except (ValueError, SyntaxError, MemoryError, RecursionError):
        return None
    if not isinstance(values, list):
        return None
    return frozenset(str(value).strip() for value in values) - {""}


def _age(birth: str, date: str) -> str:
    """Return the age in years at the study, from a year of birth and a date such as 20140915."""
    try:
        return str(int(date[:4]) - int(float(birth)))
    except ValueError:
        return ""


def _unmapped(labels: list[frozenset[str]]) -> tuple[str, ...]:
    known = frozenset[str]().union(*FINDINGS.values()) | _SET_ASIDE | {"normal"}
    return tuple(sorted(frozenset[str]().union(*labels) - known))
