"""Thumbnails: a film -> a small PNG file, drawn by the model server and kept for a while."""

import asyncio
from collections import OrderedDict
from collections.abc import Awaitable, Callable

_MAX_BYTES = 16 * 2**20
_AT_A_TIME = 2


class Thumbnails:
    """The thumbnails that were used last, up to 16 MiB; nothing is written to a disk."""

    def __init__(self) -> None:
        self._kept: OrderedDict[str, bytes] = OrderedDict()
        self._kept_bytes = 0
        # A strip asks for many at once: an explanation must not wait for all of them.
        self._places = asyncio.Semaphore(_AT_A_TIME)

    async def of(self, film_id: str, draw: Callable[[], Awaitable[bytes]]) -> bytes:
        """Return the thumbnail of a film; `draw` makes one that is not kept."""
        async with self._places:
            if film_id not in self._kept:
                self._keep(film_id, await draw())
            self._kept.move_to_end(film_id)
            return self._kept[film_id]

    def _keep(self, film_id: str, png: bytes) -> None:
        self._kept[film_id] = png
        self._kept_bytes += len(png)
        while self._kept_bytes > _MAX_BYTES and len(self._kept) > 1:
            _, dropped = self._kept.popitem(last=False)
            self._kept_bytes -= len(dropped)
