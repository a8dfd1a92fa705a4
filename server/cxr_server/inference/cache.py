"""Cache: image bytes -> evidence, so that Explain after Predict needs no inference."""

import hmac
import secrets
from collections import OrderedDict
from enum import StrEnum

from cxr_server.inference.model_input import Evidence


class CacheMode(StrEnum):
    """How a call uses the cache."""

    USE = "USE"
    BYPASS = "BYPASS"  # neither reads nor adds


class EvidenceCache:
    """The `capacity` most recently used entries. For one thread, except `key_of`.

    `secret` is the key of the hash; by default it is made at start.
    """

    def __init__(self, capacity: int, secret: bytes = b"") -> None:
        self.capacity = capacity
        self.hits = 0
        self.misses = 0
        self._secret = secret or secrets.token_bytes(32)
        self._entries: OrderedDict[bytes, Evidence] = OrderedDict()

    def __len__(self) -> int:
        return len(self._entries)

    def key_of(self, image: bytes) -> bytes:
        """Return the HMAC-SHA256 of a file. Releases the GIL; about 0.6 ms for 1 MiB.

        No caller knows the secret: a key does not reveal its image, and no collision can be
        crafted.
        """
        return hmac.digest(self._secret, image, "sha256")

    def get(self, key: bytes) -> Evidence | None:
        """Return an entry, or None. Counts a hit or a miss."""
        if key not in self._entries:
            self.misses += 1
            return None
        self.hits += 1
        self._entries.move_to_end(key)
        return self._entries[key]

    def put(self, key: bytes, evidence: Evidence) -> None:
        """Add an entry; evicts the least recently used one when full."""
        self._entries[key] = evidence
        self._entries.move_to_end(key)
        if len(self._entries) > self.capacity:
            self._entries.popitem(last=False)
