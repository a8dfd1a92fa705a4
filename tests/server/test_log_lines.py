"""The queue of log lines: what is written, dropped, counted and told."""

import os
import threading
from collections.abc import Iterator
from contextlib import suppress

import pytest

from cxr_server.observability.log_lines import MAX_QUEUED_BYTES, LogLines

LINE = "x" * 1000
TOO_MANY = 3 * MAX_QUEUED_BYTES // len(LINE)


def told(count: int) -> str:
    return f"{count} lost"


@pytest.fixture
def pipe() -> Iterator[tuple[int, int]]:
    ends = os.pipe()
    yield ends
    for end in ends:
        with suppress(OSError):
            os.close(end)


def read_until(descriptor: int, end: str) -> list[str]:
    text = ""
    while not text.endswith(end + "\n"):
        text += os.read(descriptor, 65_536).decode()
    return text.splitlines()


def test_lines_are_written_in_order(pipe: tuple[int, int]) -> None:
    lines = LogLines(pipe[1], told)
    for number in range(100):
        lines.put(f"line {number}")
    assert read_until(pipe[0], "line 99") == [f"line {number}" for number in range(100)]
    assert lines.dropped == 0


def test_a_pipe_that_nobody_reads_costs_lines_and_says_how_many_once_it_is_read(
    pipe: tuple[int, int],
) -> None:
    lines = LogLines(pipe[1], told)
    for _ in range(TOO_MANY):
        lines.put(LINE)
    lost = lines.dropped
    assert 0 < lost < TOO_MANY
    lines.flush(0.01)  # gives up
    received = read_until(pipe[0], told(lost))
    assert received == [LINE] * (TOO_MANY - lost) + [told(lost)]
    lines.put("back")
    assert read_until(pipe[0], "back") == ["back"]
    assert lines.dropped == lost


def test_a_reader_that_has_gone_costs_every_line(pipe: tuple[int, int]) -> None:
    os.close(pipe[0])
    lines = LogLines(pipe[1], told)
    for _ in range(10):
        lines.put(LINE)
    lines.flush(60)
    assert lines.dropped == 10


def test_a_closed_descriptor_costs_every_line() -> None:
    lines = LogLines(-1, told)
    lines.put(LINE)
    lines.flush(60)
    assert lines.dropped == 1


def test_a_pipe_that_others_made_non_blocking_loses_nothing(pipe: tuple[int, int]) -> None:
    os.set_blocking(pipe[1], False)
    lines = LogLines(pipe[1], told)
    for _ in range(200):  # more than a pipe holds
        lines.put(LINE)
    lines.put("end")
    assert read_until(pipe[0], "end") == [LINE] * 200 + ["end"]
    assert lines.dropped == 0


def test_many_threads_lose_no_line_and_mix_none(pipe: tuple[int, int]) -> None:
    lines = LogLines(pipe[1], told)
    writers = [
        threading.Thread(target=lambda name=name: [lines.put(name * 50) for _ in range(500)])
        for name in "abcd"
    ]
    for writer in writers:
        writer.start()
    received: list[str] = []
    while len(received) < 4 * 500:
        received += read_until(pipe[0], "")
    assert sorted(received) == sorted(name * 50 for name in "abcd" for _ in range(500))
    for writer in writers:
        writer.join()


def test_text_that_utf_8_cannot_hold_is_escaped(pipe: tuple[int, int]) -> None:
    LogLines(pipe[1], told).put("file \udcff")
    assert read_until(pipe[0], "") == ["file \\udcff"]
