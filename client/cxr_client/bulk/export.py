"""Export: a journal -> a table in CSV or Parquet, whole or not at all, in the order of the names.

Long tables have a row for each finding, wide tables one for each image. A failure is one row in
both. Memory is bounded but for the order: a name and an offset for each row.
"""

import csv
import glob
import json
import os
import secrets
from collections.abc import Callable, Iterator
from contextlib import suppress
from pathlib import Path
from typing import Any, Final

from cxr_client.runs import ImageRow, Row, Run, row_of

_FORMULA_STARTS: Final = ("=", "+", "-", "@", "\t", "\r", "\n")
_IMAGE: Final = ("file", "width_px", "height_px", "warnings", "typicality", "heatmap", "embedding")
_FINDING: Final = ("label", "score", "probability", "threshold", "above_threshold")
_CALIBRATED: Final = "calibrated_probability"
_FAILURE: Final = ("reason", "message")
_GROUP_ROWS = 10_000
_TYPES: Final = {
    "width_px": "int32",
    "height_px": "int32",
    "embedding": "int64",
    "typicality": "float32",
    "score": "float32",
    "probability": "float32",
    "calibrated_probability": "float32",
    "threshold": "float32",
    "above_threshold": "bool",
}
"""The type in Parquet of each column that is no text, by the end of its name."""


class ExtraMissing(ImportError):
    """Parquet needs pyarrow, which is not installed."""


def to_csv(run: Run, path: Path, *, wide: bool) -> None:
    """Write a CSV file for spreadsheets, in UTF-8.

    Text that a spreadsheet would run as a formula begins with an apostrophe.

    Raises:
        OSError: A file cannot be read or written.
        RunError: The journal is damaged.
    """

    def write(part: Path) -> None:
        with part.open("w", encoding="utf-8", errors="backslashreplace", newline="") as file:
            rows = csv.DictWriter(file, _columns(run, wide), restval="", lineterminator="\n")
            rows.writeheader()
            for record in _records(run, wide):
                rows.writerow({name: _cell(value) for name, value in record.items()})

    _whole(path, write)


def to_parquet(run: Run, path: Path, *, wide: bool) -> None:
    """Write a Parquet file; the header of the run is metadata of its schema, `cxr-run`.

    Raises:
        ExtraMissing: pyarrow is not installed.
        OSError: A file cannot be read or written.
        RunError: The journal is damaged.
    """
    require_parquet()
    import pyarrow as pa
    from pyarrow import parquet

    columns = _columns(run, wide)
    types = [_TYPES.get(_kind(name), "string") for name in columns]
    fields = [(name, pa.type_for_alias(kind)) for name, kind in zip(columns, types, strict=True)]
    schema = pa.schema(fields, metadata={"cxr-run": json.dumps(run.header)})

    def write(part: Path) -> None:
        with parquet.ParquetWriter(part, schema) as writer:
            records: list[dict[str, Any]] = []
            for record in _records(run, wide):
                records.append({name: _text(value) for name, value in record.items()})
                if len(records) == _GROUP_ROWS:
                    writer.write_table(pa.Table.from_pylist(records, schema))
                    records.clear()
            writer.write_table(pa.Table.from_pylist(records, schema))

    _whole(path, write)


def require_parquet() -> None:
    """Check that Parquet can be written.

    Raises:
        ExtraMissing: pyarrow is not installed.
    """
    try:
        import pyarrow.parquet  # noqa: F401
    except ModuleNotFoundError as error:
        if (error.name or "").partition(".")[0] != "pyarrow":
            raise
        raise ExtraMissing("Parquet needs an extra: pip install './client[parquet]'") from None


def _columns(run: Run, wide: bool) -> list[str]:
    calibrated = [_CALIBRATED] if _is_calibrated(run) else []
    of_labels = [
        f"{label}_{field}"
        for label in run.header["labels"]
        for field in ("score", "probability", *calibrated)
    ]
    return [*_IMAGE, *(of_labels if wide else (*_FINDING, *calibrated)), *_FAILURE]


def _is_calibrated(run: Run) -> bool:
    return bool("refit" in run.header and run.header["refit"]["calibration_method"])


def _kind(column: str) -> str:
    return column if column in _TYPES else column.rpartition("_")[2]


def _records(run: Run, wide: bool) -> Iterator[dict[str, Any]]:
    """Yield the rows of a table, without the cells that are empty."""
    for row in _sorted(run):
        if row["kind"] == "failure":
            yield {name: row[name] for name in ("file", "reason", "message")}
        elif wide:
            scores = {
                f"{finding['label']}_{field}": finding.get(field)
                for finding in row["findings"]
                for field in ("score", "probability", _CALIBRATED)
                if field in finding
            }
            yield _image(row) | scores
        else:
            for finding in row["findings"]:
                yield _image(row) | dict(finding)


def _image(row: ImageRow) -> dict[str, Any]:
    return {
        "file": row["file"],
        "width_px": row["image_info"]["width_px"],
        "height_px": row["image_info"]["height_px"],
        "warnings": " ".join(row["warnings"]),
        "typicality": row["typicality"],
        "heatmap": row["heatmap"],
        "embedding": row.get("embedding"),
    }


def _sorted(run: Run) -> Iterator[Row]:
    """Yield the rows in the order of their names; images of one name in that of the journal."""
    places = sorted(
        (row_of(line.content, line.number)["file"], line.offset, line.number)
        for line in run.lines()
    )
    with run.path.open("rb") as file:
        for _, offset, number in places:
            file.seek(offset)
            yield row_of(file.readline(), number)


def _cell(value: Any) -> Any:
    match value:
        case None:
            return ""
        case bool():
            return "true" if value else "false"
        case str() if value.startswith(_FORMULA_STARTS):
            return f"'{value}"
        case _:
            return value


def _text(value: Any) -> Any:
    """Return a value whose text is UTF-8, as Parquet requires; names of files may not be."""
    return value.encode("utf-8", "backslashreplace").decode() if isinstance(value, str) else value


def _whole(path: Path, write: Callable[[Path], None]) -> None:
    """Write a file under another name, and rename it once it is on the disk."""
    for left in path.parent.glob(f".{glob.escape(path.name)}-*.part"):  # left by killed runs
        left.unlink(missing_ok=True)
    part = path.with_name(f".{path.name}-{secrets.token_hex(8)}.part")
    try:
        write(part)
        with part.open("rb") as file:
            os.fsync(file.fileno())
        part.replace(path)
        folder = os.open(path.parent, os.O_RDONLY)
        with suppress(OSError):  # Some file systems cannot sync folders.
            os.fsync(folder)
        os.close(folder)
    except BaseException:
        part.unlink(missing_ok=True)
        raise
