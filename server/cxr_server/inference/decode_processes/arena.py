"""Arena: memory that the server and one worker share, without a file (`memfd_create`)."""

import fcntl
import math
import mmap
import os
from collections.abc import Iterator
from contextlib import contextmanager

import numpy as np
from numpy.typing import DTypeLike, NDArray

from cxr_server.imaging.radiograph import ImageBytes

RETAINED_BYTES = 4 * 2**20
"""Memory that is kept for the next image; more is given back to the system at once."""


def create(size_bytes: int) -> int:
    """Return a file descriptor of such memory. It takes memory only where it is written to.

    Neither side can change its size: an access beyond the end would end the process.
    """
    fd = os.memfd_create("cxr-decode", os.MFD_CLOEXEC | os.MFD_ALLOW_SEALING)
    try:
        os.ftruncate(fd, size_bytes)
        seals = fcntl.F_SEAL_SHRINK | fcntl.F_SEAL_GROW | fcntl.F_SEAL_SEAL
        fcntl.fcntl(fd, fcntl.F_ADD_SEALS, seals)
    except OSError:
        os.close(fd)
        raise
    return fd


class Arena:
    """One side's view of the memory of a file descriptor, which the caller closes.

    Raises OSError.
    """

    def __init__(self, fd: int) -> None:
        self.size_bytes = os.fstat(fd).st_size
        self._map = mmap.mmap(fd, self.size_bytes)

    def put_file(self, image: ImageBytes) -> None:
        """Write an image file."""
        self._map[: len(image)] = image

    @contextmanager
    def file(self, size_bytes: int) -> Iterator[memoryview]:
        """Lend the image file to a block, and give back its memory. `put` overwrites it."""
        try:
            yield memoryview(self._map)[:size_bytes].toreadonly()
        finally:
            self.trim(size_bytes)

    def put(self, *arrays: NDArray[np.generic]) -> None:
        """Write arrays one behind the other. Raises ValueError if they do not fit."""
        offset = 0
        for array in arrays:
            part = np.frombuffer(self._map, array.dtype, array.size, offset)
            part[:] = array.ravel()
            offset += array.nbytes

    def take(self, *kinds: tuple[DTypeLike, tuple[int, ...]]) -> list[NDArray[np.generic]]:
        """Return copies of such arrays, and give back their memory. Raises ValueError."""
        arrays, offset = [], 0
        for dtype, shape in kinds:
            part = np.frombuffer(self._map, dtype, math.prod(shape), offset)
            arrays.append(part.reshape(shape).copy())
            offset += part.nbytes
        del part
        self.trim(offset)
        return arrays

    def trim(self, used_bytes: int) -> None:
        """Give back what is used beyond `RETAINED_BYTES`; it reads as zeros from then on."""
        if used_bytes > RETAINED_BYTES:
            self._map.madvise(mmap.MADV_REMOVE, RETAINED_BYTES, used_bytes - RETAINED_BYTES)

    def close(self) -> None:
        """Unmap the memory."""
        self._map.close()
