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
    sentence_list,
    strings,
)
from cxr_client.evaluation.labels.tables import read_rows
from cxr_client.evaluation.paths import path_of

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
    columns = _columns_of_findings([name for name in header if name != key_column], choices)
    if not columns:
        raise LabelError(f"{path}: no column has the name of a finding; see --map")
    used = {key_column, patient_column, *(name for names in columns.values() for name in names)}
    others = [name for name in header if name not in used]
    return LabelSet(
        title=path.name,
        keys=tuple(map(path_of, table[key_column])),
        findings={
            finding: _any([_labels(table[name], name, choices) for name in names])
            for finding, names in columns.items()
        },
        key_of=path_of,
        by_path=True,
        patients=None if patient_column is None else _patients(table[patient_column]),
        columns={_COLUMNS.get(_plain(name), name): strings(table[name]) for name in others},
        choices=(
            f"Images are matched by the column {key_column}, without suffixes; by its folders, "
            "too, where the run has the same.",
            f"Patients are those of the column {patient_column}."
            if patient_column
            else "The table has no column of patients: every image counts as a separate patient.",
            *(_assigned(finding, columns[finding]) for finding in _mapped(choices)),
            f"A blank is {choices.blank or 'unknown'}.".replace("ignore", "unknown"),
            f"Uncertain labels (-1) are {choices.uncertain.replace('ignore', 'unknown')}.",
        ),
    )


def _columns_of_findings(header: list[str], choices: Choices) -> dict[str, list[str]]:
    """Return the columns of each finding: those that `map` names, or else the one called so."""
    columns = {
        finding: [name for name, target in choices.map.items() if target == finding]
        for finding in _mapped(choices)
    }
    known = {_plain(finding): finding for finding in _KNOWN_FINDINGS}
    for name in header:
        finding = known.get(_plain(name))
        if finding is None or finding in choices.map.values() or name in choices.map:
            continue
        if finding in columns:
            raise LabelError(
                f"the columns {columns[finding][0]} and {name} both have the name of {finding}: "
                "say with --map which stands for it, or that both do"
            )
        columns[finding] = [name]
    return columns


def _mapped(choices: Choices) -> list[str]:
    return list(dict.fromkeys(choices.map.values()))


def _assigned(finding: str, columns: list[str]) -> str:
    if len(columns) == 1:
        return f"The column {columns[0]} stands for {finding}."
    return (
        f"{finding} is positive where any of the columns {sentence_list(columns)} is, and negative "
        "where all are."
    )


def _any(columns: list[NDArray[np.float32]]) -> NDArray[np.float32]:
    """Return 1 where any column is 1, else NaN where any is unknown, else 0; [n]."""
    table = np.stack(columns)
    found: NDArray[np.float32] = np.where((table == 1).any(axis=0), 1, table.max(axis=0))
    return found.astype(np.float32)


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
