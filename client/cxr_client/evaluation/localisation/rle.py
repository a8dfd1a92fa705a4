"""RLE: the run lengths of COCO, as in CheXlocalize, -> masks. Source: cocoapi, maskApi.c."""

from typing import Any

import numpy as np
from numpy.typing import NDArray

from cxr_client.evaluation.labels.label_set import LabelError

_MAX_PIXELS = 2**28


def decode(encoded: Any) -> NDArray[np.bool_]:
    """Return the mask [rows, columns] of {"size": [rows, columns], "counts": text or list}.

    Raises:
        LabelError: It is no such object, or the runs do not fill the mask.
    """
    try:
        rows, columns = (int(side) for side in encoded["size"])
        counts = encoded["counts"]
        runs = _runs(counts) if isinstance(counts, str) else [int(run) for run in counts]
    except (KeyError, TypeError, ValueError, IndexError):
        raise LabelError("a mask is not a COCO run-length encoding") from None
    pixels = rows * columns
    if not 0 < pixels <= _MAX_PIXELS or min(runs, default=-1) < 0 or sum(runs) != pixels:
        raise LabelError("a mask's runs do not fill its size")
    values = np.arange(len(runs)) % 2 == 1
    # Column by column.
    return np.repeat(values, runs).reshape(columns, rows).T


def _runs(text: str) -> list[int]:
    """Return run lengths, in groups of five bits; from the fourth on less the last but one."""
    runs: list[int] = []
    position = 0
    while position < len(text):
        value = shift = 0
        more = True
        while more:
            group = ord(text[position]) - 48
            value |= (group & 0x1F) << shift
            more = bool(group & 0x20)
            position += 1
            shift += 5
        if group & 0x10:
            value -= 1 << shift
        runs.append(value + runs[-2] if len(runs) > 2 else value)
    return runs
