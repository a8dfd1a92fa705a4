"""Thumbnails: the small pictures that were used last, kept in memory."""

from collections import OrderedDict


class Thumbnails:
    """PNG files by the id of their film, up to a number of bytes; the least recent ones go."""

    def __init__(self, max_bytes: int) -> None:
        self._max_bytes = max_bytes
        self._kept: OrderedDict[str, bytes] = OrderedDict()
        self._kept_bytes = 0

    def get(self, film_id: str) -> bytes | None:
        """Return the thumbnail of a film; None if there is none."""
        png = self._kept.get(film_id)
        if png is not None:
            self._kept.move_to_end(film_id)
        return png

    def put(self, film_id: str, png: bytes) -> None:
        """Keep the thumbnail of a film."""
        self._kept_bytes += len(png) - len(self._kept.pop(film_id, b""))
        self._kept[film_id] = png
        while self._kept_bytes > self._max_bytes:
            _, dropped = self._kept.popitem(last=False)
            self._kept_bytes -= len(dropped)
