"""Rows: the outcome of an image -> a line of the journal. Next: journal."""

from collections.abc import Sequence
from datetime import datetime
from os import stat_result
from typing import Any

from cxr_client.answer import Finding
from cxr_client.description import ModelDescription
from cxr_client.explanation import EvidenceGrid
from cxr_client.results import ExplanationSet, Prediction
from cxr_client.runs import (
    FORMAT,
    FORMAT_VERSION,
    EvidenceFields,
    FailureRow,
    FindingFields,
    Header,
    ImageRow,
)


def header(
    described: ModelDescription,
    options: dict[str, Any],
    *,
    client_version: str,
    server_version: str,
) -> Header:
    """Return the header of a run that begins now."""
    model = described.model
    found: Header = {
        "kind": "header",
        "format": FORMAT,
        "format_version": FORMAT_VERSION,
        "model": {
            "name": model.name,
            "version": model.version,
            "weights_sha256": model.weights_sha256,
        },
        "preprocessing_id": described.preprocessing_id,
        "labels": [finding.label for finding in described.findings],
        "thresholds": {
            finding.label: _float32(finding.threshold) for finding in described.findings
        },
        "input_side_px": described.input_side_px,
        "options": options,
        "client_version": client_version,
        "server_version": server_version,
        "notice": " ".join(described.notices),
        "created": datetime.now().astimezone().isoformat(timespec="seconds"),
    }
    if refit := described.refit:
        found["refit"] = {
            "parent_name": refit.parent_name,
            "parent_version": refit.parent_version,
            "labels_title": refit.labels_title,
            "labels_sha256": refit.labels_sha256,
            "calibration_method": refit.calibration_method,
        }
    if described.quantization:
        found["quantized_from"] = described.quantization.parent_name
    if reduced := model.reduced_precision:
        found["precision"] = reduced
    return found


def image_row(
    file: str,
    key: str,
    facts: stat_result,
    answer: Prediction | ExplanationSet,
    *,
    heatmap: str | None,
    with_evidence: bool,
) -> ImageRow:
    """Return the row of an answered image."""
    info = answer.image_info
    row: ImageRow = {
        "kind": "image",
        "file": file,
        "key": key,
        "size_bytes": facts.st_size,
        "mtime_ns": facts.st_mtime_ns,
        "findings": [_finding(finding) for finding in answer.findings],
        "warnings": [str(warning.code) for warning in answer.warnings],
        "image_info": {
            "format": str(info.format),
            "width_px": info.width_px,
            "height_px": info.height_px,
            "bit_depth": info.bit_depth,
            "crop_box": {
                "x_px": info.crop_box.x_px,
                "y_px": info.crop_box.y_px,
                "width_px": info.crop_box.width_px,
                "height_px": info.crop_box.height_px,
            },
            "presentation": str(info.presentation),
        },
        "typicality": None if answer.typicality is None else _float32(answer.typicality),
        "heatmap": heatmap,
        "request_id": answer.request_id,
    }
    if with_evidence and isinstance(answer, ExplanationSet):
        row["evidence"] = {each.finding.label: _evidence(each.evidence) for each in answer}
    return row


def failure_row(
    file: str, key: str, facts: stat_result | None, reason: str, message: str
) -> FailureRow:
    """Return the row of an image that was refused, or of a file that could not be read."""
    return {
        "kind": "failure",
        "file": file,
        "key": key,
        "size_bytes": facts.st_size if facts else None,
        "mtime_ns": facts.st_mtime_ns if facts else None,
        "reason": reason,
        "message": message,
    }


def _finding(finding: Finding) -> FindingFields:
    fields: FindingFields = {
        "label": finding.label,
        "score": _float32(finding.score),
        "probability": _float32(finding.probability),
        "threshold": _float32(finding.threshold),
        "above_threshold": finding.above_threshold,
    }
    if finding.calibrated_probability is not None:
        fields["calibrated_probability"] = _float32(finding.calibrated_probability)
    return fields


def _evidence(grid: EvidenceGrid) -> EvidenceFields:
    return {"rows": grid.rows, "columns": grid.columns, "values": _floats32(grid.values)}


def _floats32(values: Sequence[float]) -> list[float]:
    return list(map(_float32, values))


def _float32(value: float) -> float:
    """Return the number in the nine digits that identify a float32."""
    return float(f"{value:.9g}")
