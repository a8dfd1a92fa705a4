"""Tables: CSV files, plain or compressed -> the columns that a format names."""

import csv
import gzip
import io
import zipfile
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from operator import itemgetter
from pathlib import Path
from typing import IO

from cxr_client.evaluation.labels.label_set import LabelError


@contextmanager
def open_text(path: Path) -> Iterator[IO[str]]:
    """Open a text file; one that ends in .gz, or the only member of a .zip, is decompressed.

    Raises:
        LabelError: The file cannot be read.
    """
    try:
        if path.suffix == ".gz":
            with gzip.open(path, "rt", encoding="utf-8-sig", newline="") as text:
                yield text
        elif path.suffix == ".zip":
            with zipfile.ZipFile(path) as archive, archive.open(_only_member(archive)) as binary:
                yield io.TextIOWrapper(binary, "utf-8-sig", newline="")
        else:
            with path.open(encoding="utf-8-sig", newline="") as text:
                yield text
    except (OSError, EOFError, UnicodeDecodeError, zipfile.BadZipFile, csv.Error) as error:
        raise LabelError(f"cannot read the label file {path}: {error}") from None


def read_rows(path: Path) -> tuple[list[str], list[list[str]]]:
    """Return the header, stripped, and the rows, which are as long as the header.

    Raises:
        LabelError: The file cannot be read, or is no table.
    """
    with open_text(path) as text:
        reader = csv.reader(text)
        header = [name.strip() for name in next(reader, [])]
        if len(header) < 2:
            raise LabelError(f"the label file {path} is not a CSV table with a header")
        rows = []
        for row in filter(None, reader):
            if len(row) != len(header):
                raise LabelError(f"line {reader.line_num} of {path} has {len(row)} fields")
            rows.append(row)
    return header, rows


def read_columns(
    path: Path, names: Sequence[str], optional: Sequence[str] = ()
) -> dict[str, list[str]]:
    """Return columns by name, those of `optional` only where the file has them.

    Raises:
        LabelError: The file cannot be read, or lacks a column.
    """
    with open_text(path) as text:
        reader = csv.reader(text)
        header = [name.strip() for name in next(reader, [])]
        missing = [name for name in names if name not in header]
        if missing:
            raise LabelError(f"{path} is not of this format: it has no column {missing[0]}")
        found = [*names, *(name for name in optional if name in header)]
        # The first column is taken twice, so that a row is a tuple even where there is one column.
        pick = itemgetter(*(header.index(name) for name in found), header.index(found[0]))
        try:
            rows = [pick(row) for row in reader if row]
        except IndexError:
            raise LabelError(f"line {reader.line_num} of {path} has too few fields") from None
    columns = zip(*rows, strict=True) if rows else ([] for _ in found)
    return dict(zip(found, map(list, columns), strict=False))


def _only_member(archive: zipfile.ZipFile) -> str:
    members = archive.namelist()
    if len(members) != 1:
        raise zipfile.BadZipFile(f"it holds {len(members)} files instead of one")
    return members[0]
