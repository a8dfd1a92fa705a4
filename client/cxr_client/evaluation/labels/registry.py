"""Registry: the formats of label files, by name."""

import hashlib
from collections.abc import Callable
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


def sha256_of(path: Path) -> str | None:
    """Return the hash of a label file; None for a folder.

    Raises:
        OSError: It cannot be read.
    """
    if path.is_dir():
        return None
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()
