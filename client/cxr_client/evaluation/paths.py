"""Paths: names of images in a table, and files of a run -> which name each file has. Next: cohort.

Names of data sets are unique. Those of one's own files often are not: every folder may have an
IM-0001, and only its folder says which is meant.
"""

from collections import defaultdict
from collections.abc import Callable, Iterable, Sequence

from cxr_client.suffixes import without_suffix

Find = Callable[[str], Sequence[str]]
"""A file of the run -> the keys that it may have: none, one, or several that it cannot tell."""


def path_of(name: str) -> str:
    """Return a name with its folders, without the suffix of an image."""
    parts = [part for part in name.strip().replace("\\", "/").split("/") if part not in ("", ".")]
    return without_suffix("/".join(parts))


def finder(
    keys: Iterable[str], files: Iterable[str], key_of: Callable[[str], str], *, by_path: bool
) -> Find:
    """Return how keys are found: by the ends of paths, or by what `key_of` makes of a file.

    Args:
        keys: Of images.
        files: All of the run.
        key_of: A file -> its key.
        by_path: Whether keys are paths, made by `path_of`.
    """
    if by_path:
        return _Ends(keys, files).find
    known = frozenset(keys)

    def find(file: str) -> Sequence[str]:
        key = key_of(file)
        return [key] if key in known else []

    return find


class _Ends:
    """Paths that are found by the ends of files: B/IM-0001 by data/B/IM-0001.dcm.

    Folders count as far as those of table and run agree anywhere. So A/IM-0001 is not B/IM-0001
    in a run that has both folders, and names alone count if the run has other folders than the
    table.
    """

    def __init__(self, paths: Iterable[str], files: Iterable[str]) -> None:
        self._with_end: defaultdict[str, list[str]] = defaultdict(list)
        self._paths = dict.fromkeys(paths)
        for path in self._paths:
            for end in _ends(path):
                self._with_end[end].append(path)
        self._depth = max(map(self._agreeing, files), default=0)

    def find(self, file: str) -> Sequence[str]:
        ends = _ends(path_of(file))
        least = min(self._depth, len(ends))
        for place, end in enumerate(ends):
            if end in self._paths:
                return [end]
            if len(ends) - place >= least and end in self._with_end:
                return self._with_end[end]
        return []

    def _agreeing(self, file: str) -> int:
        """Return how many parts, from the last, a file has in common with the likest path."""
        ends = _ends(path_of(file))
        return next((len(ends) - n for n, end in enumerate(ends) if end in self._with_end), 0)


def _ends(path: str) -> list[str]:
    """Return a/b/c, b/c and c."""
    parts = path.split("/")
    return ["/".join(parts[start:]) for start in range(len(parts))]
