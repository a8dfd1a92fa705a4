"""Scan: names -> the image files that they lead to, found in a thread while others are sent.

A found file is kept as its name and a number, so that a hundred thousand take some 20 MB.
"""

import asyncio
import os
import threading
from collections.abc import AsyncIterator, Iterator
from pathlib import PurePath
from typing import NamedTuple

from cxr_client.bulk.identity import Identity
from cxr_client.cli.files import FileError, Search, files_at, os_message


class Film(NamedTuple):
    """An image file: its name as given, and where in the name the path within the folder starts."""

    name: str
    start: int

    @property
    def relative(self) -> str:
        """The path in the folder that was given, without a leading slash, and ".." as "%2E%2E".

        Two names have the same only if one begins at the root and the other where the run does.
        """
        path = PurePath(self.name[self.start :])
        parts = (part for part in path.parts if part != path.anchor)
        return "/".join("%2E%2E" if part == ".." else part for part in parts)


class Scan:
    """Finds files, all but those whose `known` keys say that their rows are written already.

    Files that are named twice are found once.
    """

    def __init__(
        self,
        names: Iterator[str],
        identity: Identity,
        known: set[str],
        *,
        follow: bool,
        alone: bool,
    ) -> None:
        """Begin to search. With `alone`, there is one name: if of a folder, paths are relative."""
        self.found = Search()
        self.total = 0
        """Files to answer, those known so far."""

        self.complete = False
        self._names, self._identity, self._known = names, identity, known
        self._follow, self._alone = follow, alone
        self._found: set[str] = set()
        self._films: list[Film | None] = []
        self._error: BaseException | None = None
        self.stopped = False
        self._loop = asyncio.get_running_loop()
        self._more = asyncio.Event()
        # A daemon: an interrupt does not wait for a file system.
        threading.Thread(target=self._search, name="scan", daemon=True).start()

    def stop(self) -> None:
        """End the iteration before the next file."""
        self.stopped = True
        self._more.set()

    def add_known(self, key: str) -> bool:
        """Note the key of a row; return whether it is a new one."""
        if key in self._known:
            return False
        self._known.add(key)
        return True

    async def __aiter__(self) -> AsyncIterator[Film]:
        """Yield the files as they are found.

        Raises:
            FileError: A list of names cannot be read any more.
        """
        number = 0
        while not self.stopped:
            if number < len(self._films):
                film, self._films[number] = self._films[number], None
                number += 1
                assert film is not None
                yield film
            elif self.complete:
                if isinstance(self._error, OSError):
                    told = f"the names cannot be read: {os_message(self._error)}"
                    raise FileError("LIST_UNREADABLE", told) from None
                if self._error:
                    raise self._error
                return
            else:
                self._more.clear()
                if number == len(self._films) and not (self.complete or self.stopped):
                    await self._more.wait()

    def _search(self) -> None:
        try:
            for name in self._names:
                in_folder = self._alone and os.path.isdir(name)
                for file, relative in files_at(name, self.found, follow=self._follow):
                    if self.stopped:
                        return
                    self._add(file, len(file) - len(str(relative)) if in_folder else 0)
        except BaseException as error:
            self._error = error
        finally:
            self.complete = True
            self._wake()

    def _add(self, file: str, start: int) -> None:
        if self._identity.by_content:  # `known` has keys of contents
            path = self._identity.key(file, None, None)
            if path in self._found:
                return
            self._found.add(path)
        else:
            try:
                facts = os.stat(file)
            except OSError:
                facts = None
            if not self.add_known(self._identity.key(file, facts, None)):
                return
        self._films.append(Film(file, start))
        self.total += 1
        self._wake()

    def _wake(self) -> None:
        try:
            self._loop.call_soon_threadsafe(self._more.set)
        except RuntimeError:  # The loop is closed: the run has ended.
            self.stopped = True
