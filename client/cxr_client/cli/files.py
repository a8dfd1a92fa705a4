"""Files: paths on the command line -> images to send, in order. Next: batch."""

import os
import re
import sys
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path

_SUFFIXES = (".png", ".jpg", ".jpeg")


@dataclass(frozen=True, slots=True)
class Job:
    """One image to send."""

    name: str
    """The name to print: the path as given, or "-"."""

    source: bytes | Path
    """The bytes of the image, or its path."""

    output_stem: Path
    """Where its heatmaps go, relative to the output folder. Unique among the jobs."""


def find_jobs(names: Iterable[str], *, skip: Path | None, max_bytes: int) -> list[Job]:
    """Return a job for every file, for every PNG and JPEG file in folders, and for "-".

    `skip` is a folder not to search: the one that the command writes its pictures to.

    Raises:
        OSError: A folder cannot be read.
    """
    jobs: list[Job] = []
    taken: set[Path] = set()
    for name, source, stem in _find(names, skip, max_bytes):
        unique, count = stem, 1
        while unique in taken:
            count += 1
            unique = stem.with_name(f"{stem.name}-{count}")
        taken.add(unique)
        jobs.append(Job(name, source, unique))
    return jobs


def picture_path(folder: Path, job: Job, label: str) -> Path:
    """Return the path of one finding's heatmap, without suffix and always inside the folder."""
    name = f"{job.output_stem.name}-{re.sub(r'[^A-Za-z0-9_-]', '_', label)}"
    return folder / job.output_stem.parent / name


def _find(
    names: Iterable[str], skip: Path | None, max_bytes: int
) -> Iterator[tuple[str, bytes | Path, Path]]:
    for name in names:
        path = Path(name)
        if name == "-":
            yield name, sys.stdin.buffer.read(max_bytes + 1), Path("stdin")
        elif path.is_dir():
            for file in _images_in(path, skip):
                yield str(file), file, file.relative_to(path).with_suffix("")
        else:
            yield name, path, Path(path.stem)


def _images_in(folder: Path, skip: Path | None) -> Iterator[Path]:
    def fail(error: OSError) -> None:
        raise error

    for parent, folders, files in os.walk(folder, onerror=fail):
        inside = Path(parent)
        folders[:] = sorted(
            each for each in folders if skip is None or (inside / each).resolve() != skip.resolve()
        )
        for file in sorted(files):
            if file.lower().endswith(_SUFFIXES):
                yield inside / file
