"""Cache: image bytes seen lately -> their evidence, so that Explain after Predict is cheap.

Keys are keyed hashes with a key made at start: an entry tells nobody which image it was,
and no caller can craft a collision.
"""

import secrets
import threading
from collections import OrderedDict
from typing import Generic, TypeVar

from blake3 import blake3

V = TypeVar("V")


class EvidenceCache(Generic[V]):
    """The most recently used `entries` values. Thread-safe. 0 entries: always empty."""

    def __init__(self, entries: int) -> None:
        self.capacity = entries
        self.hits = 0
        self.misses = 0
        self._key = secrets.token_bytes(32)
        self._values: OrderedDict[bytes, V] = OrderedDict()
        self._lock = threading.Lock()

    def __len__(self) -> int:
        """Number of values held."""
        return len(self._values)

    def key_of(self, image: bytes) -> bytes:
        """Keyed BLAKE3 of the bytes, at some 4 GB/s."""
        return blake3(image, key=self._key).digest()

    def get(self, key: bytes) -> V | None:
        """The value, or None; counted as a hit or a miss."""
        with self._lock:
            value = self._values.get(key)
            if value is None:
                self.misses += 1
            else:
                self.hits += 1
                self._values.move_to_end(key)
            return value

    def put(self, key: bytes, value: V) -> None:
        """Keep a value; the least recently used one beyond the bound goes."""
        with self._lock:
            self._values[key] = value
            self._values.move_to_end(key)
            while len(self._values) > self.capacity:
                self._values.popitem(last=False)

    def clear(self) -> None:
        """Forget every value and count."""
        with self._lock:
            self._values.clear()
            self.hits = self.misses = 0
