"""`cxr predict --output`: whole folders, with a fake server."""

import csv
import json
import os
import re
import signal
import subprocess
import sys
import time
from collections import Counter
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow.parquet as pq
import pytest

from cxr.v1 import chest_xray_pb2 as pb
from cxr_client.runs import Row, Run
from cxr_client.testing import FakeServer, Hold, default_answer, failure
from cxr_command import CXR, cxr_process, names_in
from cxr_command import Run as Cxr

PNG = b"\x89PNG\r\n\x1a\n"


@pytest.fixture
def films(tmp_path: Path) -> Path:
    """A folder with 30 images in subfolders, each with bytes of its own."""
    root = tmp_path / "films"
    for number in range(30):
        file = root / f"p{number % 3}" / f"{number:02}.png"
        file.parent.mkdir(parents=True, exist_ok=True)
        file.write_bytes(PNG + bytes([number]))
    return root


@pytest.fixture(autouse=True)
def small_answers(fake: FakeServer) -> None:
    fake.answer("Predict", default_answer)
    fake.answer("Explain", default_answer)


def rows_of(path: Path) -> list[Row]:
    return list(Run.read(path).rows())


def files_of(path: Path) -> list[str]:
    return sorted(row["file"] for row in rows_of(path))


def named(root: Path) -> list[str]:
    return sorted(map(str, root.rglob("*.png")))


def predicts(fake: FakeServer) -> list[Any]:
    return [call for call in fake.calls if call.rpc in ("Predict", "Explain")]


def process(
    fake: FakeServer, *argv: object, program: list[str] = CXR, **options: Any
) -> "subprocess.Popen[bytes]":
    env = {**os.environ, "CXR_SERVER": fake.address}
    words = [*program, "predict", *map(str, argv)]
    pipes: dict[str, Any] = {"stdout": subprocess.PIPE, "stderr": subprocess.PIPE}
    return subprocess.Popen(words, env=env, **(pipes | options))


def finish(fake: FakeServer, *argv: object) -> int:
    env = {**os.environ, "CXR_SERVER": fake.address}
    return cxr_process("predict", *argv, env=env).returncode


def wait_until(condition: Callable[[], bool]) -> None:
    give_up = time.monotonic() + 60
    while not condition():
        assert time.monotonic() < give_up
        time.sleep(0.01)


# --- the journal ---


def test_a_folder_becomes_a_journal_with_a_row_for_each_image(
    cxr: Cxr, fake: FakeServer, films: Path, tmp_path: Path
) -> None:
    output = tmp_path / "run.jsonl"
    status, out, err = cxr("predict", films, "--output", output)
    assert (status, out) == (0, "")
    assert re.fullmatch(r"30 answered in \d+ s\n", err)
    run = Run.read(output)
    described = default_answer(pb.DescribeModelRequest())
    assert isinstance(described, pb.DescribeModelResponse)
    assert run.header["labels"] == [finding.label for finding in described.findings]
    assert run.header["model"]["weights_sha256"] == described.model.weights_sha256
    assert run.header["input_side_px"] == described.input_side_px
    assert files_of(output) == named(films)
    for row in run.rows():
        assert row["kind"] == "image"
        assert row["size_bytes"] == 9
        assert row["mtime_ns"] == Path(row["file"]).stat().st_mtime_ns
        assert {finding["label"] for finding in row["findings"]} == set(run.header["labels"])
    calls = predicts(fake)
    assert len(calls) == 30
    assert {call.metadata["x-priority"] for call in calls} == {"bulk"}


def test_a_refused_image_and_a_file_that_cannot_be_read_are_rows(
    cxr: Cxr, fake: FakeServer, tmp_path: Path
) -> None:
    (tmp_path / "a.png").write_bytes(PNG)
    fake.script(failure("INVALID_ARGUMENT", "IMAGE_UNREADABLE", "It is broken."), rpc="Predict")
    output = tmp_path / "run.jsonl"
    status, _, err = cxr("predict", tmp_path / "a.png", tmp_path / "b.png", "--output", output)
    assert status == 1
    assert "0 answered, 2 failed" in err
    rows = {Path(row["file"]).name: row for row in rows_of(output)}
    assert [rows[name].get("reason") for name in ("a.png", "b.png")] == [
        "IMAGE_UNREADABLE",
        "FILE_UNREADABLE",
    ]
    assert rows["b.png"]["size_bytes"] is None
    assert cxr("predict", tmp_path / "a.png", "--output", output, "--resume")[0] == 1
    assert len(rows_of(output)) == 2


@pytest.mark.parametrize("key", ["path", "sha256"])
def test_failures_are_tried_again_on_demand_and_no_image_is_there_twice(
    cxr: Cxr, fake: FakeServer, films: Path, tmp_path: Path, key: str
) -> None:
    missing = tmp_path / "missing.png"
    output = tmp_path / "run.csv"
    journal = tmp_path / "run.csv.jsonl"
    refused = failure("INVALID_ARGUMENT", "IMAGE_UNREADABLE", "It is broken.")
    run = ("predict", films, missing, "--output", output, "--key", key)
    fake.script(refused, refused, refused, rpc="Predict")
    assert cxr(*run)[0] == 1
    assert Counter(row["kind"] for row in rows_of(journal)) == {"image": 27, "failure": 4}
    failed = [row for row in rows_of(journal) if row["kind"] == "failure"]
    before = journal.read_bytes()

    calls = len(predicts(fake))
    missing.write_bytes(PNG + b"now")
    fake.script(refused, rpc="Predict")
    status, _, err = cxr(*run, "--resume", "--retry-failed")
    assert (status, len(predicts(fake)) - calls) == (1, 4)
    assert "30 answered, 1 failed" in err
    assert journal.read_bytes().startswith(before)
    assert files_of(journal) == sorted([*named(films), str(missing)])
    assert {row["file"] for row in rows_of(journal) if "replaces" in row} == {
        row["file"] for row in failed
    }

    assert cxr(*run, "--resume")[0] == 1
    assert cxr(*run, "--resume", "--retry-failed")[0] == 0
    assert len(predicts(fake)) - calls == 5
    assert files_of(journal) == sorted([*named(films), str(missing)])
    with output.open(newline="") as table:
        rows = list(csv.DictReader(table))
    assert Counter(row["file"] for row in rows) == dict.fromkeys(files_of(journal), 3)
    assert cxr(*run, "--resume", "--retry-failed")[0] == 0
    assert len(predicts(fake)) - calls == 5


@pytest.mark.slow
def test_load_and_outages_are_waited_for_and_are_no_rows(
    cxr: Cxr, fake: FakeServer, films: Path, tmp_path: Path
) -> None:
    full = failure("RESOURCE_EXHAUSTED", "QUEUE_FULL", retry_after_s=0.01)
    loading = failure("UNAVAILABLE", "MODEL_LOADING", retry_after_s=0.01)
    fake.script(*[full, loading, failure("UNAVAILABLE")] * 5, rpc="Predict")
    output = tmp_path / "run.jsonl"
    assert cxr("predict", films, "--output", output)[0] == 0
    assert files_of(output) == named(films)
    assert len(predicts(fake)) == 45


def test_a_finished_run_is_resumed_without_a_call_and_new_or_changed_files_are_added(
    cxr: Cxr, fake: FakeServer, films: Path, tmp_path: Path
) -> None:
    output = tmp_path / "run.jsonl"
    assert cxr("predict", films, "--output", output)[0] == 0
    fake.calls.clear()
    assert cxr("predict", films, "--output", output, "--resume")[0] == 0
    assert predicts(fake) == []
    (films / "new.png").write_bytes(PNG)
    changed = films / "p0" / "00.png"
    changed.write_bytes(PNG + b"changed")
    status, _, err = cxr("predict", films, "--output", output, "--resume")
    assert status == 0
    assert re.fullmatch(r"32 answered in \d+ s; 30 of them before\n", err)
    assert len(predicts(fake)) == 2
    assert Counter(files_of(output))[str(changed)] == 2  # it was another image


def test_an_existing_journal_and_other_options_are_refused(
    cxr: Cxr, films: Path, tmp_path: Path
) -> None:
    output = tmp_path / "run.jsonl"
    assert cxr("predict", films, "--output", output)[0] == 0
    before = output.read_bytes()
    status, _, err = cxr("predict", films, "--output", output)
    assert status == 2
    assert "--resume continues it" in err
    status, _, err = cxr("predict", films, "--output", output, "--resume", "--strict")
    assert status == 2
    assert "is of another run (options.strict_input: False, not True)" in err
    assert output.read_bytes() == before


@pytest.mark.parametrize(
    ("changed", "told"),
    [
        ({"weights_sha256": "f" * 64}, "no longer serves"),
        ({"version": "1+int8.01234567", "precision": "int8"}, "no longer serves"),
        ({"precision": "bfloat16"}, "no longer computes in float32, but in bfloat16"),
    ],
)
def test_a_server_that_comes_back_with_another_model_ends_the_run(
    cxr: Cxr, fake: FakeServer, films: Path, tmp_path: Path, changed: dict[str, str], told: str
) -> None:
    def other(request: pb.PredictRequest) -> Any:
        answer: Any = default_answer(request)
        answer.model.MergeFrom(pb.Model(**changed))
        return answer

    fake.answer("Predict", other)
    output = tmp_path / "run.jsonl"
    status, _, err = cxr("predict", films, "--output", output)
    assert status == 1
    assert told in err
    assert rows_of(output) == []


def test_an_outage_ends_the_run_with_what_it_has(
    cxr: Cxr, fake: FakeServer, films: Path, tmp_path: Path
) -> None:
    gone = failure("UNAVAILABLE")
    fake.script(*[lambda context: None] * 10, *[gone] * 1000, rpc="Predict")
    output = tmp_path / "run.jsonl"
    status, _, err = cxr("predict", films, "--output", output, "--jobs", 1, "--outage", 0.5)
    assert status == 3
    assert "--resume continues the run" in err
    assert len(rows_of(output)) == 10


def test_two_images_with_the_same_bytes_have_two_rows_also_by_content(
    cxr: Cxr, fake: FakeServer, films: Path, tmp_path: Path
) -> None:
    (films / "copy.png").write_bytes((films / "p0" / "00.png").read_bytes())
    output = tmp_path / "run.jsonl"
    content = ("--key", "sha256")
    assert cxr("predict", films, "--output", output, *content)[0] == 0
    assert files_of(output) == named(films)
    moved = films.rename(tmp_path / "moved")
    os.utime(moved / "p0" / "00.png")
    fake.calls.clear()
    assert cxr("predict", moved, "--output", output, *content, "--resume")[0] == 0
    assert predicts(fake) == []
    (moved / "copy2.png").write_bytes((moved / "copy.png").read_bytes())
    assert cxr("predict", moved, "--output", output, *content, "--resume")[0] == 0
    assert len(predicts(fake)) == 1


def test_a_file_that_cannot_be_read_has_one_row_also_by_content(cxr: Cxr, tmp_path: Path) -> None:
    output = tmp_path / "run.jsonl"
    for resume in ([], ["--resume"], ["--resume"]):
        options = ["--output", output, "--key", "sha256", *resume]
        assert cxr("predict", tmp_path / "missing.png", *options)[0] == 1
    assert [row.get("reason") for row in rows_of(output)] == ["FILE_UNREADABLE"]


# --- which files ---


def test_a_file_that_is_named_twice_has_one_row(cxr: Cxr, films: Path, tmp_path: Path) -> None:
    output = tmp_path / "run.jsonl"
    assert cxr("predict", films, films / "p0" / "00.png", "--output", output)[0] == 0
    assert files_of(output) == named(films)
    output = tmp_path / "content.jsonl"
    options = ["--output", output, "--key", "sha256"]
    assert cxr("predict", films, films / "p0" / "00.png", *options)[0] == 0
    assert files_of(output) == named(films)


@pytest.mark.parametrize("end", [b"\n", b"\r\n", b"\0"])
def test_names_come_from_a_list(cxr: Cxr, films: Path, tmp_path: Path, end: bytes) -> None:
    listed = tmp_path / "list"
    listed.write_bytes(end.join(map(os.fsencode, named(films)[:20])) + end)
    output = tmp_path / "run.jsonl"
    assert cxr("predict", "--files-from", listed, "--output", output)[0] == 0
    assert files_of(output) == named(films)[:20]
    status, out, _ = cxr("predict", "--files-from", listed, "--json")
    assert status == 0
    assert [json.loads(line)["file"] for line in out.splitlines()] == named(films)[:20]


def test_names_come_from_standard_input(fake: FakeServer, films: Path, tmp_path: Path) -> None:
    output = tmp_path / "run.jsonl"
    running = process(fake, "--files-from", "-", "--output", output, stdin=subprocess.PIPE)
    running.communicate("\n".join(named(films)).encode(), timeout=60)
    assert running.returncode == 0
    assert files_of(output) == named(films)


def test_patterns_are_expanded_and_a_pattern_of_folders_searches_them(
    cxr: Cxr, films: Path, tmp_path: Path
) -> None:
    for number, pattern in enumerate((f"{films}/**/*.png", f"{films}/p?")):
        output = tmp_path / f"{number}.jsonl"
        assert cxr("predict", pattern, "--output", output)[0] == 0
        assert files_of(output) == named(films)


def test_linked_folders_are_searched_by_choice(cxr: Cxr, films: Path, tmp_path: Path) -> None:
    root = tmp_path / "root"
    root.mkdir()
    (root / "own.png").write_bytes(PNG)
    (root / "link").symlink_to(films)
    output = tmp_path / "run.jsonl"
    status, _, err = cxr("predict", root, "--output", output)
    assert (status, files_of(output)) == (0, [str(root / "own.png")])
    assert "1 linked folder" in err
    assert cxr("predict", root, "--output", output, "--resume", "--follow")[0] == 0
    assert len(files_of(output)) == 31


def test_names_that_are_not_utf_8_are_kept(cxr: Cxr, tmp_path: Path) -> None:
    film = os.fsencode(tmp_path) + b"/\xff.png"
    with open(film, "wb") as file:
        file.write(PNG)
    for output in (tmp_path / "run.csv", tmp_path / "run.parquet"):
        assert cxr("predict", tmp_path, "--output", output)[0] == 0
        assert [os.fsencode(name) for name in files_of(Path(f"{output}.jsonl"))] == [film]
        assert cxr("predict", tmp_path, "--output", output, "--resume")[0] == 0


def test_a_folder_without_images_is_an_error(cxr: Cxr, tmp_path: Path) -> None:
    (tmp_path / "notes.txt").write_text("text")
    status, _, err = cxr("predict", tmp_path, "--output", tmp_path / "run.jsonl")
    assert status == 2
    assert "no DICOM, PNG or JPEG files" in err


# --- tables ---


def test_a_long_csv_has_a_row_for_each_finding_in_the_order_of_the_names(
    cxr: Cxr, films: Path, tmp_path: Path
) -> None:
    output = tmp_path / "run.csv"
    assert cxr("predict", films, "--output", output)[0] == 0
    with output.open(newline="") as file:
        table = list(csv.DictReader(file))
    rows = sorted(rows_of(tmp_path / "run.csv.jsonl"), key=lambda row: row["file"])
    expected = [
        (row["file"], finding["label"], finding["score"], finding["above_threshold"])
        for row in rows
        if row["kind"] == "image"
        for finding in row["findings"]
    ]
    assert [
        (row["file"], row["label"], float(row["score"]), row["above_threshold"] == "true")
        for row in table
    ] == expected


def test_wide_tables_have_a_row_for_each_image(
    cxr: Cxr, fake: FakeServer, films: Path, tmp_path: Path
) -> None:
    fake.script(failure("INVALID_ARGUMENT", "IMAGE_UNREADABLE", "It is broken."), rpc="Predict")
    output = tmp_path / "run.csv"
    assert cxr("predict", films, "--output", output, "--wide")[0] == 1
    with output.open(newline="") as file:
        table = list(csv.DictReader(file))
    assert [row["file"] for row in table] == named(films)
    by_file = {row["file"]: row for row in rows_of(tmp_path / "run.csv.jsonl")}
    for record in table:
        row = by_file[record["file"]]
        if row["kind"] == "failure":
            assert record["reason"] == "IMAGE_UNREADABLE"
            continue
        for finding in row["findings"]:
            assert float(record[f"{finding['label']}_score"]) == finding["score"]
            assert float(record[f"{finding['label']}_probability"]) == finding["probability"]


@pytest.mark.parametrize("wide", [(), ("--wide",)])
def test_parquet_equals_csv_and_carries_the_header(
    cxr: Cxr, films: Path, tmp_path: Path, wide: tuple[str, ...]
) -> None:
    for name in ("run.csv", "run.parquet"):
        assert cxr("predict", films, "--output", tmp_path / name, *wide)[0] == 0
    with (tmp_path / "run.csv").open(newline="") as file:
        expected = list(csv.DictReader(file))
    table = pq.read_table(tmp_path / "run.parquet")
    assert table.schema.names == list(expected[0])
    for got, row in zip(table.to_pylist(), expected, strict=True):
        for name, text in row.items():
            if isinstance(got[name], bool):
                assert got[name] == (text == "true")
            elif isinstance(got[name], float):
                assert np.float32(got[name]) == np.float32(text)
            else:
                assert str("" if got[name] is None else got[name]) == text
    header = json.loads(table.schema.metadata[b"cxr-run"])
    assert header == Run.read(tmp_path / "run.parquet.jsonl").header


@pytest.mark.parametrize("start", ["=", "+", "-", "@", "\t"])
def test_a_name_that_a_spreadsheet_would_run_is_text(
    cxr: Cxr, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, start: str
) -> None:
    monkeypatch.chdir(tmp_path)
    name = f"{start}1+cmd.png"
    Path(name).write_bytes(PNG)
    Path("list").write_text(f"{name}\n")
    assert cxr("predict", "--files-from", "list", "--output", "run.csv")[0] == 0
    with Path("run.csv").open(newline="") as file:
        assert {row["file"] for row in csv.DictReader(file)} == {f"'{name}"}
    assert files_of(Path("run.csv.jsonl")) == [name]


def test_a_table_is_there_whole_or_not_at_all(
    cxr: Cxr, films: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    output = tmp_path / "run.csv"
    (tmp_path / "run.csv").mkdir()  # cannot be replaced by a file
    status, _, err = cxr("predict", films, "--output", output)
    assert status == 1
    assert "cannot write" in err
    assert names_in(tmp_path) == [
        *(f"films/{p.relative_to(films)}" for p in map(Path, named(films))),
        "run.csv.jsonl",
    ]
    output.rmdir()
    assert cxr("predict", films, "--output", output, "--resume")[0] == 0
    assert output.is_file()


# --- heatmaps, evidence, embeddings, names ---


def test_scores_and_heatmaps_come_from_one_call(
    cxr: Cxr, fake: FakeServer, films: Path, tmp_path: Path
) -> None:
    output, maps = tmp_path / "run.jsonl", tmp_path / "maps"
    assert cxr("predict", films, "--output", output, "--heatmaps", maps)[0] == 0
    assert [call.rpc for call in predicts(fake)] == ["Explain"] * 30
    rows = rows_of(output)
    pictures = sorted(str(row["heatmap"]) for row in rows if row["kind"] == "image")
    assert names_in(maps) == pictures
    assert len(set(pictures)) == 30
    assert pictures[0].startswith("p0/00.png-")


@pytest.mark.parametrize("names", [["films/*/*.png"], ["../films", "films"], ["films/p?"]])
def test_films_of_the_same_name_in_different_folders_have_names_and_heatmaps_of_their_own(
    cxr: Cxr, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, names: list[str]
) -> None:
    for number, folder in enumerate(("films/p0", "films/p1", "here/films/p0", "here/films/p1")):
        (tmp_path / folder).mkdir(parents=True)
        (tmp_path / folder / "1.png").write_bytes(PNG + bytes([number]))
    monkeypatch.chdir(tmp_path / "here")
    output, maps, secret = tmp_path / "run.jsonl", tmp_path / "maps", tmp_path / "secret"
    assert cxr("predict", *names, "--output", output, "--heatmaps", maps)[0] == 0
    count = len(rows_of(output))
    assert len({row.get("heatmap") for row in rows_of(output)}) == len(names_in(maps)) == count
    hashed = tmp_path / "hashed.jsonl"
    assert cxr("predict", *names, "--output", hashed, "--anonymous-names", secret)[0] == 0
    assert len(set(files_of(hashed))) == count == 2 * len(names)


def test_what_a_killed_run_left_unfinished_is_deleted(
    cxr: Cxr, films: Path, tmp_path: Path
) -> None:
    maps = tmp_path / "maps"
    (maps / "p1").mkdir(parents=True)
    left, others = maps / "p1" / ".cxr-0123.part", maps / ".cxr-4567.part"
    table = tmp_path / ".run.csv-0123.part"
    for file in (left, others, table):
        file.touch()
    os.utime(left, (1, 1))
    os.utime(others, (2**33, 2**33))  # of a run that goes on
    assert cxr("predict", films, "--output", tmp_path / "run.csv", "--heatmaps", maps)[0] == 0
    assert [file.exists() for file in (left, others, table)] == [False, True, False]
    assert len(list(maps.rglob("*.jpg"))) == 30


def test_the_evidence_of_every_finding_is_stored_and_one_is_drawn(
    cxr: Cxr, fake: FakeServer, films: Path, tmp_path: Path
) -> None:
    output, maps = tmp_path / "run.jsonl", tmp_path / "maps"
    options = ["--heatmaps", maps, "--evidence"]
    assert cxr("predict", films, "--output", output, *options)[0] == 2
    options += ["--heatmap-label", "Effusion"]
    assert cxr("predict", films, "--output", output, *options)[0] == 0
    labels = Run.read(output).header["labels"]
    for row in rows_of(output):
        assert row["kind"] == "image"
        assert list(row["evidence"]) == labels
        grid = row["evidence"][labels[0]]
        assert len(grid["values"]) == grid["rows"] * grid["columns"]
        assert str(row["heatmap"]).endswith("-Effusion.jpg")
    assert {tuple(call.request.heatmap_labels) for call in predicts(fake)} == {("Effusion",)}


def test_embeddings_lie_beside_the_journal_and_rows_name_them(
    cxr: Cxr, fake: FakeServer, films: Path, tmp_path: Path
) -> None:
    def answer(request: pb.PredictRequest) -> Any:
        response: Any = default_answer(request)
        response.embedding[:] = [float(request.image[8])] * 5
        return response

    fake.answer("Predict", answer)
    output = tmp_path / "run.jsonl"
    assert cxr("predict", films, "--output", output, "--embeddings")[0] == 0
    stored = np.load(Run.read(output).embeddings_path)
    assert stored.shape == (30, 5)
    for row in rows_of(output):
        assert row["kind"] == "image"
        assert set(stored[row["embedding"]]) == {float(Path(row["file"]).stem)}
    assert all(call.request.include_embedding for call in predicts(fake))


def test_a_model_without_embeddings_is_refused(
    cxr: Cxr, fake: FakeServer, films: Path, tmp_path: Path
) -> None:
    def answer(request: pb.PredictRequest) -> Any:
        response: Any = default_answer(request)
        del response.embedding[:]
        return response

    fake.answer("Predict", answer)
    status, _, err = cxr("predict", films, "--output", tmp_path / "r.jsonl", "--embeddings")
    assert status == 2
    assert "--embeddings" in err


def test_names_are_hashed_with_a_secret_everywhere(
    cxr: Cxr, fake: FakeServer, films: Path, tmp_path: Path
) -> None:
    (films / "Doe_John.png").write_bytes(PNG)
    output, maps, secret = tmp_path / "run.csv", tmp_path / "maps", tmp_path / "secret"
    fake.script(failure("INVALID_ARGUMENT", "IMAGE_UNREADABLE"), rpc="Explain")
    options = ["--heatmaps", maps, "--anonymous-names", secret]
    status, out, err = cxr("predict", films, "--output", output, *options)
    assert status == 1
    told = [output.read_text(), (tmp_path / "run.csv.jsonl").read_text(), out, err]
    for text in [*told, *names_in(maps)]:
        for part in ("Doe", "films", str(tmp_path), "/00.png", "p1/"):
            assert part not in text
    names = files_of(tmp_path / "run.csv.jsonl")
    assert len(set(names)) == 31
    assert len({name.partition("/")[0] for name in names if "/" in name}) == 3  # folders stay apart
    assert secret.stat().st_mode & 0o077 == 0
    assert cxr("predict", films, "--output", output, *options, "--resume")[0] == 1
    assert len(rows_of(tmp_path / "run.csv.jsonl")) == 31
    options[-1] = tmp_path / "another"
    status, _, err = cxr("predict", films, "--output", output, *options, "--resume")
    assert status == 2
    assert "anonymous_names" in err


# --- options ---


@pytest.mark.parametrize(
    ("options", "told"),
    [
        (["--output", "run.txt"], ".jsonl, .csv or .parquet"),
        (["--output", "run.jsonl", "--wide"], "--wide is for"),
        (["--output", "run.jsonl", "--json"], "--json"),
        (["--output", "run.jsonl", "--csv"], "--csv"),
        (["--output", "run.jsonl", "--top-k", "3"], "--top-k"),
        (["--output", "run.jsonl", "--by-study"], "--by-study"),
        (["--output", "run.jsonl", "--include-embedding"], "--embeddings"),
        (["--output", "run.jsonl", "--heatmap-label", "Mass"], "needs --heatmaps"),
        (["--output", "run.jsonl", "--heatmaps", "m", "--heatmap-label", "No"], "no finding"),
        (["--output", "run.jsonl", "--anonymous-names", "short"], "16 to 64 bytes"),
        (["--output", "missing/run.jsonl"], "No such file"),
        (["--resume"], "--resume needs --output"),
        (["--retry-failed"], "--retry-failed needs --output"),
        (["--output", "run.jsonl", "--retry-failed"], "--retry-failed needs --resume"),
        (["--embeddings"], "--embeddings needs --output"),
        (["--files-from", "missing"], "--files-from missing"),
    ],
)
def test_options_that_contradict_each_other_are_a_usage_error(
    cxr: Cxr,
    fake: FakeServer,
    films: Path,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    options: list[str],
    told: str,
) -> None:
    monkeypatch.chdir(tmp_path)
    Path("short").write_text("abc")
    status, _, err = cxr("predict", films, *options)
    assert status == 2
    assert told in err
    assert predicts(fake) == []


def test_parquet_without_its_library_is_refused_before_any_call(
    cxr: Cxr, fake: FakeServer, films: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name in ("pyarrow", "pyarrow.parquet"):
        monkeypatch.setitem(sys.modules, name, None)
    status, _, err = cxr("predict", films, "--output", tmp_path / "run.parquet")
    assert status == 2
    assert "pip install './client[parquet]'" in err
    assert predicts(fake) == []
    assert not (tmp_path / "run.parquet.jsonl").exists()


def test_standard_input_has_no_place_in_a_run(cxr: Cxr, tmp_path: Path) -> None:
    status, _, err = cxr("predict", "-", "--output", tmp_path / "run.jsonl")
    assert status == 2
    assert "--files-from -" in err


def test_nothing_to_read_is_a_usage_error(cxr: Cxr) -> None:
    for command in ("predict", "explain", "report"):
        status, _, err = cxr(command)
        assert status == 2
        assert "give a FILE, or --files-from" in err


# --- signals, kills, full disks ---


def test_a_run_leaves_the_cores_to_others(fake: FakeServer, films: Path, tmp_path: Path) -> None:
    hold = Hold()
    fake.script(hold, rpc="Predict")
    running = process(fake, films, "--output", tmp_path / "run.jsonl", "--jobs", 1)
    wait_until(lambda: len(predicts(fake)) == 1)
    assert os.getpriority(os.PRIO_PROCESS, running.pid) == 10
    hold.release()
    running.communicate(timeout=60)
    assert running.returncode == 0


def test_the_first_interrupt_lets_calls_end_and_takes_no_other(
    fake: FakeServer, films: Path, tmp_path: Path
) -> None:
    hold, output = Hold(), tmp_path / "run.csv"
    fake.script(*[hold] * 2, rpc="Predict")
    running = process(fake, films, "--output", output, "--jobs", 2)
    wait_until(lambda: len(predicts(fake)) == 2)
    running.send_signal(signal.SIGINT)
    assert running.stderr is not None
    assert b"waiting for the calls in flight" in running.stderr.readline()
    hold.release()
    _, err = running.communicate(timeout=60)
    assert running.returncode == 130
    assert b"--resume continues the run" in err
    assert len(rows_of(tmp_path / "run.csv.jsonl")) == 2
    assert not output.exists()
    assert finish(fake, films, "--output", output, "--resume") == 0
    assert files_of(tmp_path / "run.csv.jsonl") == named(films)
    assert output.exists()


def test_the_second_interrupt_ends_the_calls(fake: FakeServer, films: Path, tmp_path: Path) -> None:
    hold, output = Hold(), tmp_path / "run.jsonl"
    fake.script(*[lambda context: None] * 5, *[hold] * 50, rpc="Predict")
    running = process(fake, films, "--output", output, "--jobs", 1)
    wait_until(lambda: len(predicts(fake)) == 6)
    running.send_signal(signal.SIGINT)
    assert running.stderr is not None
    assert b"waiting" in running.stderr.readline()
    running.send_signal(signal.SIGINT)
    running.communicate(timeout=60)
    assert running.returncode == 130
    assert len(rows_of(output)) == 5
    hold.release()


def test_sigterm_drains_as_well(fake: FakeServer, films: Path, tmp_path: Path) -> None:
    hold, output = Hold(), tmp_path / "run.jsonl"
    fake.script(hold, rpc="Predict")
    running = process(fake, films, "--output", output, "--jobs", 1)
    wait_until(lambda: len(predicts(fake)) == 1)
    running.terminate()
    assert running.stderr is not None
    assert b"waiting" in running.stderr.readline()
    hold.release()
    running.communicate(timeout=60)
    assert running.returncode == 128 + signal.SIGTERM
    assert len(rows_of(output)) == 1


def test_a_killed_run_is_resumed_without_losing_or_repeating_a_row(
    fake: FakeServer, films: Path, tmp_path: Path
) -> None:
    output = tmp_path / "run.jsonl"
    for life in range(3):
        hold, before = Hold(), len(predicts(fake))
        fake.script(*[lambda context: None] * 6, *[hold] * 2, rpc="Predict")
        resume = ["--resume"] if life else []
        running = process(fake, films, "--output", output, "--jobs", 2, *resume)
        wait_until(lambda: len(predicts(fake)) == before + 8)  # noqa: B023 -- called here
        wait_until(lambda: len(rows_of(output)) == 6 * (life + 1))  # noqa: B023 -- called here
        running.kill()
        running.communicate(timeout=60)
        hold.release()
        with output.open("ab") as file:
            file.write(b'{"kind":"image","file":"torn')
    assert finish(fake, films, "--output", output, "--resume") == 0
    assert files_of(output) == named(films)


def test_a_full_disk_ends_the_run_with_an_intact_journal(
    fake: FakeServer, films: Path, tmp_path: Path
) -> None:
    output = tmp_path / "run.jsonl"

    # A limit on the size of files fails in the same place as a full disk.
    limited = ["bash", "-c", 'ulimit -f 12; exec "$@"', "bash", *CXR]
    running = process(fake, films, "--output", output, program=limited)
    _, err = running.communicate(timeout=60)
    assert running.returncode == 1
    assert b"cannot write" in err
    assert b"--resume continues the run" in err
    assert output.read_bytes().endswith(b"}\n")
    assert 0 < len(rows_of(output)) < 30
    assert finish(fake, films, "--output", output, "--resume") == 0
    assert files_of(output) == named(films)


def test_a_second_run_on_the_same_journal_is_refused(
    fake: FakeServer, films: Path, tmp_path: Path
) -> None:
    hold, output = Hold(), tmp_path / "run.jsonl"
    fake.script(hold, rpc="Predict")
    running = process(fake, films, "--output", output, "--jobs", 1)
    assert hold.wait_entered(60)
    env = {**os.environ, "CXR_SERVER": fake.address}
    second = cxr_process("predict", films, "--output", output, "--resume", env=env)
    assert second.returncode == 2
    assert b"being written by another run" in second.stderr
    hold.release()
    running.communicate(timeout=60)
    assert running.returncode == 0
    assert files_of(output) == named(films)
