"""Journal: rows -> an append-only file that survives the end of its process. See `runs`."""

import contextlib
import fcntl
import os
from pathlib import Path
from types import TracebackType
from typing import Self

from cxr_client.bulk.embeddings import Embeddings, stored_rows
from cxr_client.runs import (
    EMPTIED,
    FailureRow,
    Header,
    Row,
    Run,
    RunError,
    encode,
    header_of,
    row_of,
)

_FREE = frozenset({"created", "client_version", "server_version", "notice"})
"""Fields of the header in which a resumed run may differ."""
_BEGINNING = b'{"kind":"header"'


class JournalError(Exception):
    """A journal cannot be opened, or written any more; the message says why."""


class Journal:
    """A locked journal, opened at its end, with the embeddings beside it.

    Every row reaches the system at once, and the disk with `sync`. A row that cannot be written as
    a whole is cut off again. Close it with `with`.
    """

    def __init__(self, path: Path, header: Header, *, resume: bool) -> None:
        """Create the file, or continue it with `resume` where it exists.

        Raises:
            JournalError: It exists and is not to be resumed, is of another model or other options,
                is damaged or locked by another run, or cannot be written.
        """
        self.header = header
        self.answered = self.failed = 0
        self.names: dict[str, list[str]] = {}
        """The names of the images that were answered before, by their key."""

        self.failures: dict[int, FailureRow] = {}
        """The failures that were there, by their line."""

        self._unsynced = False
        try:
            self._fd = os.open(path, os.O_RDWR | os.O_CREAT | os.O_APPEND | os.O_CLOEXEC, 0o666)
        except OSError as error:
            raise JournalError(f"{path}: {error.strerror}") from None
        try:
            self._lock(path)
            self._size = self._restore(Run(path, header), resume)
            self._embeddings = Embeddings(Run(path, header).embeddings_path, self._vectors)
        except BaseException as error:
            os.close(self._fd)
            if isinstance(error, OSError):
                raise JournalError(f"{path}: {error.strerror}") from None
            raise

    def append(self, row: Row, embedding: tuple[float, ...] = ()) -> None:
        """Append a row, and the embedding that belongs to it.

        Raises:
            JournalError: It cannot be written. The journal ends with the row before it.
        """
        try:
            if embedding and row["kind"] == "image":
                row["embedding"] = self._embeddings.append(embedding)
            self._write(encode(row))
        except OSError as error:
            raise JournalError(f"cannot write: {error.strerror}") from None
        self._count(row)

    def sync(self) -> None:
        """Flush to the disk what was appended; the embeddings before the rows that name them.

        Raises:
            JournalError: The disk does not take it.
        """
        if not self._unsynced:
            return
        self._unsynced = False
        try:
            self._embeddings.sync()
            os.fsync(self._fd)
        except OSError as error:
            raise JournalError(f"cannot write: {error.strerror}") from None

    def close(self) -> None:
        """Flush, and release the lock."""
        try:
            self.sync()
        finally:
            self._embeddings.close()
            os.close(self._fd)

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, _: TracebackType | None
    ) -> None:
        # Report what ended the run, not that closing fails for the same reason.
        with contextlib.suppress(*([JournalError] if isinstance(error, JournalError) else [])):
            self.close()

    def _lock(self, path: Path) -> None:
        try:
            fcntl.flock(self._fd, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            raise JournalError(f"{path} is being written by another run") from None

    def _restore(self, run: Run, resume: bool) -> int:
        """Read the rows, cut off a torn line, and return the size in bytes.

        Writes the header of an empty file. If the embedding of a row is not on the disk, the row
        and all that follow it are cut off as well.
        """
        self._size = self._vectors = 0
        stored = stored_rows(run.embeddings_path)
        with run.path.open("rb") as file:
            for number, line in enumerate(file, start=1):
                if not line.endswith(b"\n"):
                    if number == 1 and not _BEGINNING.startswith(line[: len(_BEGINNING)]):
                        raise JournalError(f"{run.path} is not the journal of a run")
                    break
                try:
                    if number == 1:
                        self._compare(run.path, header_of(line), resume)
                    elif line != EMPTIED:
                        row = row_of(line, number)
                        if row["kind"] == "image" and row.get("embedding", -1) >= stored:
                            break
                        self._note(number, row)
                        self._count(row)
                except RunError as error:
                    raise JournalError(f"{run.path}: {error}") from None
                self._size += len(line)
        os.ftruncate(self._fd, self._size)
        if not self._size:
            self._write(encode(self.header))
        return self._size

    def _compare(self, path: Path, found: Header, resume: bool) -> None:
        """Check that the journal may be continued."""
        if not resume:
            raise JournalError(f"{path} exists; --resume continues it")
        before, now = _flat(found), _flat(self.header)
        differing = [
            f"{name}: {_short(before.get(name))}, not {_short(now.get(name))}"
            for name in {**before, **now}
            if name not in _FREE and before.get(name) != now.get(name)
        ]
        if differing:
            raise JournalError(f"{path} is of another run ({'; '.join(differing)})")

    def _note(self, number: int, row: Row) -> None:
        """Keep what a resumed run asks for."""
        for replaced in row.get("replaces", ()):
            self.failures.pop(replaced, None)
        if row["kind"] == "image":
            self.names.setdefault(row["key"], []).append(row["file"])
        else:
            self.failures[number] = row

    def _count(self, row: Row) -> None:
        self.failed -= len(row.get("replaces", ()))
        if row["kind"] == "image":
            self.answered += 1
            self._vectors = row.get("embedding", self._vectors - 1) + 1
        else:
            self.failed += 1

    def _write(self, line: bytes) -> None:
        left = line
        try:
            while left:
                left = left[os.write(self._fd, left) :]
        except OSError:
            with contextlib.suppress(OSError):
                os.ftruncate(self._fd, self._size)
            raise
        self._size += len(line)
        self._unsynced = True


def _flat(header: Header) -> dict[str, object]:
    """Return the fields of a header, those of objects by name, such as "options.evidence"."""
    flat: dict[str, object] = {}
    for name, value in header.items():
        if isinstance(value, dict):
            flat |= {f"{name}.{inner}": each for inner, each in value.items()}
        else:
            flat[name] = value
    return flat


def _short(value: object) -> str:
    text = str(value)
    return text if len(text) <= 120 else f"{text[:120]}..."
