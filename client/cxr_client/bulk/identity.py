"""Identity: files -> keys that identify them in a resumed run, and hashed names."""

import hashlib
import os
import secrets
from dataclasses import dataclass
from pathlib import PurePath

from cxr_client.suffixes import SENT

MIN_SECRET_BYTES = 16


@dataclass(frozen=True, slots=True)
class Identity:
    """How a run identifies files: by path, size and time, or by content; in clear or hashed.

    With a `secret`, keys and names are BLAKE2b hashes keyed with it: only those who have the secret
    can check which file a hash belongs to.
    """

    by_content: bool = False
    secret: bytes = b""

    def key(self, path: str, facts: os.stat_result | None, content: bytes | None) -> str:
        """Return the key of a file: of its `content`, which may be unknown, or of its `facts`."""
        if self.by_content and content is not None:
            plain = hashlib.sha256(content).hexdigest()
            return plain if not self.secret else self._hash(plain.encode())
        size, time = (facts.st_size, facts.st_mtime_ns) if facts else ("", "")
        return self._hash(os.fsencode(os.path.abspath(path)) + f"\0{size}\0{time}".encode())

    def name(self, name: str, relative: str) -> str:
        """Return the name of a row: as given, or the hash of each part of the relative path."""
        if not self.secret:
            return name
        *folders, file = PurePath(relative).parts
        suffix = PurePath(file).suffix.lower()
        hashed = [self.part(part) for part in (*folders, file)]
        return "/".join(hashed) + (suffix if suffix in SENT else "")

    def part(self, part: str) -> str:
        """Return the hash of a folder's or a file's name, its suffix included."""
        return self._hash(os.fsencode(part))[:16]

    def fingerprint(self) -> str:
        """Return an id of the secret that does not reveal it; "" without a secret."""
        return self._hash(b"cxr-run") if self.secret else ""

    def _hash(self, data: bytes) -> str:
        return hashlib.blake2b(data, key=self.secret, digest_size=16).hexdigest()


def read_secret(path: str) -> bytes:
    """Return the secret in a file, which is made, for its owner alone, where there is none.

    Raises:
        OSError: It cannot be read or made.
        ValueError: It is shorter than 16 bytes or longer than 64.
    """
    flags = os.O_WRONLY | os.O_CREAT | os.O_EXCL
    try:
        with open(os.open(path, flags, 0o600), "w", encoding="ascii") as file:
            file.write(secrets.token_hex(16) + "\n")
    except FileExistsError:
        pass
    with open(path, "rb") as opened:
        secret = opened.read(4096).strip()
    if not MIN_SECRET_BYTES <= len(secret) <= hashlib.blake2b.MAX_KEY_SIZE:
        raise ValueError("a secret has 16 to 64 bytes")
    return secret
