"""Again: failures of a journal -> those that a new row replaces."""

from collections import defaultdict
from pathlib import Path

from cxr_client.bulk.identity import Identity
from cxr_client.cli.bulk.scan import Film
from cxr_client.runs import FailureRow, Row


class Failures:
    """The failures to retry, by name and by key: a file that is now readable has another key.

    Each failure is replaced by one row only.
    """

    def __init__(self, failures: dict[int, FailureRow]) -> None:
        """Begin with the failures of a journal, by their line."""
        self._lines = set(failures)
        self._by_name: dict[str, list[int]] = defaultdict(list)
        self._by_key: dict[str, list[int]] = defaultdict(list)
        for line, row in failures.items():
            self._by_name[row["file"]].append(line)
            self._by_key[row["key"]].append(line)

    def __len__(self) -> int:
        return len(self._lines)

    def replace(self, row: Row, film: Film, identity: Identity) -> None:
        """Note in the row of a file which lines it replaces.

        These are of the same name or key, or of a folder above that could not be searched.
        """
        if not self._lines:
            return
        found = {*self._by_name.get(row["file"], ()), *self._by_key.get(row["key"], ())}
        for path in (film.name, *map(str, Path(film.name).parents)):
            found.update(self._by_key.get(identity.key(path, None, None), ()))
        lines = sorted(found & self._lines)
        self._lines.difference_update(lines)
        if lines:
            row["replaces"] = lines
