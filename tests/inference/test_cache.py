"""The evidence cache: keys that say nothing, and a bound."""

import numpy as np
from hypothesis import given
from hypothesis import strategies as st

from cxr_server.geometry import Box
from cxr_server.inference.cache import EvidenceCache
from cxr_server.inference.model_input import Evidence, ImageFacts

FACTS = ImageFacts("PNG", 8, 300, 300, Box(0, 0, 300, 300))


def evidence() -> Evidence:
    return Evidence(np.zeros((3, 7, 7), np.float32), np.zeros((224, 224), np.uint8), FACTS, ())


@given(image=st.binary(max_size=4096))
def test_a_key_depends_on_the_bytes_and_on_the_process(image: bytes) -> None:
    cache, of_another_process = EvidenceCache(1), EvidenceCache(1)
    assert cache.key_of(image) == cache.key_of(bytes(bytearray(image)))
    assert cache.key_of(image) != of_another_process.key_of(image)
    assert cache.key_of(image) != cache.key_of(image + b"\0")
    assert len(cache.key_of(image)) == 32


def test_the_least_recently_used_entry_is_evicted_first() -> None:
    cache = EvidenceCache(2)
    keys = [cache.key_of(bytes([number])) for number in range(3)]
    entries = [evidence() for _ in keys]
    cache.put(keys[0], entries[0])
    cache.put(keys[1], entries[1])
    assert cache.get(keys[0]) is entries[0]
    cache.put(keys[2], entries[2])
    assert [cache.get(key) for key in keys] == [entries[0], None, entries[2]]
    assert (cache.hits, cache.misses, len(cache)) == (3, 1, 2)
