"""Download: URL -> verified file, resumable, complete or absent. Next: source."""

import os
import urllib.error
import urllib.request
from collections.abc import Callable
from email.message import Message
from http.client import HTTPException
from pathlib import Path

from cxr_server.bundles.load import file_entry
from cxr_server.errors import OperatorError

CHUNK_BYTES = 1 << 18
TIMEOUT_S = 30.0
MAX_BYTES = 1 << 30
ATTEMPTS = 4  # each resumes where the previous one was interrupted

Progress = Callable[[int, int | None], None]
"""Called with the bytes received and the total, or None when that is unknown."""


class DownloadError(OperatorError):
    """The download failed, or size or checksum do not match."""


def download(
    url: str,
    destination: Path,
    *,
    sha256: str | None = None,
    size_bytes: int | None = None,
    progress: Progress | None = None,
) -> str:
    """Download `url` to `destination` and return the SHA-256 in lower-case hex.

    A partial download is kept beside it as `NAME.part`. A later call resumes it if the server still
    has that version of the file, or the SHA-256 tells whether it is right. A file whose size
    or SHA-256 is not the given one is deleted; one with the right SHA-256 is not downloaded
    again. Raises DownloadError.
    """
    if not url.startswith(("https://", "http://")):
        raise DownloadError("only http and https addresses are supported")
    destination.parent.mkdir(parents=True, exist_ok=True)
    if sha256 and destination.is_file() and file_entry(destination).sha256 == sha256:
        return sha256
    part = destination.with_name(destination.name + ".part")
    for attempt in range(1, ATTEMPTS + 1):
        before = _size(part)
        try:
            _fetch(url, part, size_bytes, sha256, progress or (lambda done, total: None))
            break
        except (OSError, HTTPException) as error:
            # Retry only if this attempt made progress.
            if attempt == ATTEMPTS or _size(part) == before:
                reason = getattr(error, "reason", error)
                raise DownloadError(f"{url}: {reason or type(error).__name__}") from error
    found = file_entry(part)
    if size_bytes not in (None, found.bytes) or sha256 not in (None, found.sha256):
        _discard(part)
        raise DownloadError(f"{url}: size or SHA-256 differs from the expected one: deleted")
    os.replace(part, destination)
    _discard(part)
    return found.sha256


def _fetch(
    url: str, part: Path, size_bytes: int | None, sha256: str | None, progress: Progress
) -> None:
    """Append the missing bytes to `part`."""
    start = _size(part)
    if start == size_bytes:
        return
    headers = {"User-Agent": "cxr-server"}
    version = _version_file(part)
    if start and version.is_file():
        headers |= {"Range": f"bytes={start}-", "If-Range": version.read_text()}
    elif start and sha256:  # otherwise the rest of another version would not be noticed
        headers["Range"] = f"bytes={start}-"
    request = urllib.request.Request(url, headers=headers)
    try:
        response = urllib.request.urlopen(request, timeout=TIMEOUT_S)
    except urllib.error.HTTPError as error:
        with error:
            if error.code == 416 and "Range" in headers:
                if error.headers.get("Content-Range") == f"bytes */{start}":
                    return  # nothing is missing
                _discard(part)  # the server has another file
            raise OSError(f"the server answered {error.code}") from None
    with response, part.open("ab") as file:
        if response.status != 206:  # the server sends the file from its start
            file.truncate(0)
            start = 0
            _keep_version(response.headers, version)
        elif not (response.headers.get("Content-Range") or "").startswith(f"bytes {start}-"):
            raise OSError("the server sent another part than was requested")
        left = response.headers.get("Content-Length")
        total = start + int(left) if left and left.isdigit() else size_bytes
        done = start
        progress(done, total)
        while chunk := response.read(CHUNK_BYTES):
            done += len(chunk)
            if done > (size_bytes or MAX_BYTES):
                _discard(part)
                raise DownloadError(f"{url} is larger than expected: deleted")
            file.write(chunk)
            progress(done, total)
    if total is not None and done < total:
        raise OSError("the connection was cut")


def _keep_version(headers: Message, file: Path) -> None:
    """Store the version of the file for `If-Range`, or delete the stored one if there is none.

    A weak ETag does not promise equal bytes (RFC 9110, 13.1.5).
    """
    file.unlink(missing_ok=True)
    tag = headers.get("ETag") or ""
    if version := tag if tag.startswith('"') else headers.get("Last-Modified"):
        file.write_text(version)


def _version_file(part: Path) -> Path:
    return part.with_name(part.name + ".version")


def _discard(part: Path) -> None:
    for file in (part, _version_file(part)):
        file.unlink(missing_ok=True)


def _size(path: Path) -> int:
    return path.stat().st_size if path.exists() else 0
