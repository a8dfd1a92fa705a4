"""The journal of a bulk run, as it is read."""

import json
import subprocess
from pathlib import Path
from typing import Any

import pytest

from cxr_client.runs import Run, RunError, encode
from run_rows import FAILURE, HEADER, IMAGE


def _write(path: Path, *lines: Any, tail: bytes = b"") -> Path:
    path.write_bytes(b"".join(map(encode, lines)) + tail)
    return path


def test_rows_are_read_as_they_were_written(tmp_path: Path) -> None:
    run = Run.read(_write(tmp_path / "run.jsonl", HEADER, IMAGE, FAILURE))
    assert run.header == HEADER
    assert list(run.rows()) == [IMAGE, FAILURE]


def test_a_name_that_is_not_utf_8_survives_in_an_ascii_file(tmp_path: Path) -> None:
    path = _write(tmp_path / "run.jsonl", HEADER, FAILURE)
    assert path.read_bytes().isascii()
    assert [row["file"] for row in Run.read(path).rows()] == ["films/\udcff.png"]


def test_every_cut_of_the_last_line_leaves_the_rows_before_it(tmp_path: Path) -> None:
    last = encode(IMAGE)
    for cut in range(len(last)):
        run = Run.read(_write(tmp_path / "run.jsonl", HEADER, FAILURE, tail=last[:cut]))
        assert list(run.rows()) == [FAILURE]


def test_a_row_that_replaces_failures_counts_instead_of_them(tmp_path: Path) -> None:
    failed_again = {**FAILURE, "replaces": [2]}
    answered: Any = {**IMAGE, "replaces": [4], "file": '"replaces"'}
    path = _write(tmp_path / "run.jsonl", HEADER, FAILURE, IMAGE, failed_again)
    assert list(Run.read(path).rows()) == [IMAGE, failed_again]
    _write(path, HEADER, FAILURE, IMAGE, failed_again, answered)
    assert list(Run.read(path).rows()) == [IMAGE, answered]
    lines = path.read_bytes().splitlines(keepends=True)
    assert [(line.number, line.content) for line in Run.read(path).lines()] == [
        (3, lines[2]),
        (5, lines[4]),
    ]
    _write(path, HEADER, FAILURE, tail=encode(failed_again)[:-1])
    assert list(Run.read(path).rows()) == [FAILURE]
    with pytest.raises(RunError, match="line 3"):
        list(Run.read(_write(path, HEADER, FAILURE, FAILURE | {"replaces": "2"})).rows())


def test_a_damaged_line_before_the_last_is_named(tmp_path: Path) -> None:
    path = _write(tmp_path / "run.jsonl", HEADER, IMAGE, tail=b"\0\0\n" + encode(IMAGE))
    with pytest.raises(RunError, match=r"line 3 .* sed -i '3s/") as told:
        list(Run.read(path).rows())
    command = str(told.value).partition("(")[2].partition(")")[0].replace("FILE", str(path))
    subprocess.run(command, shell=True, check=True)
    assert [(line.number, line.content) for line in Run.read(path).lines()] == [
        (2, encode(IMAGE)),
        (4, encode(IMAGE)),
    ]


@pytest.mark.parametrize(
    "first",
    [
        b"",
        b"\n",
        b"[]\n",
        b"file,score\n",
        encode(HEADER)[:-1],
        encode(IMAGE),
        b"\xff\n",
        json.dumps({"kind": "header", "format": "other"}).encode() + b"\n",
    ],
)
def test_another_file_is_no_journal(tmp_path: Path, first: bytes) -> None:
    path = tmp_path / "run.jsonl"
    path.write_bytes(first)
    with pytest.raises(RunError, match="not the journal"):
        Run.read(path)


def test_a_later_format_is_refused(tmp_path: Path) -> None:
    later: Any = HEADER | {"format_version": 2}
    with pytest.raises(RunError, match="version 2"):
        Run.read(_write(tmp_path / "run.jsonl", later))
