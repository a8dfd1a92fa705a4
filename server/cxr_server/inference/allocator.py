"""Allocator: how glibc keeps the memory of images, and when it gives it back."""

import ctypes
from contextlib import suppress

_M_TRIM_THRESHOLD, _M_MMAP_THRESHOLD, _M_ARENA_MAX = -1, -3, -8


MAX_ARENAS = 2
"""Heaps that threads share. By default there are 8 for each core, and each keeps what uploads in
parts have left in it: 150 callers who went away in mid-upload made 90 MiB into 1.9 GiB."""


def keep_freed_memory(mmap_mib: int = 8, trim_mib: int = 32) -> None:
    """Keep freed memory for the next image: glibc would return it, and fault it in again.

    Blocks from `mmap_mib` on are returned at once, and all but `trim_mib` at the end of the heap.
    """
    with suppress(AttributeError):  # another C library
        mallopt = ctypes.CDLL(None).mallopt
        mallopt(_M_MMAP_THRESHOLD, mmap_mib * 2**20)
        mallopt(_M_TRIM_THRESHOLD, trim_mib * 2**20)
        mallopt(_M_ARENA_MAX, MAX_ARENAS)


def give_back() -> None:
    """Return to the system what is free anywhere in the heaps, not only at their ends.

    Takes some 0.1 s for each GiB, in which other threads may have to wait for memory.
    """
    with suppress(AttributeError):  # another C library
        ctypes.CDLL(None).malloc_trim(0)
