"""Compiled cache: a folder of compiled OpenVINO models in which changed files are detected.

OpenVINO recompiles a cached model that it cannot read, but loads one with changed weights
without an error. So each file is kept with its SHA-256 and deleted if it does not match.
"""

import hashlib
import os
from pathlib import Path


def open_cache(folder: Path) -> bool:
    """Create the folder and delete files that fail their checksum; False if it is unusable."""
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
    """Store the SHA-256 of each new file. A failure only makes the next start slower."""
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
