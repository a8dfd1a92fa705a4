"""CSV: any table with a row for each image and a column for each finding."""

from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from cxr_client.evaluation.labels.label_set import (
    AGE,
    SCANNER,
    SEX,
    VIEW,
    Choices,
    LabelError,
    LabelSet,
    stem_of,
    strings,
)
from cxr_client.evaluation.labels.tables import read_rows

_KNOWN_FINDINGS = (
    "Atelectasis",
    "Cardiomegaly",
    "Consolidation",
    "Edema",
    "Effusion",
    "Emphysema",
    "Enlarged Cardiomediastinum",
    "Fibrosis",
    "Fracture",
    "Hernia",
    "Infiltration",
    "Lung Lesion",
    "Lung Opacity",
    "Mass",
    "Nodule",
    "Pleural_Thickening",
    "Pneumonia",
    "Pneumothorax",
)
_PATIENT = {"patient", "patientid", "subject", "subjectid"}
_COLUMNS = {
    "age": AGE,
    "patientage": AGE,
    "sex": SEX,
    "gender": SEX,
    "patientsex": SEX,
    "patientgender": SEX,
    "view": VIEW,
    "viewposition": VIEW,
    "scanner": SCANNER,
    "manufacturer": SCANNER,
}
_BLANK = ("", "nan", "na", "none")
_VALUES = {
    **dict.fromkeys(("1", "1.0", "true", "yes", "positive"), 1.0),
    **dict.fromkeys(("0", "0.0", "false", "no", "negative"), 0.0),
    **dict.fromkeys(("-1", "-1.0", "uncertain"), -1.0),
    **dict.fromkeys(_BLANK, np.nan),
}


def read(path: Path, choices: Choices) -> LabelSet:
    """Read a table: its columns that are called like findings are labels, the others subgroups.

    Raises:
        LabelError: The file is no such table.
    """
    header, rows = read_rows(path)
    if len(set(header)) != len(header):
        raise LabelError(f"{path}: two columns have the same name")
    table = {name: [row[index] for row in rows] for index, name in enumerate(header)}
    for option in filter(None, (choices.key_column, choices.patient_column, *choices.map)):
        if option not in table:
            raise LabelError(f"{path} has no column {option}; it has {', '.join(header)}")
    key_column = choices.key_column or header[0]
    patient_column = choices.patient_column or next(
        (name for name in header if _plain(name) in _PATIENT and name != key_column), None
    )
    known = {_plain(finding): finding for finding in _KNOWN_FINDINGS}
    targets = {name: known[_plain(name)] for name in header if _plain(name) in known} | choices.map
    targets.pop(key_column, None)
    if not targets:
        raise LabelError(f"{path}: no column has the name of a finding; see --map")
    others = [name for name in header if name not in {key_column, patient_column, *targets}]
    return LabelSet(
        title=path.name,
        keys=tuple(stem_of(name.strip()) for name in table[key_column]),
        findings={
            finding: _labels(table[name], name, choices) for name, finding in targets.items()
        },
        key_of=stem_of,
        patients=None if patient_column is None else _patients(table[patient_column]),
        columns={_COLUMNS.get(_plain(name), name): strings(table[name]) for name in others},
        choices=(
            f"Images are matched by the column {key_column}, without folders and suffixes.",
            f"Patients are those of the column {patient_column}."
            if patient_column
            else "The table has no column of patients: every image counts as a separate patient.",
            *(f"The column {name} stands for {target}." for name, target in choices.map.items()),
            f"A blank is {choices.blank or 'unknown'}.".replace("ignore", "unknown"),
            f"Uncertain labels (-1) are {choices.uncertain.replace('ignore', 'unknown')}.",
        ),
    )


def _labels(texts: list[str], column: str, choices: Choices) -> NDArray[np.float32]:
    try:
        raw = np.array([_VALUES[text.strip().lower()] for text in texts], np.float32)
    except KeyError as error:
        raise LabelError(
            f'the column {column} holds "{error.args[0]}": a label is 1, 0, -1, yes, no or blank'
        ) from None
    blank = np.isnan(raw)
    raw[raw == -1] = {"ignore": np.nan, "positive": 1, "negative": 0}[choices.uncertain]
    if choices.blank == "negative":
        raw[blank] = 0
    return raw


def _patients(texts: list[str]) -> NDArray[np.str_]:
    """Return patients, "" where the table states none."""
    return strings(["" if text.strip().lower() in _BLANK else text for text in texts])


def _plain(name: str) -> str:
    return "".join(filter(str.isalnum, name.lower()))
