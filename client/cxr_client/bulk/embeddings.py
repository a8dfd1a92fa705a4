"""Embeddings: vectors -> an append-only file in NumPy's format, which needs no NumPy to write.

The header states the rows at the last `sync`; `numpy.load` reads as many. The format is described
in `numpy.lib.format`.
"""

import errno
import math
import os
import struct
from array import array
from contextlib import suppress
from pathlib import Path

_HEADER_BYTES = 128
_START = struct.pack("<6sBBH", b"\x93NUMPY", 1, 0, _HEADER_BYTES - 10)


def stored_rows(path: Path) -> float:
    """Return how many rows a file has; infinity where there is no file.

    One whose header was not written whole, since the disk was full, has none.

    Raises:
        OSError: The file cannot be read, or does not hold embeddings.
    """
    try:
        with path.open("rb") as file:
            head = file.read(_HEADER_BYTES)
            size_bytes = os.fstat(file.fileno()).st_size
    except FileNotFoundError:
        return math.inf
    if len(head) < _HEADER_BYTES and head[: len(_START)] == _START[: len(head)]:
        return 0
    features = _features(head)
    if not features:
        raise OSError(errno.EINVAL, f"{path.name} is not a file of embeddings")
    return max(0, size_bytes - _HEADER_BYTES) // (4 * features)


class Embeddings:
    """float32 [rows, features], little-endian. The file is created with the first row."""

    def __init__(self, path: Path, rows: int) -> None:
        """Open the file at its first `rows` rows; rows behind them have no line in the journal.

        Raises:
            OSError: The file cannot be read or written.
        """
        self._path = path
        self._rows = rows
        self._features = 0
        self._fd: int | None = None
        if rows:
            self._fd = os.open(path, os.O_RDWR | os.O_CLOEXEC)
            self._features = _features(os.pread(self._fd, _HEADER_BYTES, 0))
            os.pwrite(self._fd, self._header(), 0)  # it may state rows that are cut off now
            self._cut()

    def append(self, vector: tuple[float, ...]) -> int:
        """Append a vector; return its row.

        Raises:
            OSError: It cannot be written. The file is as before.
        """
        if self._fd is None:
            self._features = len(vector)
            self._fd = self._create()
        if len(vector) != self._features:
            raise OSError(
                errno.EINVAL, f"an embedding has {len(vector)} features, not {self._features}"
            )
        values = array("f", vector)
        if struct.pack("=H", 1) != struct.pack("<H", 1):
            values.byteswap()
        try:
            _write(self._fd, memoryview(values).cast("B"))
        except OSError:
            self._cut()
            raise
        self._rows += 1
        return self._rows - 1

    def sync(self) -> None:
        """Flush the rows to the disk, and then state their number."""
        if self._fd is not None:
            os.fsync(self._fd)
            os.pwrite(self._fd, self._header(), 0)
            os.fsync(self._fd)

    def close(self) -> None:
        """Close the file."""
        if self._fd is not None:
            os.close(self._fd)

    def _create(self) -> int:
        """Create the file, with its header alone, and return its descriptor."""
        flags = os.O_RDWR | os.O_CREAT | os.O_TRUNC | os.O_CLOEXEC
        created = os.open(self._path, flags, 0o666)
        try:
            _write(created, memoryview(self._header()))
        except OSError:
            os.close(created)
            with suppress(OSError):
                self._path.unlink()
            raise
        return created

    def _cut(self) -> None:
        """Cut off what is behind the last row, and go there."""
        assert self._fd is not None
        end = _HEADER_BYTES + self._rows * 4 * self._features
        os.ftruncate(self._fd, end)
        os.lseek(self._fd, end, os.SEEK_SET)

    def _header(self) -> bytes:
        shape = f"({self._rows}, {self._features})"
        text = f"{{'descr': '<f4', 'fortran_order': False, 'shape': {shape}, }}"
        return _START + text.ljust(_HEADER_BYTES - len(_START) - 1).encode() + b"\n"


def _write(fd: int, left: memoryview) -> None:
    while left:
        left = left[os.write(fd, left) :]


def _features(header: bytes) -> int:
    """Return the number of columns that a header states; 0 if it is no such header."""
    shape = header.partition(b"'shape': (")[2].partition(b")")[0].split(b",")
    if not header.startswith(_START) or len(shape) != 2 or not shape[1].strip().isdigit():
        return 0
    return int(shape[1])
