"""Compiled cache: a folder for OpenVINO's compiled models in which damage is noticed.

OpenVINO recompiles when it cannot read a cached model, but it reads one with changed weights
without a word. So each is kept with its SHA-256, and what does not fit is deleted.
"""

import hashlib
import os
from pathlib import Path


def open_cache(folder: Path) -> bool:
    """Make the folder, delete what is not as it was sealed; False if it cannot be used."""
    try:
        folder.mkdir(mode=0o700, parents=True, exist_ok=True)
        for blob in folder.glob("*.blob"):
            seal = _seal_of(blob)
            if not seal.is_file() or seal.read_text() != _sha256(blob):
                blob.unlink(missing_ok=True)
                seal.unlink(missing_ok=True)
    except (OSError, ValueError):
        return False
    return os.access(folder, os.R_OK | os.X_OK)


def seal_cache(folder: Path) -> None:
    """Write down the SHA-256 of what was added; failing to only costs time at the next start."""
    try:
        for blob in folder.glob("*.blob"):
            seal = _seal_of(blob)
            if not seal.is_file():
                new = seal.with_suffix(f".{os.getpid()}")
                new.write_text(_sha256(blob))
                os.replace(new, seal)
    except OSError:
        return


def _seal_of(blob: Path) -> Path:
    return blob.with_suffix(".sha256")


def _sha256(path: Path) -> str:
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()
