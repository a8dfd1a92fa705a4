"""Access: bearer tokens from a file, and files that are read again when they change.

The tokens file holds one `name:sha256-of-the-token` per line (`cxr-server token NAME` prints
both). Tokens are 256 random bits, so an unsalted SHA-256 is enough: there is no dictionary to
search.
"""

import errno
import fcntl
import hashlib
import hmac
import os
import re
import secrets
import stat
import time
from functools import partial
from pathlib import Path

import structlog

from cxr_server.errors import Unauthenticated
from cxr_server.settings import SettingsError

RELOAD_S = 1.0  # shortest time between two checks for a changed file

_LINE = re.compile(r"([A-Za-z0-9._-]{1,64}):([0-9a-f]{64})")
log = structlog.get_logger("cxr_server.access")


class Access:
    """Checks bearer tokens against a file. Raises SettingsError if the file is not valid."""

    def __init__(self, tokens_file: str) -> None:
        self._file = WatchedFiles(tokens_file)
        self._names = read_tokens(self._file.contents[0])

    @property
    def reload_failures(self) -> int:
        """How often the file was missing or not valid when it was read again."""
        return self._file.failures

    def check(self, authorization: str) -> str:
        """Return the name of the token in an `authorization` header. Raises Unauthenticated."""
        self.reload()
        scheme, _, token = authorization.partition(" ")
        digest = hashlib.sha256(token.strip().encode()).hexdigest()
        # Constant time: every token is compared, whichever it is.
        found = [name for known, name in self._names.items() if hmac.compare_digest(known, digest)]
        if scheme.lower() != "bearer" or not found:
            raise Unauthenticated("a valid bearer token is required")
        return found[0]

    def reload(self, *, now: bool = False) -> None:
        """Reload the file if it has changed, with `now` always. Keep the tokens if that fails."""
        if not self._file.changed(now=now):
            return
        try:
            self._names = read_tokens(self._file.contents[0])
            reloaded = log.info if self._names else log.warning  # without tokens all are refused
            reloaded("tokens reloaded", tokens=len(self._names))
        except SettingsError as error:
            self._file.failures += 1
            log.warning("tokens kept: the new file is not valid", error=str(error))


class WatchedFiles:
    """The contents of some files, read again when one of them changes."""

    def __init__(self, *paths: str) -> None:
        self._paths = [Path(path) for path in paths]
        self.failures = 0  # failed reloads; the owner adds those with invalid contents
        self._missing = False
        self._checked = time.monotonic()
        self._stamp, self.contents = self._stamps(), self._read()

    def changed(self, *, now: bool = False) -> bool:
        """Reload the files if they have changed, and return whether they have.

        Checks at most once in `RELOAD_S`; with `now`, always reloads. While a file is missing, the
        last contents are kept, and that is logged once.
        """
        if not now and time.monotonic() - self._checked < RELOAD_S:
            return False
        self._checked = time.monotonic()
        try:
            stamp = self._stamps()
            self._missing = False
            if stamp == self._stamp and not now:
                return False
            self._stamp, self.contents = stamp, self._read()
        except OSError as error:
            if not self._missing:
                self.failures += 1
                log.warning("file kept as it was", file=error.filename, error=error.strerror)
            self._missing = True
            return False
        return True

    def _read(self) -> list[bytes]:
        return [path.read_bytes() for path in self._paths]

    def _stamps(self) -> list[tuple[int, int, int]]:
        found = [path.stat() for path in self._paths]
        return [(each.st_mtime_ns, each.st_size, each.st_ino) for each in found]


def new_token(name: str) -> tuple[str, str]:
    """Return a new token and its line for the tokens file. Raises SettingsError for a bad name."""
    token = secrets.token_urlsafe(32)
    line = f"{name}:{hashlib.sha256(token.encode()).hexdigest()}"
    if not _LINE.fullmatch(line):
        raise SettingsError("a token's name is 1 to 64 letters, digits, '.', '_' or '-'")
    return token, line


def append_token(path: str, line: str) -> None:
    """Append the line to a tokens file, whole or not at all. A new file is its owner's alone.

    Raises OSError, and SettingsError if the file is not a valid tokens file.
    """
    with open(path, "a+b", buffering=0, opener=partial(os.open, mode=0o600)) as file:
        if not stat.S_ISREG(os.fstat(file.fileno()).st_mode):
            raise SettingsError(f"{path} is not a regular file")
        fcntl.flock(file, fcntl.LOCK_EX)  # several lines may be appended at once
        file.seek(0)
        content = file.read()
        try:
            read_tokens(content)
        except SettingsError as error:
            raise SettingsError(f"{path}: {error}") from None
        new = b"" if not content or content.endswith(b"\n") else b"\n"
        new += line.encode() + b"\n"
        try:
            if file.write(new) != len(new):
                raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC), path)
            os.fsync(file.fileno())
        except OSError:
            file.truncate(len(content))
            raise


def read_tokens(content: bytes) -> dict[str, str]:
    """Return the names of the tokens in a file, by hash. Raises SettingsError for a wrong line."""
    names: dict[str, str] = {}
    for number, line in enumerate(content.decode("utf-8-sig", "replace").splitlines(), 1):
        if not line.strip() or line.startswith("#"):
            continue
        if not (match := _LINE.fullmatch(line.strip())):
            raise SettingsError(
                f"line {number} is not name:sha256; `cxr-server token NAME` makes such a line"
            )
        names[match[2]] = match[1]
    return names
