"""The evidence cache: keys that say nothing, and a bound."""

import numpy as np
from hypothesis import given
from hypothesis import strategies as st

from cxr_server.geometry import Box
from cxr_server.inference.cache import EvidenceCache, outline_of
from cxr_server.inference.model_input import Evidence, ImageFacts

FACTS = ImageFacts("PNG", 8, 300, 300, Box(0, 0, 300, 300))


def evidence() -> Evidence:
    return Evidence(np.zeros((3, 7, 7), np.float32), (), np.zeros((224, 224), np.uint8), FACTS, ())


@given(image=st.binary(max_size=4096))
def test_a_key_depends_on_the_bytes_and_on_the_process(image: bytes) -> None:
    cache, of_another_process = EvidenceCache(1), EvidenceCache(1)
    assert cache.key_of(image) == cache.key_of(bytes(bytearray(image)))
    assert cache.key_of(image) != of_another_process.key_of(image)
    assert cache.key_of(image) != cache.key_of(image + b"\0")
    assert len(cache.key_of(image)) == 32


def test_the_least_recently_used_entry_is_evicted_first() -> None:
    cache = EvidenceCache(2)
    files = [bytes([number]) for number in range(3)]
    keys = [cache.key_of(file) for file in files]
    entries = [evidence() for _ in keys]
    cache.put(keys[0], outline_of(files[0]), entries[0])
    cache.put(keys[1], outline_of(files[1]), entries[1])
    assert cache.get(keys[0]) is entries[0]
    cache.put(keys[2], outline_of(files[2]), entries[2])
    assert [cache.get(key) for key in keys] == [entries[0], None, entries[2]]
    assert (cache.hits, cache.misses, len(cache)) == (3, 1, 2)


@given(files=st.lists(st.binary(max_size=4096), max_size=6), other=st.binary(max_size=4096))
def test_a_file_that_is_new_has_no_entry_whatever_was_put_and_evicted(
    files: list[bytes], other: bytes
) -> None:
    cache = EvidenceCache(2)
    for file in files:
        cache.put(cache.key_of(file), outline_of(file), evidence())
    for file in (*files, other):
        assert not (cache.is_new(outline_of(file)) and cache.get(cache.key_of(file)))
    assert cache.is_new(outline_of(b"of another size" * 1000))


def test_a_view_of_a_file_has_the_entry_of_the_file() -> None:
    cache, file = EvidenceCache(1), bytes(range(256)) * 20
    view, entry = memoryview(b"before" + file + b"behind")[6:-6], evidence()
    cache.put(cache.key_of(file), outline_of(file), entry)
    assert not cache.is_new(outline_of(view))
    assert cache.get(cache.key_of(view)) is entry


def test_a_file_is_new_again_once_it_is_evicted() -> None:
    cache = EvidenceCache(1)
    for file in (b"one", b"one", b"two"):
        cache.put(cache.key_of(file), outline_of(file), evidence())
        assert not cache.is_new(outline_of(file))
    assert cache.is_new(outline_of(b"one"))
    assert cache.misses == 1
