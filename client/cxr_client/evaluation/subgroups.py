"""Subgroups: columns of a cohort -> images of each level."""

import re

import numpy as np
from numpy.typing import NDArray

from cxr_client.evaluation.labels.label_set import AGE, SCANNER, SEX, VIEW

DEFAULT = (SEX, AGE, VIEW, SCANNER)
"""Columns that are evaluated unless others are named, as far as the label file has them."""

UNKNOWN = "unknown"
OTHER = "other"
_LARGEST = 8
"""Levels of a column that are shown by name; the rest is one level."""

_AGE_BANDS = ((0, 18, "under 18"), (18, 40, "18 to 39"), (40, 60, "40 to 59"), (60, 80, "60 to 79"))
_OLDEST = "80 and over"
_SEXES = {"f": "female", "m": "male", "o": "other"}
_NOT_STATED = frozenset({"", "nan", UNKNOWN})


def levels(column: str, values: NDArray[np.str_]) -> dict[str, NDArray[np.bool_]]:
    """Return the images of each level, [n] each: age in bands, others by size.

    Args:
        column: Its name; `AGE` is numeric.
        values: One for each image, "" where unknown, [n].
    """
    values = _alike(column, values)
    distinct, level, counts = np.unique(values, return_inverse=True, return_counts=True)
    names = [str(each) for each in distinct]
    order = range(len(names)) if column == AGE else np.argsort(-counts, kind="stable")
    known = [index for index in order if names[index] != UNKNOWN]
    if column == AGE:
        bands = [name for *_, name in _AGE_BANDS] + [_OLDEST]
        known.sort(key=lambda index: bands.index(names[index]))
    found = {names[index]: level == index for index in known[:_LARGEST]}
    rest = known[_LARGEST:]
    if rest:
        # A column may have a level of this name.
        found[OTHER] = found.pop(OTHER, np.zeros(len(values), bool)) | np.isin(level, rest)
    unknown = values == UNKNOWN
    if unknown.any():
        found[UNKNOWN] = unknown
    return found


def _alike(column: str, values: NDArray[np.str_]) -> NDArray[np.str_]:
    """Return values of which equal ones mean the same: bands of age, words for sexes."""
    spelt, index = np.unique(values, return_inverse=True)
    return np.array([_level(column, str(value)) for value in spelt], np.str_)[index]


def _level(column: str, text: str) -> str:
    if text.lower() in _NOT_STATED:
        return UNKNOWN
    if column == SEX:
        return _SEXES.get(text.lower(), text.lower())
    return _band(text) if column == AGE else text


def _band(text: str) -> str:
    """Return the band of an age; DICOM's 057Y is an age in years, 003M is below 18."""
    found = re.fullmatch(r"(\d{1,3})(?:\.\d+)?([DWMY]?)", text.strip().upper())
    if not found:
        return UNKNOWN
    years = 0 if found[2] in ("D", "W", "M") and found[2] else int(found[1])
    if years > 120:
        return UNKNOWN
    return next((name for low, high, name in _AGE_BANDS if low <= years < high), _OLDEST)
