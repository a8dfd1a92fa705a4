"""LabelSet: what every label file becomes, and the choices in reading one. Next: cohort."""

from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path, PurePosixPath
from typing import Literal

import numpy as np
from numpy.typing import NDArray

from cxr_client.suffixes import without_suffix

SEX, AGE, VIEW, SCANNER = "Sex", "Age", "View", "Scanner"
"""Columns with the same name in all formats."""


class LabelError(ValueError):
    """A label file cannot be read as the format that was named, or an option contradicts it."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Choices:
    """How ambiguous labels are read. Each that a format uses is stated in the report."""

    blank: Literal["negative", "ignore"] | None = None
    """Findings that are not mentioned: by default, negative in CheXpert and MIMIC, whose authors
    count them so, and unknown in CSV."""

    uncertain: Literal["ignore", "positive", "negative"] = "ignore"
    """CheXpert, MIMIC and CSV: -1."""

    readers: Literal["majority", "any", "all"] = "majority"
    """VinDr: how many of an image's readers must name a finding."""

    laterals: Literal["drop", "keep"] = "drop"
    """The models are trained on frontal radiographs."""

    key_column: str | None = None
    """CSV: the column with the name of the image; by default the first."""

    patient_column: str | None = None
    """CSV: the column with the patient; by default one that is called so."""

    metadata: Path | None = None
    """MIMIC: mimic-cxr-2.0.0-metadata.csv, which tells the view of each image."""

    map: dict[str, str] = field(default_factory=dict)
    """CSV: finding of the model for columns that have another name."""


@dataclass(frozen=True, slots=True, kw_only=True)
class LabelSet:
    """Labels of n units, images or studies, by finding of the model.

    Labels are float32 [n]: 1 positive, 0 negative, NaN unknown.
    """

    title: str
    keys: tuple[str, ...]
    findings: dict[str, NDArray[np.float32]]
    key_of: Callable[[str], str]
    """The name of a file in a run -> its key."""

    by_path: bool = False
    """Whether keys are paths whose folders count where the run has them, too."""

    unit: Literal["image", "study"] = "image"
    patients: NDArray[np.str_] | None = None
    columns: dict[str, NDArray[np.str_]] = field(default_factory=dict)
    """What subgroups are made of, [n] each; "" where unknown."""

    choices: tuple[str, ...] = ()
    """Sentences: how the labels were read."""

    cautions: tuple[str, ...] = ()
    """Sentences: what the reader of a report must know about these labels."""

    left_out: dict[str, int] = field(default_factory=dict)
    """Units of the file that are not evaluated, by reason."""

    unmapped: tuple[str, ...] = ()
    """Labels of the file that stand for no finding of a model."""

    datasets: tuple[str, ...] = ()
    """The data sets that the images come from, as in the names of models' training sets."""


def stem_of(file: str) -> str:
    """Return the name of a file without its folders and the suffix of an image."""
    return without_suffix(PurePosixPath(file.replace("\\", "/")).name)


def study_path_of(depth: int) -> Callable[[str], str]:
    """Return a function: a path -> its last `depth` parts without the suffix."""

    def key(file: str) -> str:
        path = PurePosixPath(file.replace("\\", "/"))
        return "/".join([*path.parts[-depth:-1], without_suffix(path.name)])

    return key


def strings(values: list[str]) -> NDArray[np.str_]:
    """Return stripped strings as an array [n]."""
    return np.array([value.strip() for value in values], dtype=np.str_)


def sentence_list(names: list[str]) -> str:
    """Return "a, b and c"."""
    return names[0] if len(names) == 1 else f"{', '.join(names[:-1])} and {names[-1]}"
