"""The evidence cache: keys that say nothing, and a bound."""

from hypothesis import given
from hypothesis import strategies as st

from cxr_server.inference.cache import EvidenceCache


@given(image=st.binary(max_size=4096))
def test_a_key_is_the_same_for_the_same_bytes_and_another_in_another_process(image: bytes) -> None:
    cache, others = EvidenceCache[int](1), EvidenceCache[int](1)
    assert cache.key_of(image) == cache.key_of(bytes(bytearray(image)))
    assert cache.key_of(image) != others.key_of(image)
    assert cache.key_of(image) != cache.key_of(image + b"\0")
    assert len(cache.key_of(image)) == 32


def test_the_least_recently_used_entry_goes_first() -> None:
    cache = EvidenceCache[int](2)
    keys = [cache.key_of(bytes([number])) for number in range(3)]
    cache.put(keys[0], 0)
    cache.put(keys[1], 1)
    assert cache.get(keys[0]) == 0
    cache.put(keys[2], 2)
    assert [cache.get(key) for key in keys] == [0, None, 2]
    assert (cache.hits, cache.misses, len(cache)) == (3, 1, 2)
