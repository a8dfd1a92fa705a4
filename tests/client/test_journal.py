"""The journal of a bulk run: whatever ends its process, no row is lost and none is there twice."""

import errno
import os
import tempfile
from collections import Counter
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from cxr_client.bulk.embeddings import Embeddings, stored_rows
from cxr_client.bulk.journal import Journal, JournalError
from cxr_client.runs import FailureRow, Header, ImageRow, Row, Run, encode
from run_rows import FAILURE, HEADER, IMAGE

FEATURES = 3


def image(number: int) -> ImageRow:
    return {**IMAGE, "file": f"films/{number}.png", "key": f"key-{number}"}


def refusal(number: int) -> FailureRow:
    return {**FAILURE, "file": f"films/{number}.png", "key": f"key-{number}"}


def vector(number: int) -> tuple[float, ...]:
    return (float(number),) * FEATURES


def rows_in(path: Path) -> list[Row]:
    return list(Run.read(path).rows())


def known_in(journal: Journal) -> set[str]:
    return {*journal.names, *(row["key"] for row in journal.failures.values())}


def open_again(path: Path, header: Header = HEADER) -> Journal:
    return Journal(path, header, resume=True)


def cut(path: Path, share: float, at_least: int = 0) -> None:
    """Leave a share of the bytes behind the first `at_least`, as a crash may."""
    if path.exists():
        behind = path.stat().st_size - at_least
        os.truncate(path, at_least + int(share * behind))


@settings(max_examples=150, deadline=None)
@given(
    count=st.integers(0, 12),
    lives=st.lists(
        st.tuples(
            st.integers(0, 12),  # rows appended in this life
            st.integers(0, 12),  # after how many of them it is synced
            st.floats(0, 1),  # what is left of the lines behind the last synced one
            st.floats(0, 1),  # and of the embeddings
            st.booleans(),  # whether failures are tried again, and answered now
        ),
        max_size=6,
    ),
    refused=st.sets(st.integers(0, 11)),
    with_embeddings=st.booleans(),
)
def test_a_run_that_dies_anywhere_and_is_resumed_has_every_row_once(
    count: int,
    lives: list[tuple[int, int, float, float, bool]],
    refused: set[int],
    with_embeddings: bool,
) -> None:
    def append(journal: Journal, number: int) -> None:
        failed = [line for line, row in journal.failures.items() if row["key"] == f"key-{number}"]
        row: Row = refusal(number) if number in refused and not failed else image(number)
        if failed:
            row["replaces"] = failed
        is_image = row["kind"] == "image"
        journal.append(row, vector(number) if with_embeddings and is_image else ())

    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "run.jsonl"
        embeddings = Run(path, HEADER).embeddings_path
        for appended, synced_after, line_share, embedding_share, retry in lives:
            with open_again(path) as journal:
                known = set(journal.names) if retry else known_in(journal)
                left = [n for n in range(count) if f"key-{n}" not in known]
                safe = safe_embeddings = 0
                for done, number in enumerate(left[:appended]):
                    append(journal, number)
                    if done + 1 == synced_after:
                        journal.sync()
                        safe = path.stat().st_size
                        safe_embeddings = embeddings.stat().st_size if embeddings.exists() else 0
            cut(path, line_share, at_least=safe)
            # A file of which not even the header is left says nothing about its rows.
            cut(embeddings, embedding_share, at_least=max(safe_embeddings, 128))
        with open_again(path) as journal:
            for number in range(count):
                if f"key-{number}" not in known_in(journal):
                    append(journal, number)
            assert journal.answered + journal.failed == count
        rows = rows_in(path)
        assert Counter(row["key"] for row in rows) == {f"key-{n}": 1 for n in range(count)}
        if with_embeddings and count > len(refused & set(range(count))):
            stored = np.load(embeddings)
            images = [row for row in rows if row["kind"] == "image"]
            assert stored.shape == (len(images), FEATURES)
            assert stored.dtype == np.float32
            for row in images:
                number = int(row["key"].removeprefix("key-"))
                assert stored[row["embedding"]].tolist() == [number] * FEATURES


def test_synced_rows_survive_whatever_is_lost_behind_them(tmp_path: Path) -> None:
    path = tmp_path / "run.jsonl"
    with Journal(path, HEADER, resume=False) as journal:
        journal.append(image(1))
        journal.sync()
        size = path.stat().st_size
        journal.append(image(2))
    for left in range(size, path.stat().st_size):
        content = path.read_bytes()
        os.truncate(path, left)
        with open_again(path) as journal:
            assert list(journal.names) == ["key-1"]
        assert path.stat().st_size == size
        path.write_bytes(content)


def test_embeddings_are_readable_after_a_row_was_lost_and_none_was_added(tmp_path: Path) -> None:
    path = tmp_path / "run.jsonl"
    with Journal(path, HEADER, resume=False) as journal:
        journal.append(image(1), vector(1))
        kept = path.stat().st_size
        journal.append(image(2), vector(2))
    os.truncate(path, kept)
    with open_again(path) as journal:
        assert list(journal.names) == ["key-1"]
    assert np.load(Run(path, HEADER).embeddings_path).tolist() == [[1.0] * FEATURES]


def test_a_journal_that_exists_is_not_touched_without_resume(tmp_path: Path) -> None:
    path = tmp_path / "run.jsonl"
    with Journal(path, HEADER, resume=False) as journal:
        journal.append(image(1))
    before = path.read_bytes()
    with pytest.raises(JournalError, match="--resume continues it"):
        Journal(path, HEADER, resume=False)
    assert path.read_bytes() == before


@pytest.mark.parametrize(
    ("field", "value"),
    [
        ("model", {**HEADER["model"], "weights_sha256": "other"}),
        ("preprocessing_id", "other"),
        ("labels", ["Mass"]),
        ("thresholds", {"Effusion": 0.3}),
        ("options", {"strict_input": True}),
        ("precision", "bfloat16"),
    ],
)
def test_a_run_of_another_model_or_other_options_is_not_resumed(
    tmp_path: Path, field: str, value: Any
) -> None:
    path = tmp_path / "run.jsonl"
    with Journal(path, HEADER, resume=False) as journal:
        journal.append(image(1))
    before = path.read_bytes()
    other: Any = HEADER | {field: value}
    with pytest.raises(JournalError, match=f"another run.*{field}"):
        open_again(path, other)
    assert path.read_bytes() == before


def test_a_newer_client_or_server_of_the_same_model_resumes(tmp_path: Path) -> None:
    path = tmp_path / "run.jsonl"
    with Journal(path, HEADER, resume=False) as journal:
        journal.append(image(1))
    newer: Any = HEADER | {"client_version": "9", "server_version": "9", "created": "later"}
    with open_again(path, newer) as journal:
        assert list(journal.names) == ["key-1"]
    assert Run.read(path).header == HEADER


def test_two_runs_do_not_write_one_journal(tmp_path: Path) -> None:
    path = tmp_path / "run.jsonl"
    with Journal(path, HEADER, resume=False) as journal:
        with pytest.raises(JournalError, match="another run"):
            open_again(path)
        journal.append(image(1))
    open_again(path).close()
    assert [row["key"] for row in rows_in(path)] == ["key-1"]


@pytest.mark.parametrize("content", [b"file,score\n", b"my thesis", b"{}\n"])
def test_a_file_of_another_kind_is_left_as_it_is(tmp_path: Path, content: bytes) -> None:
    path = tmp_path / "run.jsonl"
    path.write_bytes(content)
    with pytest.raises(JournalError, match="not the journal"):
        open_again(path)
    assert path.read_bytes() == content


def test_a_damaged_line_in_the_middle_is_named_and_nothing_is_cut(tmp_path: Path) -> None:
    path = tmp_path / "run.jsonl"
    content = encode(HEADER) + b"\0\0\0\n" + encode(IMAGE)
    path.write_bytes(content)
    with pytest.raises(JournalError, match="line 2"):
        open_again(path)
    assert path.read_bytes() == content


def test_the_image_of_a_line_that_was_emptied_is_answered_again(tmp_path: Path) -> None:
    path = tmp_path / "run.jsonl"
    path.write_bytes(encode(HEADER) + b"\n" + encode(refusal(2)))
    with open_again(path) as journal:
        assert known_in(journal) == {"key-2"}
        journal.append(image(1))
        journal.append({**image(2), "replaces": [3]})
    assert rows_in(path) == [image(1), {**image(2), "replaces": [3]}]


def test_other_files_of_embeddings_are_not_overwritten(tmp_path: Path) -> None:
    path = tmp_path / "run.jsonl"
    with Journal(path, HEADER, resume=False) as journal:
        journal.append(image(1), vector(1))
    embeddings = Run(path, HEADER).embeddings_path
    before = path.read_bytes()
    embeddings.write_bytes(b"something else")
    with pytest.raises(JournalError):
        open_again(path)
    embeddings.unlink()
    with pytest.raises(JournalError):
        open_again(path)
    assert path.read_bytes() == before


@pytest.mark.parametrize("size_bytes", [0, 5, 60])
def test_a_run_goes_on_after_the_disk_was_full_at_its_first_embedding(
    tmp_path: Path, size_bytes: int
) -> None:
    path = tmp_path / "run.jsonl"
    with Journal(path, HEADER, resume=False) as journal:
        journal.append(image(1), vector(1))
    run = Run(path, HEADER)
    os.truncate(run.embeddings_path, size_bytes)
    with open_again(path) as journal:
        journal.append(image(1), vector(1))
    assert len(rows_in(path)) == 1
    assert np.load(run.embeddings_path).shape[0] == 1


def test_embeddings_without_room_for_their_header_leave_no_file(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def full(fd: int, data: memoryview) -> int:
        if len(data) > 100:
            return write(fd, data[:100])
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    write, stored = os.write, Embeddings(tmp_path / "e.npy", 0)
    monkeypatch.setattr("cxr_client.bulk.embeddings.os.write", full)
    with pytest.raises(OSError, match="No space left"):
        stored.append((1.0, 2.0))
    assert not list(tmp_path.iterdir())
    monkeypatch.undo()
    assert stored.append((1.0, 2.0)) == 0
    stored.close()
    assert stored_rows(tmp_path / "e.npy") == 1
