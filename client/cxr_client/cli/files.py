"""Files: paths on the command line -> images to send, in order. Next: run."""

import glob
import io
import os
import re
import stat
import sys
from collections import Counter
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field
from pathlib import Path

from cxr_client.cli.sniff import HEAD_BYTES, IMAGES, NO_IMAGE, is_heatmap, kind_of
from cxr_client.images import BinaryFile
from cxr_client.suffixes import SENT, without_suffix

_LIST_BYTES = 2**16
_STARS = re.compile(r"\*{2,}")


class FileError(Exception):
    """A file that ends with this sentence instead of an answer.

    Attributes:
        reason: A stable name of the kind of failure, beside the reasons of the server.
        message: What happened.
    """

    def __init__(self, reason: str, message: str) -> None:
        super().__init__(message)
        self.reason = reason
        self.message = message


@dataclass(frozen=True, slots=True)
class Job:
    """One image to send."""

    name: str
    """The name to print: the path as given, or "-"."""

    source: bytes | Path
    """The bytes of the image, or its path."""

    output_stem: Path
    """Where its heatmaps go, relative to the output folder. Unique among the jobs."""

    def read(self, max_bytes: int) -> bytes:
        """Return the bytes of the image, at most `max_bytes` + 1.

        Raises:
            FileError: The file cannot be read, or cxr-serve has drawn it.
        """
        if isinstance(self.source, bytes):
            data = self.source
        else:
            try:
                with open(self.source, "rb", opener=_open) as file:
                    data = file.read(max_bytes + 1)
            except OSError as error:
                raise FileError("FILE_UNREADABLE", os_message(error)) from None
        if is_heatmap(io.BytesIO(data)):
            sentence = "This picture was drawn by cxr-serve; send the radiograph that it shows."
            raise FileError("IMAGE_IS_HEATMAP", sentence)
        return data


@dataclass(slots=True)
class Search:
    """What the paths on the command line lead to."""

    jobs: list[Job] = field(default_factory=list)
    failures: list[tuple[str, FileError]] = field(default_factory=list)
    """Folders that could not be searched."""

    skipped: Counter[str] = field(default_factory=Counter)
    """How many files in folders were passed over, by kind."""

    def skipped_text(self) -> str:
        """Return what was skipped: "2 DICOM, 1 BMP, 3 hidden"; "" if nothing was."""
        return ", ".join(
            f"{count} {kind}{_plural(kind) if count > 1 else ''}"
            for kind, count in sorted(self.skipped.items())
        )


def search(names: Iterable[str], *, follow: bool, max_bytes: int) -> Search:
    """Return a job for every file, for every image file in folders, and for "-".

    Folders are searched in the order of the names of their files, then of their subfolders. Their
    PNG and JPEG files are taken by suffix, or by content where they have none; DICOM images by
    content whatever their name is: archives name them by numbers. With `follow`, linked folders
    are searched, too.
    """
    found = Search()
    taken: set[Path] = set()
    last: dict[Path, int] = {}
    for name, source, stem in _find(names, found, follow, max_bytes):
        unique, count = stem, last.get(stem, 1)
        while unique in taken:
            count += 1
            unique = stem.with_name(f"{stem.name}-{count}")
        last[stem] = count
        taken.add(unique)
        found.jobs.append(Job(name, source, unique))
    return found


def os_message(error: OSError) -> str:
    """Return the message of the system, without the file name."""
    return error.strerror or type(error).__name__


def _open(path: str, flags: int) -> int:
    """Open a file without waiting for the writer of a FIFO."""
    if not hasattr(os, "O_NONBLOCK"):
        return os.open(path, flags)
    descriptor = os.open(path, flags | os.O_NONBLOCK)
    os.set_blocking(descriptor, True)
    return descriptor


def _find(
    names: Iterable[str], found: Search, follow: bool, max_bytes: int
) -> Iterator[tuple[str, bytes | Path, Path]]:
    for name in names:
        if name == "-":
            yield name, sys.stdin.buffer.read(max_bytes + 1), Path("stdin")
            continue
        for file, relative in files_at(name, found, follow=follow):
            yield file, Path(file), Path(without_suffix(str(relative)))


def files_at(name: str, found: Search, *, follow: bool) -> Iterator[tuple[str, Path]]:
    """Yield the names of the files that a name leads to, each with its path in its folder.

    A folder leads to the images in it, a pattern such as "films/**/*.png" to what matches it, and
    every other name to itself.
    """
    path = Path(name)
    if os.path.isdir(path):  # False where that cannot be told: the file fails when it is read
        for file in _images_in(path, found, follow):
            yield str(file), file.relative_to(path)
    elif os.path.lexists(path) or not (matching := _matching(name, follow)):
        yield name, Path(path.name)
    else:
        seen: set[str] = set()  # "**" matches folders, and folders and files in them
        for each in matching:
            for file_name, relative in files_at(each, found, follow=follow):
                if file_name not in seen:
                    seen.add(file_name)
                    yield file_name, relative


def names_in(file: BinaryFile) -> Iterator[str]:
    """Yield the names in a list: one a line, or ended by NUL bytes, as `find -print0` writes."""
    end, rest = b"", b""
    while part := file.read(_LIST_BYTES):
        end = end or (b"\0" if b"\0" in part else b"\n")
        *names, rest = (rest + part).split(end)
        yield from (os.fsdecode(name.removesuffix(b"\r")) for name in names if name.strip())
    if rest.strip():
        yield os.fsdecode(rest.removesuffix(b"\r"))


def _matching(pattern: str, follow: bool) -> list[str]:
    """Return what a pattern matches, sorted. "**" is any folders, linked ones with `follow`.

    Beside other characters "**" is "*", as in shells.
    """
    if not glob.has_magic(pattern):
        return []
    if follow:
        return sorted(glob.iglob(pattern, recursive=True))
    anchor = Path(pattern).anchor
    parts = Path(pattern).relative_to(anchor).parts
    plain = "/".join(each if each == "**" else _STARS.sub("*", each) for each in parts)
    return sorted(map(str, Path(anchor).glob(plain)))


def _images_in(root: Path, found: Search, follow: bool) -> Iterator[Path]:
    def fail(error: OSError) -> None:
        found.failures.append((str(error.filename), FileError("FOLDER", os_message(error))))

    visited: set[tuple[int, int]] = set()
    for parent, folders, files in os.walk(root, onerror=fail, followlinks=follow):
        folder = Path(parent)
        try:
            identity = folder.stat()
        except OSError as error:  # It has gone.
            fail(error)
            continue
        if (identity.st_dev, identity.st_ino) in visited:  # A link to a folder above itself.
            folders.clear()
            continue
        visited.add((identity.st_dev, identity.st_ino))
        folders[:] = [name for name in sorted(folders) if not _skip(folder / name, found, follow)]
        for file in (folder / name for name in sorted(files)):
            kind = _kind_to_skip(file)
            if kind is None:
                yield file
            else:
                found.skipped[kind] += 1


def _skip(folder: Path, found: Search, follow: bool) -> bool:
    """Return whether a subfolder is passed over, and count it."""
    if folder.name.startswith("."):
        found.skipped["hidden"] += 1
    elif os.path.islink(folder) and not follow:
        found.skipped["linked folder"] += 1
    else:
        return False
    return True


def _kind_to_skip(file: Path) -> str | None:
    """Return what kind of file this is, or None if it is an image to send."""
    if file.name.startswith("."):
        return "hidden"
    named = file.suffix.lower() in SENT
    try:
        # Nothing but a regular file is opened: opening a FIFO waits for its writer.
        if not stat.S_ISREG(file.stat().st_mode):
            return "special file"
        with file.open("rb", buffering=0) as opened:
            head = opened.read(HEAD_BYTES)
            if is_heatmap(opened):
                return "heatmap"
    except OSError:
        if os.path.islink(file) and not os.path.exists(file):
            return "broken link"
        return None if named else "unreadable file"
    kind = kind_of(head)
    if kind == "DICOM" or (named and kind not in NO_IMAGE):
        return None
    if not file.suffix and kind in IMAGES:
        return None
    return f"{kind} named {file.suffix}" if kind in IMAGES else kind


def _plural(kind: str) -> str:
    nouns = ("document", "file", "folder", "heatmap", "link", "report", "state")
    return "s" if kind.endswith(nouns) else ""
