"""OpenVINO's cache: compiled models in a folder, used by one process at a time.

OpenVINO compiles a cached model again that it cannot read, but loads one with changed weights
without an error. So each is kept with its SHA-256, and deleted if it does not match. OpenVINO maps
a file into memory even while another process is still writing it, which ends the process by SIGBUS.
So the folder is locked while models are compiled or read.
"""

import fcntl
import os
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

from cxr_server.bundles.load import file_entry

LOCK_TIMEOUT_S = 60.0
"""After which a model is compiled without the cache. Compiling takes some seconds."""
_POLL_S = 0.02


@contextmanager
def opened(folder: Path | None, timeout_s: float = LOCK_TIMEOUT_S) -> Iterator[Path | None]:
    """Give a folder of sound files to this process alone, and seal the new ones at the end.

    Gives None if there is none, if it cannot be used, or if another process keeps it too long.
    """
    lock = None if folder is None else _locked(folder, timeout_s)
    if folder is None or lock is None:
        yield None
        return
    try:
        yield folder if _clean(folder) else None
        _seal(folder)
    finally:
        os.close(lock)  # which unlocks


def _locked(folder: Path, timeout_s: float) -> int | None:
    """Return a descriptor that locks the folder until it is closed, or the process has ended."""
    try:
        folder.mkdir(mode=0o700, parents=True, exist_ok=True)
        lock = os.open(folder, os.O_RDONLY | os.O_CLOEXEC)
    except OSError:
        return None
    until = time.monotonic() + timeout_s
    while True:
        try:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
            return lock
        except OSError as error:
            if not isinstance(error, BlockingIOError) or time.monotonic() >= until:
                os.close(lock)
                return None
        time.sleep(_POLL_S)


def _clean(folder: Path) -> bool:
    """Delete files that fail their checksum. False if the folder is unusable."""
    try:
        for blob in folder.glob("*.blob"):
            seal = blob.with_suffix(".sha256")
            if not seal.is_file() or seal.read_text() != file_entry(blob).sha256:
                blob.unlink(missing_ok=True)
                seal.unlink(missing_ok=True)
    except (OSError, ValueError):
        return False
    return os.access(folder, os.R_OK | os.X_OK)


def _seal(folder: Path) -> None:
    """Store the SHA-256 of each new file. Failing only makes the next start slower."""
    with suppress(OSError):
        for blob in folder.glob("*.blob"):
            seal = blob.with_suffix(".sha256")
            if not seal.is_file():
                new = seal.with_suffix(f".{os.getpid()}")
                new.write_text(file_entry(blob).sha256)
                os.replace(new, seal)
