"""Output: outcomes -> JSON or CSV on standard output; `table` prints for people.

Enums are printed by their names in the contract, without prefix: `CROPPED`, `GRAD_CAM`.
Numbers have the digits that a float32 needs.
"""

import csv
import dataclasses
import json
import sys
from collections.abc import Sequence
from datetime import datetime
from pathlib import Path
from typing import Any, Protocol

from cxr_client.answer import Finding
from cxr_client.cli.files import FileError
from cxr_client.cli.studies import Studies
from cxr_client.cli.text import printable, shortest
from cxr_client.errors import CxrError
from cxr_client.explanation import Explanation
from cxr_client.results import ExplanationSet, Prediction

Answer = Prediction | ExplanationSet
Failure = CxrError | FileError
Pictures = Sequence[Path | None]
"""The file written for each explanation; None where there is no picture. Empty for predictions.
With the kind RADIOGRAPH all explanations have the same file."""


class Writer(Protocol):
    """Prints the outcomes of the images, one by one."""

    def answer(self, name: str, answer: Answer, pictures: Pictures) -> None:
        """Print an answer."""

    def failure(self, name: str, failure: Failure) -> None:
        """Print a failure, in addition to the line on standard error."""

    def end(self) -> None:
        """Print the footer."""


class JsonWriter:
    """For programs: one JSON object per image, with `file` and either the answer or `error`."""

    def __init__(self, studies: Studies) -> None:
        """Print the UIDs of these studies, too."""
        self._studies = studies

    def answer(self, name: str, answer: Answer, pictures: Pictures) -> None:
        """Print one image's answer."""
        fields = plain(answer)
        for explanation, picture in zip(fields.get("explanations", ()), pictures, strict=True):
            explanation["picture"] = None if picture is None else str(picture)
        print(json.dumps({"file": name, **self._studies.columns(name), **fields}))

    def failure(self, name: str, failure: Failure) -> None:
        """Print one image's error."""
        columns = self._studies.columns(name)
        print(json.dumps({"file": name, **columns, "error": error_fields(failure)}))

    def end(self) -> None:
        """Print nothing: JSON lines have no footer."""


class CsvWriter:
    """For spreadsheets: one row per finding, best first, and one for each failure.

    What is the same in every row is printed once to standard error, in the end: the model and the
    notice. `verbose` adds the model and the id of the request to each row.
    """

    _FINDING = "file,rank,label,score,probability,calibrated_probability,threshold,above_threshold"
    _EXPLANATION = "logit,peak_x_px,peak_y_px,picture"
    _VERBOSE = "model,model_version,weights_sha256,precision,request_id"

    def __init__(self, *, explains: bool, verbose: bool, studies: Studies) -> None:
        """Print the header."""
        self._verbose, self._studies = verbose, studies
        self._model = self._notice = ""
        columns = [self._FINDING, "warnings,error"]
        if explains:
            columns.insert(1, self._EXPLANATION)
        if verbose:
            columns.append(self._VERBOSE)
        if studies.series:
            columns.append("study_uid,series_uid")
        fields = ",".join(columns).split(",")
        self._rows = csv.DictWriter(sys.stdout, fields, restval="", lineterminator="\n")
        self._rows.writeheader()

    def answer(self, name: str, answer: Answer, pictures: Pictures) -> None:
        """Print one image's findings."""
        explained = explanations_of(answer, pictures)
        model = answer.model
        for rank, finding in enumerate(all_findings(answer), start=1):
            row: dict[str, Any] = {"file": printable(name), "rank": rank, "label": finding.label}
            for field in ("score", "probability", "threshold"):
                row[field] = shortest(getattr(finding, field))
            if finding.calibrated_probability is not None:
                row["calibrated_probability"] = shortest(finding.calibrated_probability)
            row["above_threshold"] = "true" if finding.above_threshold else "false"
            row["warnings"] = " ".join(warning.code for warning in answer.warnings)
            if finding.label in explained:
                row |= _explanation_columns(*explained[finding.label])
            if self._verbose:
                row |= {"model": model.name, "model_version": model.version}
                row |= {"weights_sha256": model.weights_sha256, "precision": model.precision}
                row["request_id"] = answer.request_id
            self._rows.writerow(row | self._studies.columns(name))
        self._model = f"{model.name} {model.version}, weights of SHA-256 {model.weights_sha256}"
        self._notice = answer.notice

    def failure(self, name: str, failure: Failure) -> None:
        """Print a row with the error alone."""
        error = error_fields(failure)
        text = ": ".join(filter(None, (error["reason"] or error["code"], error["message"])))
        row = {"file": printable(name), "error": printable(text)}
        if self._verbose:
            row["request_id"] = error.get("request_id", "")
        self._rows.writerow(row | self._studies.columns(name))

    def end(self) -> None:
        """Print the model and the notice to standard error."""
        if self._model:
            print(printable(f"model: {self._model}"), file=sys.stderr)
            print(printable(self._notice), file=sys.stderr)


def all_findings(answer: Answer) -> list[Finding]:
    """Return the findings of an answer, best first, and after them those that only it explains."""
    findings = {finding.label: finding for finding in answer.findings}
    if isinstance(answer, ExplanationSet):
        for explanation in answer.explanations:
            findings.setdefault(explanation.finding.label, explanation.finding)
    return list(findings.values())


def explanations_of(
    answer: Answer, pictures: Pictures
) -> dict[str, tuple[Explanation, Path | None]]:
    """Return the explanations of an answer and their pictures, by label."""
    if isinstance(answer, Prediction):
        return {}
    pairs = zip(answer.explanations, pictures, strict=True)
    return {explanation.finding.label: (explanation, picture) for explanation, picture in pairs}


def plain(result: Any) -> dict[str, Any]:
    """Return a result as JSON values, without pictures."""
    assert dataclasses.is_dataclass(result)
    assert not isinstance(result, type)

    def cleaned(value: Any) -> Any:
        match value:
            case dict():
                return {
                    key: cleaned(each) for key, each in value.items() if not isinstance(each, bytes)
                }
            case list() | tuple():
                return [cleaned(each) for each in value]
            case float():
                return shortest(value)
            case datetime():
                return value.isoformat()
            case _:
                return value

    fields: dict[str, Any] = cleaned(dataclasses.asdict(result))
    return fields


def error_fields(failure: Failure) -> dict[str, Any]:
    """Return an error as JSON values."""
    if isinstance(failure, FileError):
        return {"code": None, "reason": failure.reason, "message": failure.message}
    return {
        "code": failure.code.name if failure.code else None,
        "reason": failure.reason,
        "message": failure.message,
        "fields": [violation.field for violation in failure.violations],
        "request_id": failure.request_id,
    }


def _explanation_columns(explanation: Explanation, picture: Path | None) -> dict[str, Any]:
    columns: dict[str, Any] = {"logit": shortest(explanation.logit)}
    if explanation.peak:
        columns["peak_x_px"] = shortest(explanation.peak.x_px)
        columns["peak_y_px"] = shortest(explanation.peak.y_px)
    if picture:
        columns["picture"] = printable(picture)
    return columns
