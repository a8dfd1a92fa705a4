"""Output: outcomes -> a table, JSON or CSV on standard output.

Enums are printed by their names in the contract, without prefix: `CROPPED`, `GRAD_CAM`.
"""

import csv
import dataclasses
import json
import sys
from collections.abc import Sequence
from datetime import datetime
from pathlib import Path
from typing import Any, Protocol

from cxr_client.cli.text import printable
from cxr_client.errors import CxrError
from cxr_client.results import Explanation, ExplanationSet, Prediction

Answer = Prediction | ExplanationSet
Failure = CxrError | OSError
Pictures = Sequence[Path | None]
"""The file written for each explanation; None where there is no picture. Empty for predictions."""


class Writer(Protocol):
    """Prints the outcomes of the images, one by one."""

    def answer(self, name: str, answer: Answer, pictures: Pictures) -> None:
        """Print an answer."""

    def failure(self, name: str, failure: Failure) -> None:
        """Print a failure, in addition to the line on standard error."""

    def end(self) -> None:
        """Print the footer."""


class TableWriter:
    """For people: an aligned table for each image, then a footer that explains the marks."""

    def __init__(self) -> None:
        """Start without footer."""
        self._warnings: dict[str, None] = {}
        self._notices: dict[str, None] = {}
        self._marked = False

    def answer(self, name: str, answer: Answer, pictures: Pictures) -> None:
        """Print one image's table."""
        info, model = answer.image_info, answer.model
        print(
            f"{printable(name)}  ({info.width_px} x {info.height_px} px, "
            f"{info.format}, {printable(model.name)} {printable(model.version)})"
        )
        if isinstance(answer, Prediction):
            rows = [["", "finding", "score", "probability", "threshold"]]
            for finding in answer.findings:
                numbers = (finding.score, finding.probability, finding.threshold)
                mark = "*" if finding.above_threshold else ""
                rows.append([mark, finding.label, *(f"{number:.3f}" for number in numbers)])
        else:
            rows = [["", "finding", "score", "logit", "peak at px", "picture"]]
            for explanation, picture in zip(answer.explanations, pictures, strict=True):
                mark = "*" if explanation.finding.above_threshold else ""
                rows.append([mark, *_explanation_cells(explanation), str(picture or "")])
        self._marked |= any(row[0] for row in rows[1:])
        for line in aligned(rows):
            print(f"  {line}")
        if answer.warnings:
            print("  ! " + ", ".join(warning.code for warning in answer.warnings))
        for warning in answer.warnings:
            self._warnings[f"{warning.code}: {warning.message}"] = None
        self._notices[answer.notice] = None
        print()

    def failure(self, name: str, failure: Failure) -> None:
        """Print nothing: the error is on standard error."""

    def end(self) -> None:
        """Print the meaning of the marks, the warnings and the notices."""
        if self._marked:
            print("* above the model's operating point, a score of 0.5; not a diagnosis")
        # Each sentence once, for any number of images.
        for sentence in filter(None, (*self._warnings, *self._notices)):
            print(printable(sentence))


class JsonWriter:
    """For programs: one JSON object per image, with `file` and either the answer or `error`."""

    def answer(self, name: str, answer: Answer, pictures: Pictures) -> None:
        """Print one image's answer."""
        fields = plain(answer)
        for explanation, picture in zip(fields.get("explanations", ()), pictures, strict=True):
            explanation["picture"] = None if picture is None else str(picture)
        print(json.dumps({"file": name, **fields}))

    def failure(self, name: str, failure: Failure) -> None:
        """Print one image's error."""
        print(json.dumps({"file": name, "error": error_fields(failure)}))

    def end(self) -> None:
        """Print nothing: JSON lines have no footer."""


class CsvWriter:
    """For spreadsheets: one row per finding, best first. The notice goes to standard error."""

    _COLUMNS = (
        "file,rank,label,score,probability,threshold,above_threshold,model,model_version,"
        "weights_sha256,warnings,request_id"
    )

    def __init__(self) -> None:
        """Print the header."""
        self._notice = ""
        self._rows = csv.writer(sys.stdout, lineterminator="\n")
        self._rows.writerow(self._COLUMNS.split(","))

    def answer(self, name: str, answer: Answer, pictures: Pictures) -> None:
        """Print one image's findings."""
        assert isinstance(answer, Prediction), "only predict has --csv"
        model, warnings = answer.model, " ".join(each.code for each in answer.warnings)
        for rank, finding in enumerate(answer.findings, start=1):
            numbers = (finding.score, finding.probability, finding.threshold)
            self._rows.writerow(
                [
                    printable(name),
                    rank,
                    finding.label,
                    *(f"{number:.6g}" for number in numbers),
                    "true" if finding.above_threshold else "false",
                    model.name,
                    model.version,
                    model.weights_sha256,
                    warnings,
                    answer.request_id,
                ]
            )
        self._notice = answer.notice

    def failure(self, name: str, failure: Failure) -> None:
        """Print nothing: the error is on standard error."""

    def end(self) -> None:
        """Print the notice to standard error."""
        if self._notice:
            print(printable(self._notice), file=sys.stderr)


def aligned(rows: Sequence[Sequence[str]]) -> list[str]:
    """Return the rows as lines of aligned columns; columns of numbers are aligned to the right."""
    texts = [[printable(cell) for cell in row] for row in rows]
    widths = [max(map(len, column)) for column in zip(*texts, strict=True)]
    right = [all(_is_number(cell) for cell in column[1:]) for column in zip(*texts, strict=True)]
    return [
        "  ".join(
            cell.rjust(width) if to_right else cell.ljust(width)
            for cell, width, to_right in zip(row, widths, right, strict=True)
        ).rstrip()
        for row in texts
    ]


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
            case datetime():
                return value.isoformat()
            case _:
                return value

    fields: dict[str, Any] = cleaned(dataclasses.asdict(result))
    return fields


def error_fields(failure: Failure) -> dict[str, Any]:
    """Return an error as JSON values."""
    if isinstance(failure, OSError):
        return {"code": None, "reason": "FILE", "message": os_message(failure)}
    return {
        "code": failure.code.name if failure.code else None,
        "reason": failure.reason,
        "message": failure.message,
        "fields": [violation.field for violation in failure.violations],
        "request_id": failure.request_id,
    }


def os_message(error: OSError) -> str:
    """Return the message of the system, without the file name."""
    return error.strerror or type(error).__name__


def _explanation_cells(explanation: Explanation) -> list[str]:
    peak = explanation.peak
    return [
        explanation.finding.label,
        f"{explanation.finding.score:.3f}",
        f"{explanation.logit:+.3f}",
        f"{peak.x_px:.0f}, {peak.y_px:.0f}" if peak else "no positive evidence",
    ]


def _is_number(text: str) -> bool:
    try:
        float(text)
    except ValueError:
        return False
    return True
