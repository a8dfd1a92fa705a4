"""Processes that a process has started, by what /proc says of them."""

import time
from collections.abc import Callable, Iterator
from contextlib import suppress
from pathlib import Path


def descendants(process: int) -> list[int]:
    """Process ids of all that a process has started, and those of theirs."""
    return list(_below(process))


def is_running(process: int) -> bool:
    """Whether a process exists; a zombie does."""
    return Path(f"/proc/{process}").exists()


def is_zombie(process: int) -> bool:
    with suppress(OSError):
        return Path(f"/proc/{process}/stat").read_text().rpartition(")")[2].split()[0] == "Z"
    return False


def wait_until(condition: Callable[[], bool], seconds: float = 60) -> None:
    until = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < until, "it did not happen in time"
        time.sleep(0.01)


def _below(process: int) -> Iterator[int]:
    with suppress(OSError):
        for file in Path(f"/proc/{process}/task").glob("*/children"):
            for child in file.read_text().split():
                yield int(child)
                yield from _below(int(child))
