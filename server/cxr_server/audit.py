"""Audit: a file with a line for each call: who asked what of which image, without results."""

import errno
import hmac
import json
import os
import secrets
import threading
import time
from datetime import UTC, datetime
from pathlib import Path

import structlog

from cxr_server.observability.call import Call
from cxr_server.observability.log_lines import LogLines
from cxr_server.settings import Settings, SettingsError

SYNC_S = 1.0  # longest time between two syncs to disk while lines are written
MIN_KEY_BYTES = 32
FLUSH_S = 2.0

log = structlog.get_logger("cxr_server.audit")


def open_audit(settings: Settings) -> "Audit | None":
    """Open the file that the settings name, if any. Raises SettingsError."""
    if not settings.audit_file:
        return None
    key = read_key(settings)
    try:
        return Audit(settings.audit_file, key)
    except OSError as error:
        raise SettingsError(f"{settings.told('audit_file')}: {error.strerror}") from None


def read_key(settings: Settings) -> bytes:
    """Return the content of the key file, b"" if there is none. Raises SettingsError."""
    if not settings.audit_key_file:
        return b""
    told = settings.told("audit_key_file")
    try:
        key = Path(settings.audit_key_file).read_bytes()
    except OSError as error:
        raise SettingsError(f"{told}: {error.strerror}") from None
    if len(key) < MIN_KEY_BYTES:
        raise SettingsError(f"{told} holds {len(key)} bytes; a key has at least {MIN_KEY_BYTES}")
    return key


class Audit:
    """Appends to a file of mode 0600, which `reopen` opens again. Raises OSError.

    Calls never wait for the disk: see `LogLines` for what is lost when it refuses lines. Lines are
    synced within about `SYNC_S`. Without a key, `image_hmacs` uses a random one of this process.
    `reopen_failures` counts how often the file could not be opened again.
    """

    def __init__(self, path: str, key: bytes = b"") -> None:
        self.key = key or secrets.token_bytes(MIN_KEY_BYTES)
        self.reopen_failures = 0
        self._path = path
        self._descriptor = _open(path)
        self._lines = LogLines(self._descriptor, lambda count: _line(event="lost", lines=count))
        self._is_synced = True
        threading.Thread(target=self._sync, name="audit", daemon=True).start()
        # Identifies the key without revealing it.
        key_id = hmac.digest(self.key, b"cxr-serve audit key", "sha256").hex()[:16]
        self._opened = {"event": "opened", "key_id": key_id}
        self._put(**self._opened)

    @property
    def lost(self) -> int:
        """Number of lines that were not written since the start."""
        return self._lines.dropped

    def record(self, call: Call, code: str) -> None:
        """Queue the line of a call that ends with a status."""
        facts = {
            "event": "call",
            "request_id": call.request_id,
            "method": call.method,
            "caller": call.caller,
            "image_hmacs": [each for each in call.image_hmacs if each] or None,
            "model": call.model or None,
            "model_version": call.model_version or None,
            "weights_sha256": call.weights_sha256 or None,
            "precision": call.precision or None,
            "code": code,
            "reason": call.reason or None,
            "finding_count": call.finding_count,
        }
        self._put(**{name: value for name, value in facts.items() if value is not None})

    def reopen(self) -> None:
        """Continue in a new file of the same path, after a rotation. Thread-safe."""
        try:
            fresh = _open(self._path)
        except OSError as error:
            self.reopen_failures += 1
            log.warning("audit file kept as it was", error=error.strerror)
            return
        self.flush()  # the last lines of the old file
        try:
            os.write(fresh, _line(**self._opened).encode() + b"\n")  # before any queued lines
        except OSError:  # the disk is full
            self._put(**self._opened)
        os.dup2(fresh, self._descriptor, inheritable=False)  # atomic for all threads
        os.close(fresh)
        log.info("audit file opened again")

    def flush(self) -> None:
        """Write and sync what was recorded; lines that still wait after `FLUSH_S` are left."""
        self._is_synced = True
        self._lines.flush(FLUSH_S)
        try:
            os.fdatasync(self._descriptor)
        except OSError as error:
            if error.errno != errno.EINVAL:  # a pipe or terminal
                log.warning("audit file not synced", error=error.strerror)

    def _put(self, **facts: object) -> None:
        self._lines.put(_line(**facts))
        self._is_synced = False

    def _sync(self) -> None:
        while True:
            time.sleep(SYNC_S)
            if not self._is_synced:
                self.flush()


def _open(path: str) -> int:
    flags = os.O_WRONLY | os.O_APPEND | os.O_CREAT | os.O_CLOEXEC
    return os.open(path, flags, 0o600)


def _line(**facts: object) -> str:
    now = datetime.now(UTC).isoformat(timespec="milliseconds").replace("+00:00", "Z")
    return json.dumps({"timestamp": now, **facts})
