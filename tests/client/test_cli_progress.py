"""The progress line and the summary of `cxr`."""

import io
import os
import pty
import subprocess
import sys
import termios
import time
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from pathlib import Path

import grpc
import pytest

from clients import PNG
from cxr_client.cli.bulk.meter import Meter
from cxr_client.testing import FakeServer, failure
from cxr_command import CXR, Run

ERASE = "\x1b[K"


def many(folder: Path, count: int) -> Path:
    folder.mkdir()
    for number in range(count):
        (folder / f"{number:02}.png").write_bytes(PNG)
    return folder


def slowly(_: grpc.ServicerContext) -> None:
    time.sleep(0.05)


def on_a_terminal(*argv: object) -> tuple[str, bytes]:
    """Run `cxr` with standard error on a terminal; return what was drawn there, and the output."""
    ours, theirs = pty.openpty()
    termios.tcsetwinsize(theirs, (24, 120))
    words = [*CXR, *map(str, argv)]
    with ThreadPoolExecutor(1) as threads:
        drawing = threads.submit(read_all, ours)  # a terminal holds 4 KiB only
        done = subprocess.run(words, stdout=subprocess.PIPE, stderr=theirs, timeout=100)
        os.close(theirs)
        drawn = drawing.result(60).decode()
    os.close(ours)
    return drawn, done.stdout


def read_all(terminal: int) -> bytes:
    data = b""
    with suppress(OSError):  # EIO, once nobody has it open
        while part := os.read(terminal, 65536):
            data += part
    return data


def test_the_progress_line_stays_and_tells_the_rate_and_the_time_left(
    fake: FakeServer, tmp_path: Path
) -> None:
    fake.script(*[slowly] * 34)
    films = many(tmp_path / "films", 34)
    drawn, out = on_a_terminal("predict", "--json", "--server", fake.address, films)
    lines = drawn.split("\r")
    assert lines[1].startswith("0/34 images")
    assert any("/s, " in line and line.endswith(f" left{ERASE}") for line in lines)
    # Nothing is printed in between: the line is overwritten and not erased until the end.
    assert lines.count(ERASE) <= 2
    assert lines[-2].endswith(ERASE + "34 answered in 1 s") or "34 answered in" in drawn
    assert len(out.splitlines()) == 34


@pytest.mark.slow
def test_failures_are_printed_above_the_progress_line_and_counted_in_it(
    fake: FakeServer, tmp_path: Path
) -> None:
    bad = failure(grpc.StatusCode.INVALID_ARGUMENT, "IMAGE_UNREADABLE", message="It is broken.")
    fake.script(slowly, bad, *[slowly] * 32)
    films = many(tmp_path / "films", 34)
    drawn, _ = on_a_terminal("predict", "--jobs", 1, "--csv", "--server", fake.address, films)
    assert f"\r{ERASE}cxr: {films}/01.png: It is broken. [IMAGE_UNREADABLE" in drawn
    assert "/34 images, 1 failed, " in drawn
    assert "33 answered, 1 failed in " in drawn


def test_there_is_no_progress_line_in_a_file(fake: FakeServer, tmp_path: Path) -> None:
    films = many(tmp_path / "films", 5)
    command = [*CXR, "predict", "--json", "--server", fake.address, str(films)]
    done = subprocess.run(command, capture_output=True, timeout=100, check=True, text=True)
    (summary,) = done.stderr.splitlines()
    assert summary.startswith("5 answered in ")


def test_quiet_prints_neither_progress_nor_summary(fake: FakeServer, tmp_path: Path) -> None:
    films = many(tmp_path / "films", 5)
    command = ["predict", "--json", "--server", fake.address, films]
    drawn, out = on_a_terminal(*command)
    assert "5 answered" in drawn
    done = subprocess.run(
        [*CXR, *map(str, command), "-q"], capture_output=True, timeout=100, check=True
    )
    assert done.stderr == b""
    assert len(done.stdout.splitlines()) == len(out.splitlines()) == 5


def test_the_summary_counts_answers_failures_and_what_was_skipped(
    cxr: Run, fake: FakeServer, folder: Path
) -> None:
    bad = failure(grpc.StatusCode.INVALID_ARGUMENT, "IMAGE_UNREADABLE", message="It is broken.")
    fake.script(bad)
    status, _, err = cxr("predict", "--jobs", 1, folder)
    assert status == 1
    summary = err.splitlines()[-1]
    assert summary.startswith("3 answered, 1 failed in ")
    assert summary.endswith("; skipped: 1 DICOM report, 1 other file")


@pytest.mark.slow
def test_a_run_over_folders_has_a_bar_with_the_rate_and_failures(
    fake: FakeServer, tmp_path: Path
) -> None:
    bad = failure(grpc.StatusCode.INVALID_ARGUMENT, "IMAGE_UNREADABLE", message="It is broken.")
    fake.script(*[slowly] * 3, bad, *[slowly] * 30, rpc="Predict")
    films, output = many(tmp_path / "films", 34), tmp_path / "run.jsonl"
    options = ["--output", output, "--jobs", 1, "--server", fake.address]
    drawn, out = on_a_terminal("predict", films, *options)
    assert out == b""
    assert "/34 [" in drawn
    assert "image/s, 1 failed]" in drawn
    assert "It is broken. [IMAGE_UNREADABLE]" in drawn
    assert "33 answered, 1 failed in" in drawn


def test_a_quiet_run_over_folders_prints_failures_alone(
    cxr: Run, fake: FakeServer, tmp_path: Path
) -> None:
    bad = failure(grpc.StatusCode.INVALID_ARGUMENT, "IMAGE_UNREADABLE", message="It is broken.")
    fake.script(*[bad] * 25, rpc="Predict")
    films, output = many(tmp_path / "films", 34), tmp_path / "run.jsonl"
    status, out, err = cxr("predict", films, "--output", output, "--quiet")
    assert (status, out) == (1, "")
    lines = err.splitlines()
    assert [line.endswith("[IMAGE_UNREADABLE]") for line in lines] == [True] * 20 + [False]
    assert lines[-1] == "cxr: further failures are only in the journal"


def test_a_run_over_folders_tells_of_an_outage(cxr: Run, fake: FakeServer, tmp_path: Path) -> None:
    fake.script(*[failure("UNAVAILABLE")] * 3, rpc="Predict")
    films, output = many(tmp_path / "films", 3), tmp_path / "run.jsonl"
    status, _, err = cxr("predict", films, "--output", output, "--jobs", 1)
    assert status == 0
    assert err.count("trying again") == 1


def test_a_run_over_folders_prints_a_line_a_minute_where_there_is_no_terminal(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    now_s = 1000.0
    monkeypatch.setattr(time, "monotonic", lambda: now_s)
    meter = Meter(done=40, failed=1, quiet=False)
    for _ in range(120):
        now_s += 1
        meter.answered()
        if meter.done == 120:
            meter.total = 400
    meter.close()
    monkeypatch.undo()
    assert capsys.readouterr().err.splitlines() == [
        "cxr: 100 images, 1 failed, 1.0/s",
        "cxr: 160 of 400 images, 1 failed, 1.0/s, 4:00 left",
    ]


def test_a_run_over_folders_draws_a_bar_with_its_failures_on_a_terminal(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    screen = io.StringIO()
    monkeypatch.setattr(screen, "isatty", lambda: True)
    monkeypatch.setattr(sys, "stderr", screen)
    meter = Meter(done=1, failed=0, quiet=False)
    meter.total = 4
    meter.failure("b.png", "IMAGE_UNREADABLE", "It is broken.")
    time.sleep(0.2)  # It is drawn ten times a second at most.
    meter.answered()
    meter.close()
    shown = screen.getvalue()
    assert "3/4 [" in shown
    assert "image/s, 1 failed]" in shown
    assert "cxr: b.png: It is broken. [IMAGE_UNREADABLE]\n" in shown
