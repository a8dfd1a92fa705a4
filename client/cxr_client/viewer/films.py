"""Films: the samples and the images of a folder, which the page refers to by id only."""

import asyncio
import contextlib
import time
from collections.abc import Callable, Iterable
from dataclasses import dataclass, field
from functools import partial
from hashlib import blake2b
from pathlib import Path
from secrets import token_bytes
from typing import Literal

from cxr_client.viewer.failures import Refusal, too_large
from cxr_client.viewer.threads import in_thread

_FIRST_SEARCH_S = 2.0
_AGAIN_AFTER_S = 30.0
_SEARCH_SHARE = 0.05  # Of the time, at most, a folder is being searched.
_SAMPLES = Path(__file__).parent / "samples"
# Ids say nothing about names: a proxy may log them.
_KEY = token_bytes(16)


@dataclass(frozen=True, slots=True)
class Film:
    """An image file."""

    name: str
    """What the page calls it: the path relative to the folder."""

    group: Literal["sample", "folder"]

    version: str = field(repr=False)
    """Differs when the file has changed: a changed file is another film."""

    load: Callable[[int], bytes] = field(repr=False)
    """Returns its bytes, at most one more than the argument, by blocking. Raises Refusal."""

    @property
    def id(self) -> str:
        """The id, which is valid as long as this process lives."""
        text = f"{self.group}\n{self.version}\n{self.name}"
        return blake2b(text.encode(), digest_size=12, key=_KEY).hexdigest()

    async def read(self, max_bytes: int) -> bytes:
        """Return its bytes.

        Raises:
            Refusal: It cannot be read, or is larger than `max_bytes`.
        """
        data = await in_thread(partial(self.load, max_bytes))
        if len(data) > max_bytes:
            raise too_large(max_bytes)
        return data


class Films:
    """All films. The folder is searched in a thread, and again from time to time."""

    def __init__(self, search: Callable[[], list[Film]] | None) -> None:
        """Take the function that searches the folder by blocking; None without a folder."""
        self._search = search
        self._samples = samples()
        self._films = self._by_id(())
        self._task: asyncio.Task[None] | None = None
        self._next_s = 0.0

    def __getitem__(self, film_id: str) -> Film:
        """Return the film with this id.

        Raises:
            Refusal: There is none.
        """
        film = self._films.get(film_id)
        if film is None:
            raise Refusal("FILM_UNKNOWN", "There is no such film.")
        return film

    @property
    def folder_is_empty(self) -> bool:
        """Whether a folder was searched, and no film found in it."""
        return self._next_s > 0 and len(self._films) == len(self._samples)

    async def listed(self) -> list[dict[str, str]]:
        """Return id, name and group of each film. A first search is awaited for two seconds."""
        self.refresh()
        if self._task and not self._next_s:
            await asyncio.wait({self._task}, timeout=_FIRST_SEARCH_S)
        return [
            {"id": film_id, "name": film.name, "group": film.group}
            for film_id, film in self._films.items()
        ]

    def refresh(self) -> None:
        """Start a search, unless one is running or has ended only just now."""
        idle = self._task is None or self._task.done()
        if self._search and idle and time.monotonic() >= self._next_s:
            self._task = asyncio.create_task(self._refresh(self._search))

    async def _refresh(self, search: Callable[[], list[Film]]) -> None:
        start_s = time.monotonic()
        with contextlib.suppress(OSError):  # The folder has gone; what was found stays listed.
            self._films = await in_thread(lambda: self._by_id(search()))
        took_s = time.monotonic() - start_s
        self._next_s = time.monotonic() + max(_AGAIN_AFTER_S, took_s / _SEARCH_SHARE)

    def _by_id(self, found: Iterable[Film]) -> dict[str, Film]:
        return {film.id: film for film in (*found, *self._samples)}


def samples() -> list[Film]:
    """Return the drawn radiographs that are shipped with the page."""
    return [_sample(path) for path in sorted(_SAMPLES.glob("*.png"))]


def _sample(path: Path) -> Film:
    return Film(path.name, "sample", "", lambda _: path.read_bytes())
