"""Scores: a run -> arrays, in the order of its lines. Next: cohort."""

from collections import Counter
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from cxr_client.runs import Header, Run, RunError, row_of


@dataclass(frozen=True, slots=True, kw_only=True)
class Scores:
    """The answers of a run: n images, k findings in the order of the header's `labels`."""

    header: Header
    files: tuple[str, ...]
    keys: tuple[str, ...]
    """What the run knows files by, [n]: path and time, or content. Equal keys are equal files."""

    embeddings: NDArray[np.intp]
    """Row of each image in the run's file of embeddings, -1 where it has none, [n]."""

    lines: NDArray[np.int64]
    """Line of each image in the journal, from 1, [n]."""

    probabilities: NDArray[np.float64]
    """Raw sigmoid, [n, k]."""

    calibrated: NDArray[np.float64]
    """Calibrated probability, NaN where the model has none, [n, k]."""

    flags: NDArray[np.bool_]
    """Whether the finding is above its operating point, [n, k]."""

    warnings: dict[str, NDArray[np.bool_]]
    """Images with this code, [n] each."""

    typicality: NDArray[np.float64]
    """Of the images that have one, NaN for others, [n]."""

    failures: dict[str, int]
    """Images without an answer, by reason."""


def read_scores(run: Run) -> Scores:
    """Read all rows of a run; evidence is left aside.

    Raises:
        OSError: The file cannot be read.
        RunError: A line is damaged, or lacks a finding of the header.
    """
    labels = run.header["labels"]
    files: list[str] = []
    keys: list[str] = []
    embeddings: list[int] = []
    lines: list[int] = []
    values: list[list[float]] = []
    calibrated: list[list[float]] = []
    flags: list[list[bool]] = []
    typicality: list[float] = []
    coded: list[tuple[int, str]] = []
    failures: Counter[str] = Counter()
    for line, _, content in run.lines():
        row = row_of(content, line)
        if row["kind"] == "failure":
            failures[row["reason"]] += 1
            continue
        try:
            found = {finding["label"]: finding for finding in row["findings"]}
            values.append([float(found[label]["probability"]) for label in labels])
            calibrated.append(
                [float(found[label].get("calibrated_probability", np.nan)) for label in labels]
            )
            flags.append([bool(found[label]["above_threshold"]) for label in labels])
            coded += [(len(files), code) for code in row["warnings"]]
            found_typicality = row["typicality"]
            typicality.append(np.nan if found_typicality is None else float(found_typicality))
            keys.append(str(row["key"]))
            embeddings.append(int(row.get("embedding", -1)))
            files.append(str(row["file"]))
        except (KeyError, TypeError, ValueError):
            raise RunError(f"line {line} of the journal lacks a finding of its header") from None
        lines.append(line)
    warnings: dict[str, NDArray[Any]] = {}
    for index, code in coded:
        warnings.setdefault(code, np.zeros(len(files), bool))[index] = True
    shape = (len(files), len(labels))
    return Scores(
        header=run.header,
        files=tuple(files),
        keys=tuple(keys),
        embeddings=np.array(embeddings, np.intp),
        lines=np.array(lines, np.int64),
        probabilities=np.array(values, np.float64).reshape(shape),
        calibrated=np.array(calibrated, np.float64).reshape(shape),
        flags=np.array(flags, bool).reshape(shape),
        warnings=dict(sorted(warnings.items())),
        typicality=np.array(typicality, np.float64),
        failures=dict(failures.most_common()),
    )
