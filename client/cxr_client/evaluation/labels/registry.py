"""Registry: the formats of label files, by name."""

import hashlib
from collections.abc import Callable
from dataclasses import fields
from pathlib import Path

from cxr_client.evaluation.labels import (
    chexpert,
    folders,
    generic,
    mimic,
    nih,
    padchest,
    rsna,
    siim,
    vindr,
)
from cxr_client.evaluation.labels.label_set import Choices, LabelSet

FORMATS: dict[str, Callable[[Path, Choices], LabelSet]] = {
    "nih": nih.read,
    "chexpert": chexpert.read,
    "mimic": mimic.read,
    "padchest": padchest.read,
    "rsna": rsna.read,
    "vindr": vindr.read,
    "siim": siim.read,
    "folders": folders.read,
    "csv": generic.read,
}

_MINED = frozenset({"blank", "uncertain", "laterals"})
_OPTIONS: dict[str, frozenset[str]] = {
    "chexpert": _MINED,
    "mimic": _MINED | {"metadata"},
    "padchest": frozenset({"laterals"}),
    "vindr": frozenset({"readers"}),
    "csv": frozenset({"blank", "uncertain", "key_column", "patient_column", "map"}),
}
"""The choices that a format has; the others have none."""


def idle_choices(label_format: str, choices: Choices) -> list[str]:
    """Return the choices that were made and that the format does not have."""
    made = {
        each.name
        for each in fields(Choices)
        if getattr(choices, each.name) != getattr(Choices(), each.name)
    }
    return sorted(made - _OPTIONS.get(label_format, frozenset()))


def sha256_of(path: Path) -> str | None:
    """Return the hash of a label file; None for a folder.

    Raises:
        OSError: It cannot be read.
    """
    if path.is_dir():
        return None
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()
