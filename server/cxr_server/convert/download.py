"""Download: URL -> verified file, resumable, complete or absent. Next: source."""

import hashlib
import os
import urllib.error
import urllib.request
from collections.abc import Callable
from http.client import HTTPException
from pathlib import Path

from cxr_server.errors import OperatorError

CHUNK_BYTES = 1 << 18
TIMEOUT_S = 30.0
MAX_BYTES = 1 << 30
ATTEMPTS = 4
"""Most attempts, each of which resumes where the previous one was cut."""

Progress = Callable[[int, int | None], None]
"""Called with the bytes received and the total, or None when that is unknown."""


class DownloadError(OperatorError):
    """The download failed, or size or checksum do not match."""


def download(
    url: str,
    destination: Path,
    *,
    sha256: str | None = None,
    size: int | None = None,
    progress: Progress | None = None,
) -> str:
    """Download `url` to `destination` and return the SHA-256 in lower-case hex.

    A partial download is kept beside it as `NAME.part`, and a later call resumes it. A file with
    a wrong size or hash is deleted.

    Args:
        url: An http or https address.
        destination: Path of the complete, verified file.
        sha256: The expected SHA-256, if known.
        size: The expected size in bytes, if known.
        progress: Called for every chunk.

    Raises:
        DownloadError: No connection, an HTTP error, or a wrong size or hash.
    """
    if not url.startswith(("https://", "http://")):
        raise DownloadError("only http and https addresses are supported")
    destination.parent.mkdir(parents=True, exist_ok=True)
    part = destination.with_name(destination.name + ".part")
    for attempt in range(ATTEMPTS):
        before = _size(part)
        try:
            _fetch(url, part, size, progress)
            break
        except (OSError, HTTPException) as error:
            # Retry only if this attempt made progress.
            if attempt + 1 == ATTEMPTS or _size(part) == before or _is_final(error):
                raise DownloadError(f"{url}: {_describe(error)}") from error
    found = _sha256(part)
    if (size is not None and _size(part) != size) or (sha256 is not None and found != sha256):
        part.unlink()
        raise DownloadError(f"{url}: size or SHA-256 differs from the expected one: deleted")
    os.replace(part, destination)
    return found


def _fetch(url: str, part: Path, size: int | None, progress: Progress | None) -> None:
    """Append the missing bytes to `part`."""
    start = _size(part)
    if size is not None and start == size:
        return
    if size is not None and start > size:
        part.unlink()
        start = 0
    request = urllib.request.Request(url, headers={"User-Agent": "cxr-server"})
    if start:
        request.add_header("Range", f"bytes={start}-")
    try:
        response = urllib.request.urlopen(request, timeout=TIMEOUT_S)
    except urllib.error.HTTPError as error:
        with error:
            if error.code == 416 and start:  # nothing is missing, or it is another file
                if _total(error.headers.get("Content-Range")) == start:
                    return
                part.unlink()
        raise
    with response, part.open("ab") as file:
        if response.status != 206:  # the server sends the file from its start
            file.truncate(0)
            start = 0
        elif not (response.headers.get("Content-Range") or "").startswith(f"bytes {start}-"):
            raise OSError("the server sent another part than was requested")
        left = response.headers.get("Content-Length")
        total = start + int(left) if left and left.isdigit() else size
        done = start
        if progress:
            progress(done, total)
        while chunk := response.read(CHUNK_BYTES):
            done += len(chunk)
            if done > (size or MAX_BYTES):
                part.unlink()
                raise DownloadError(f"{url} is larger than expected: deleted")
            file.write(chunk)
            if progress:
                progress(done, total)
    if total is not None and done < total:
        raise OSError("the connection was cut")


def _total(content_range: str | None) -> int | None:
    """Return the size in a header such as "bytes */123"."""
    size = (content_range or "").rpartition("/")[2]
    return int(size) if size.isdigit() else None


def _is_final(error: Exception) -> bool:
    return isinstance(error, urllib.error.HTTPError) and error.code < 500 and error.code != 416


def _describe(error: Exception) -> str:
    if isinstance(error, urllib.error.HTTPError):
        return f"the server answered {error.code}"
    reason = getattr(error, "reason", None) or error
    return str(reason) or type(error).__name__


def _size(path: Path) -> int:
    return path.stat().st_size if path.exists() else 0


def _sha256(path: Path) -> str:
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()
