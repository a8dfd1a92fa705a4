"""Access: who may call. Bearer tokens from a file, TLS from files, both reloadable.

The tokens file holds one `name:sha256-of-the-token` a line (`cxr-server token NAME` makes
both). Tokens are 256 random bits, so a plain SHA-256 hides them; a slow hash would only
slow every call.
"""

import hashlib
import hmac
import re
import secrets
import time
from collections.abc import Mapping
from pathlib import Path
from typing import Any, cast

import grpc
import structlog

from cxr_server.errors import Unauthenticated
from cxr_server.settings import Settings, SettingsError

RELOAD_S = 1.0
"""How often a changed file is looked for, at most."""

_LINE = re.compile(r"([A-Za-z0-9._-]{1,64}):([0-9a-f]{64})")
log = structlog.get_logger("cxr_server.rpc.access")


class Access:
    """Checks bearer tokens. Without a file, everybody may call."""

    def __init__(self, tokens_file: str) -> None:
        self._file = WatchedFiles(tokens_file) if tokens_file else None
        self._names = _read_tokens(self._file.contents[0]) if self._file else {}

    def check(self, metadata: Mapping[str, Any]) -> str:
        """Return the name of the call's token, "" when none is needed.

        Raises:
            Unauthenticated: The token is missing or unknown; which of the two is not told.
        """
        if self._file is None:
            return ""
        self._reload()
        scheme, _, token = str(metadata.get("authorization", "")).partition(" ")
        digest = hashlib.sha256(token.strip().encode()).hexdigest()
        found = ""
        for known, name in self._names.items():  # all of them: no early exit to time
            if hmac.compare_digest(known, digest):
                found = name
        if scheme.lower() != "bearer" or not found:
            raise Unauthenticated("a valid bearer token is required")
        return found

    def allows(self, metadata: Mapping[str, Any]) -> bool:
        """Whether `check` passes."""
        try:
            self.check(metadata)
        except Unauthenticated:
            return False
        return True

    def _reload(self) -> None:
        if self._file and self._file.changed():
            try:
                self._names = _read_tokens(self._file.contents[0])
                log.info("tokens reloaded", tokens=len(self._names))
            except SettingsError as error:
                log.warning("tokens kept: the new file is not valid", error=str(error))


class WatchedFiles:
    """The contents of files, read again when one of them changes."""

    def __init__(self, *paths: str) -> None:
        self._paths = [Path(path) for path in paths]
        self._stamp = self._stamps()
        self._looked = time.monotonic()
        self.contents = [path.read_bytes() for path in self._paths]

    def changed(self) -> bool:
        """Look, at most every RELOAD_S, and read again. Keeps the old when one is missing."""
        if time.monotonic() - self._looked < RELOAD_S:
            return False
        self._looked = time.monotonic()
        try:
            stamp = self._stamps()
            if stamp == self._stamp:
                return False
            self.contents = [path.read_bytes() for path in self._paths]
        except OSError:
            return False
        self._stamp = stamp
        return True

    def _stamps(self) -> list[tuple[int, int, int]]:
        stats = [path.stat() for path in self._paths]
        return [(stat.st_mtime_ns, stat.st_size, stat.st_ino) for stat in stats]


def new_token(name: str) -> tuple[str, str]:
    """A fresh token and its line for the tokens file. Raises SettingsError for a bad name."""
    token = secrets.token_urlsafe(32)
    line = f"{name}:{hashlib.sha256(token.encode()).hexdigest()}"
    if not _LINE.fullmatch(line):
        raise SettingsError("a token's name is 1 to 64 letters, digits, '.', '_' or '-'")
    return token, line


def server_credentials(settings: Settings) -> grpc.ServerCredentials | None:
    """TLS credentials that follow their files, or None for plaintext.

    New handshakes use the files as they are; open connections keep what they began with.
    """
    if not settings.tls_cert:
        return None
    names = [settings.tls_key, settings.tls_cert, settings.tls_client_ca]
    files = WatchedFiles(*filter(None, names))

    def configuration() -> grpc.ServerCertificateConfiguration:
        key, chain, *client_ca = files.contents
        return grpc.ssl_server_certificate_configuration(
            [(key, chain)], root_certificates=client_ca[0] if client_ca else None
        )

    def fetch() -> grpc.ServerCertificateConfiguration | None:
        if not files.changed():
            return None
        log.info("certificates reloaded")
        return configuration()

    return grpc.dynamic_ssl_server_credentials(
        configuration(),
        cast(Any, fetch),  # None, for no change, is allowed though its type does not say so
        require_client_authentication=bool(settings.tls_client_ca),
    )


def _read_tokens(content: bytes) -> dict[str, str]:
    names: dict[str, str] = {}
    for number, line in enumerate(content.decode("utf-8", "replace").splitlines(), 1):
        if not line.strip() or line.startswith("#"):
            continue
        match = _LINE.fullmatch(line.strip())
        if not match:
            raise SettingsError(f"tokens_file: line {number} is not name:sha256")
        names[match[2]] = match[1]
    return names
