"""Pictures: explanations -> files in the output folder. Next: output."""

import re
import tempfile
from contextlib import suppress
from pathlib import Path

from cxr_client.cli.files import FileError, Job, os_message
from cxr_client.cli.usage import UsageError
from cxr_client.enums import RenderKind
from cxr_client.picture import save_picture
from cxr_client.results import ExplanationSet


def prepare(folder: Path, *, option: str = "--output") -> None:
    """Make the output folder, and try it: no image is sent for pictures that cannot be kept.

    Raises:
        UsageError: No file can be created in it.
    """
    try:
        folder.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryFile(dir=folder):
            pass
    except OSError as error:
        raise UsageError(f"{option} {folder}: {os_message(error)}") from None


def save(explained: ExplanationSet, folder: Path, job: Job) -> list[Path | None]:
    """Write the pictures; return that of each explanation, None where there is none.

    The radiograph is written once, and is the picture of every explanation.

    Raises:
        FileError: One cannot be written.
    """
    if explained.radiograph:
        path = _save(explained.radiograph, folder, job, RenderKind.RADIOGRAPH.lower())
        return [path] * len(explained.explanations)
    return [
        _save(each.heatmap, folder, job, each.finding.label) if each.heatmap else None
        for each in explained.explanations
    ]


def sweep(folder: Path, before_s: float) -> None:
    """Delete unfinished pictures that were begun before a time of the clock, by killed runs."""
    for part in folder.rglob(".cxr-*.part"):
        with suppress(OSError):  # Another has deleted it.
            if part.stat().st_mtime < before_s:
                part.unlink()


def _save(picture: bytes, folder: Path, job: Job, what: str) -> Path:
    suffix = re.sub(r"[^A-Za-z0-9_-]", "_", what)  # Never out of the folder.
    path = folder / job.output_stem.with_name(f"{job.output_stem.name}-{suffix}")
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        return save_picture(picture, path)
    except OSError as error:
        raise FileError("OUTPUT", f"cannot write {path}: {os_message(error)}") from None
