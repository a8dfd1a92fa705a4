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
_WORDS = {"f": "female", "m": "male"}


def levels(column: str, values: NDArray[np.str_]) -> dict[str, NDArray[np.bool_]]:
    """Return the images of each level, [n] each: age in bands, others by size.

    Args:
        column: Its name; `AGE` is numeric.
        values: One for each image, "" where unknown, [n].
    """
    if column == AGE:
        values = _bands(values)
    distinct, level, counts = np.unique(values, return_inverse=True, return_counts=True)
    names = [str(each) for each in distinct]
    order = range(len(names)) if column == AGE else np.argsort(-counts, kind="stable")
    known = [index for index in order if names[index] not in ("", UNKNOWN)]
    if column == AGE:
        bands = [name for *_, name in _AGE_BANDS] + [_OLDEST]
        known.sort(key=lambda index: bands.index(names[index]))
    found = {_shown(column, names[index]): level == index for index in known[:_LARGEST]}
    rest = known[_LARGEST:]
    if rest:
        found[OTHER] = np.isin(level, rest)
    unknown = (values == "") | (values == UNKNOWN)
    if unknown.any():
        found[UNKNOWN] = unknown
    return found


def _shown(column: str, name: str) -> str:
    return _WORDS.get(name.lower(), name.lower()) if column == SEX else name


def _bands(values: NDArray[np.str_]) -> NDArray[np.str_]:
    """Return the band of each age; DICOM's 057Y is an age in years, 003M is below 18."""
    return np.array([_band(str(value)) for value in values], np.str_)


def _band(text: str) -> str:
    found = re.fullmatch(r"(\d{1,3})(?:\.\d+)?([DWMY]?)", text.strip().upper())
    if not found:
        return UNKNOWN
    years = 0 if found[2] in ("D", "W", "M") and found[2] else int(found[1])
    if years > 120:
        return UNKNOWN
    return next((name for low, high, name in _AGE_BANDS if low <= years < high), _OLDEST)
