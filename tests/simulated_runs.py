"""Runs written by hand: scores that are drawn so that their truth is known."""

from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from cxr_client.runs import FailureRow, Header, ImageRow, encode

OPERATING_POINT = 0.5


def header(labels: Sequence[str], model: str = "phantom") -> Header:
    return {
        "kind": "header",
        "format": "cxr-run",
        "format_version": 1,
        "model": {"name": model, "version": "1", "weights_sha256": "ab" * 32},
        "preprocessing_id": "xrv-224",
        "labels": list(labels),
        "thresholds": dict.fromkeys(labels, OPERATING_POINT),
        "input_side_px": 224,
        "options": {},
        "client_version": "0.1.0",
        "server_version": "0.1.0",
        "notice": "For research use only.",
        "created": "2026-01-01T00:00:00+00:00",
    }


def image(
    file: str, scores: dict[str, float], warnings: Sequence[str] = (), **more: Any
) -> ImageRow:
    row: Any = {
        "kind": "image",
        "file": file,
        "key": file,
        "size_bytes": 1,
        "mtime_ns": 1,
        "findings": [
            {
                "label": label,
                "score": float(score),
                "probability": float(score),
                "threshold": OPERATING_POINT,
                "above_threshold": bool(score >= OPERATING_POINT),
            }
            for label, score in sorted(scores.items(), key=lambda each: -each[1])
        ],
        "warnings": list(warnings),
        "image_info": {},
        "typicality": None,
        "heatmap": None,
        "request_id": "r",
    }
    found: ImageRow = row | more
    return found


def failure(file: str, reason: str) -> FailureRow:
    return {
        "kind": "failure",
        "file": file,
        "key": file,
        "size_bytes": 1,
        "mtime_ns": 1,
        "reason": reason,
        "message": "",
    }


def write_run(path: Path, first: Header, rows: Iterable[ImageRow | FailureRow]) -> Path:
    with path.open("wb") as file:
        file.write(encode(first))
        file.writelines(map(encode, rows))
    return path


def drawn_scores(labels: NDArray[Any], seed: int, shift: float = 1.0) -> NDArray[np.float64]:
    """Return probabilities, higher for positives, [n]; their AUROC is that of two normals."""
    logits = np.random.default_rng(seed).normal(shift * np.nan_to_num(labels), 1.0) - shift / 2
    return np.round(1 / (1 + np.exp(-logits)), 6)
