"""Pictures: explanations -> files in the output folder. Next: output."""

import re
import tempfile
from pathlib import Path

from cxr_client.cli.files import FileError, Job, os_message
from cxr_client.cli.usage import UsageError
from cxr_client.explanation import Explanation


def prepare(folder: Path) -> None:
    """Make the output folder, and try it: no image is sent for pictures that cannot be kept.

    Raises:
        UsageError: No file can be created in it.
    """
    try:
        folder.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryFile(dir=folder):
            pass
    except OSError as error:
        raise UsageError(f"--output {folder}: {os_message(error)}") from None


def save(explanation: Explanation, folder: Path, job: Job) -> Path | None:
    """Write the picture of one explanation; return its path, or None where there is no picture.

    Raises:
        FileError: It cannot be written.
    """
    if not explanation.heatmap:
        return None
    label = re.sub(r"[^A-Za-z0-9_-]", "_", explanation.finding.label)  # Never out of the folder.
    path = folder / job.output_stem.with_name(f"{job.output_stem.name}-{label}")
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        return explanation.save(path)
    except OSError as error:
        raise FileError("OUTPUT", f"cannot write {path}: {os_message(error)}") from None
