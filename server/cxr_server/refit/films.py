"""Films: the files of `cxr evaluate` -> scores, labels and patients. Next: fit."""

import csv
import hashlib
import io
from dataclasses import dataclass
from pathlib import Path

import msgspec
import numpy as np
from numpy.typing import NDArray

from cxr_server.bundles.fields import Line, Sha256
from cxr_server.errors import OperatorError

FORMAT = "cxr-evaluation"
FORMAT_VERSION = 1


class EvaluationError(OperatorError):
    """A file that is no evaluation, or is incomplete. The message names it."""


class _Model(msgspec.Struct):
    weights_sha256: Sha256


class _Run(msgspec.Struct):
    sha256: Sha256
    model: _Model
    precision: str
    preprocessing_id: str


class _Labels(msgspec.Struct):
    title: Line
    sha256: Sha256 | None


class _Rows(msgspec.Struct):
    file: str
    sha256: Sha256
    findings: list[str]


class _Document(msgspec.Struct):
    """What is read of `evaluation.json`, which has more."""

    format: str
    format_version: int
    run: _Run
    labels: _Labels
    rows: _Rows


@dataclass(frozen=True, slots=True, kw_only=True)
class Films:
    """n films with labels of k findings, and where they come from."""

    sha256: str
    """Hash of the evaluation."""

    run_sha256: str
    weights_sha256: str
    precision: str
    """What the features were computed in, such as "int8"."""

    preprocessing_id: str
    labels_title: str
    labels_sha256: str | None
    findings: tuple[str, ...]
    patients: NDArray[np.int64]
    """Number of each film's patient, or of the film where patients are unknown, [n]."""

    has_patients: bool
    probabilities: NDArray[np.float64]
    """Raw sigmoid, [n, k]."""

    labels: NDArray[np.float64]
    """1, 0 or NaN, [n, k]."""


def read_films(path: Path) -> Films:
    """Read an evaluation and the table of its films beside it.

    Raises EvaluationError and OSError.
    """
    content = path.read_bytes()
    try:
        stated = msgspec.json.decode(content, type=dict)
        if (stated.get("format"), stated.get("format_version")) != (FORMAT, FORMAT_VERSION):
            raise EvaluationError(f"{path} is not a JSON file of `cxr evaluate RUN`")
        document = msgspec.convert(stated, _Document)
    except (ValueError, RecursionError) as error:
        raise EvaluationError(f"{path} is not a JSON file of `cxr evaluate RUN`: {error}") from None
    rows = document.rows
    if not rows.findings or Path(rows.file).name != rows.file:
        raise EvaluationError(f"{path}: names no findings, or a table in another folder")
    table = path.with_name(rows.file)
    text = table.read_bytes()
    if hashlib.sha256(text).hexdigest() != rows.sha256:
        raise EvaluationError(f"{table} is not the table of {path.name}: its SHA-256 differs")
    patients, has_patients, numbers = _parsed(table, text, rows.findings)
    return Films(
        sha256=hashlib.sha256(content).hexdigest(),
        run_sha256=document.run.sha256,
        weights_sha256=document.run.model.weights_sha256,
        precision=document.run.precision,
        preprocessing_id=document.run.preprocessing_id,
        labels_title=document.labels.title,
        labels_sha256=document.labels.sha256,
        findings=tuple(rows.findings),
        patients=patients,
        has_patients=has_patients,
        probabilities=numbers[:, ::2],
        labels=numbers[:, 1::2],
    )


def _parsed(
    path: Path, text: bytes, findings: list[str]
) -> tuple[NDArray[np.int64], bool, NDArray[np.float64]]:
    """Return patients, whether they are known, and probability and label by finding [n, 2 k]."""
    reader = csv.reader(io.StringIO(text.decode("utf-8", "surrogateescape"), newline=""))
    header = next(reader, [])
    wanted = [f"{finding}_{kind}" for finding in findings for kind in ("probability", "label")]
    if "line" not in header or not set(wanted) <= set(header):
        raise EvaluationError(f"{path} has no column line, or lacks those of a finding")
    has_patients = "patient" in header
    unit = header.index("patient" if has_patients else "line")
    columns = [header.index(name) for name in wanted]
    units: list[int] = []
    numbers: list[NDArray[np.float64]] = []
    try:
        for row in reader:
            units.append(int(row[unit]))
            numbers.append(np.array([float(row[column] or "nan") for column in columns]))
    except (ValueError, IndexError, csv.Error):
        raise EvaluationError(f"{path}: line {reader.line_num} is damaged") from None
    if not numbers:
        raise EvaluationError(f"{path} has no films")
    found = np.stack(numbers)
    probabilities, labels = found[:, ::2], found[:, 1::2]
    known = labels[~np.isnan(labels)]
    if not ((probabilities >= 0) & (probabilities <= 1)).all() or not np.isin(known, (0, 1)).all():
        raise EvaluationError(f"{path} has probabilities outside [0, 1], or labels but 0 and 1")
    return np.array(units, np.int64), has_patients, found
