"""Runs: the journal of a bulk run, a file of JSON lines. Written by `bulk`, read by evaluation.

The first line is a `Header`; every other line is an `ImageRow` or a `FailureRow`, in the order in
which the images were answered. Lines are only ever appended, so a run that was killed leaves at
most one torn line, the last: it counts as not written. A row of an image that was tried again
names the failures before it, which it `replaces`: they count as not written, too.
"""

import json
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal, NamedTuple, NotRequired, Self, TypedDict, cast

from cxr_client.config import StrPath

FORMAT = "cxr-run"
FORMAT_VERSION = 1


EMPTIED = b"\n"
"""Replaces a damaged line that was removed, so that other lines keep their numbers."""


class RunError(ValueError):
    """A file is not the journal of a run, or a line of it is damaged."""


class ModelFields(TypedDict):
    """The model that answered every image of a run."""

    name: str
    version: str
    weights_sha256: str


class RefitFields(TypedDict):
    """What the operating points were fitted to, of `cxr_client.Refit`."""

    parent_name: str
    parent_version: str
    labels_title: str
    labels_sha256: str
    calibration_method: str


class Header(TypedDict):
    """The first line: what all rows have in common. A run is resumed only with the same."""

    kind: Literal["header"]
    format: str
    format_version: int
    model: ModelFields
    preprocessing_id: str
    labels: list[str]
    """In the order of `class_index`."""

    thresholds: dict[str, float]
    """The operating point of each label, a raw probability."""

    refit: NotRequired[RefitFields]
    """Of models whose operating points are not those of their authors."""

    quantized_from: NotRequired[str]
    """Of models in int8: the name of the model in float32, whose weights they share."""

    precision: NotRequired[str]
    """Of models in float32 that an engine computes in less: "tf32", "float16" or "bfloat16"."""

    input_side_px: int
    options: dict[str, Any]
    """What the answers depend on: how images were read, and what was asked for."""

    client_version: str
    server_version: str
    notice: str
    created: str
    """ISO 8601, with the offset from UTC."""


class FindingFields(TypedDict):
    """One finding, as `cxr_client.Finding`."""

    label: str
    score: float
    probability: float
    threshold: float
    above_threshold: bool
    calibrated_probability: NotRequired[float]


class EvidenceFields(TypedDict):
    """A class evidence map in logits, `rows * columns` values, as `cxr_client.EvidenceGrid`."""

    rows: int
    columns: int
    values: list[float]


class ImageRow(TypedDict):
    """An image that was answered: every finding, best first."""

    kind: Literal["image"]
    replaces: NotRequired[list[int]]
    """Line numbers, from 1, of the failures that this row replaces."""

    file: str
    """The name as given, or its keyed hash."""

    key: str
    """What identifies the image when a run is resumed."""

    size_bytes: int
    mtime_ns: int
    findings: list[FindingFields]
    warnings: list[str]
    """Codes, such as "LOW_CONTRAST"."""

    image_info: dict[str, Any]
    """As `cxr_client.ImageInfo`."""

    typicality: float | None
    heatmap: str | None
    """Path of the picture in the folder of heatmaps."""

    request_id: str
    embedding: NotRequired[int]
    """Row of the file of embeddings that lies beside the journal."""

    evidence: NotRequired[dict[str, EvidenceFields]]
    """By label."""


class FailureRow(TypedDict):
    """An image that was refused, or a file that could not be read."""

    kind: Literal["failure"]
    replaces: NotRequired[list[int]]
    file: str
    key: str
    size_bytes: int | None
    """None where the file cannot be read."""

    mtime_ns: int | None
    reason: str
    message: str


Row = ImageRow | FailureRow


class Line(NamedTuple):
    """A line that counts: neither the header, nor torn, replaced or emptied."""

    number: int
    """From 1, the header's."""

    offset: int
    """Where it begins in the file, in bytes."""

    content: bytes


@dataclass(frozen=True, slots=True)
class Run:
    """A journal on disk: its header, and its rows, which are read one at a time."""

    path: Path
    header: Header

    @classmethod
    def read(cls, path: StrPath) -> Self:
        """Read the header.

        Raises:
            OSError: The file cannot be read.
            RunError: It is no journal, or of a later format.
        """
        journal = Path(path)
        with journal.open("rb") as file:
            first = file.readline()
        try:
            return cls(journal, header_of(first))
        except RunError as error:
            beside = journal.with_name(f"{journal.name}.jsonl")
            if beside.is_file():
                raise RunError(f"{error}; the journal of this table is {beside.name}") from None
            raise

    def rows(self) -> Iterator[Row]:
        """Yield the rows that count, in the order of their lines.

        Raises:
            OSError: The file cannot be read.
            RunError: A line before the last is damaged.
        """
        return (row_of(line.content, line.number) for line in self.lines())

    def lines(self) -> Iterator[Line]:
        """Yield the lines that count. The file is read twice; what is appended meanwhile is not.

        Raises:
            OSError: The file cannot be read.
            RunError: A line that replaces others is damaged.
        """
        with self.path.open("rb") as file:
            replaced: set[int] = set()
            end = 0
            for number, content in enumerate(file, start=1):
                if content.endswith(b"\n"):
                    end += len(content)
                    if b'"replaces"' in content and number > 1:
                        replaced.update(row_of(content, number).get("replaces", ()))
            offset = file.seek(0)
            for number, content in enumerate(file, start=1):
                if offset >= end:
                    return
                if number > 1 and number not in replaced and content != EMPTIED:
                    yield Line(number, offset, content)
                offset += len(content)

    @property
    def embeddings_path(self) -> Path:
        """The file of embeddings beside the journal, float32 [rows, features] in NumPy's format."""
        return self.path.with_name(f"{self.path.name}.embeddings.npy")


def header_of(line: bytes) -> Header:
    """Return the header in the first line of a journal.

    Raises:
        RunError: It is no header, or of a later format.
    """
    fields = _object(line) if line.endswith(b"\n") else None
    if fields is None or fields.get("kind") != "header" or fields.get("format") != FORMAT:
        raise RunError("the file is not the journal of a run: its first line is not a header")
    if fields.get("format_version") != FORMAT_VERSION:
        version = fields.get("format_version")
        raise RunError(f"the journal is of the format version {version}, not {FORMAT_VERSION}")
    return cast(Header, fields)


def row_of(line: bytes, number: int) -> Row:
    """Return the row in a line.

    Raises:
        RunError: The line, the `number`th of the journal, is damaged.
    """
    fields = _object(line)
    kinds = ("image", "failure")
    if fields is None or fields.get("kind") not in kinds or not _lines_in(fields.get("replaces")):
        raise RunError(
            f"line {number} of the journal is damaged; once it is emptied "
            f"(LC_ALL=C sed -i '{number}s/.*//' FILE), --resume answers its image again"
        )
    return cast(Row, fields)


def encode(line: Header | Row) -> bytes:
    """Return a line of a journal, which is ASCII: names that are not UTF-8 are kept, too."""
    return json.dumps(line, separators=(",", ":"), allow_nan=False).encode("ascii") + b"\n"


def _lines_in(replaces: Any) -> bool:
    """Whether this is a list of lines, or missing."""
    return replaces is None or (
        isinstance(replaces, list) and all(isinstance(each, int) for each in replaces)
    )


def _object(line: bytes) -> dict[str, Any] | None:
    try:
        value = json.loads(line)
    except ValueError:
        return None
    return value if isinstance(value, dict) else None
