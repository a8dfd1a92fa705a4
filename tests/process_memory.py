"""The memory of a server: of its process and of all that it has started."""

import re
import threading
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path


def pss_mib(process: int) -> float:
    """Proportional set size of a process and its descendants, MiB."""
    return sum(_pss_kib(each) for each in _tree(process)) / 1024


@contextmanager
def peak_pss(process: int) -> Iterator[list[float]]:
    """Sample while the block runs; the list holds the highest value, MiB."""
    peak, ended = [0.0], threading.Event()

    def sample() -> None:
        while not ended.wait(0.02):
            peak[0] = max(peak[0], pss_mib(process))

    sampler = threading.Thread(target=sample)
    sampler.start()
    try:
        yield peak
    finally:
        ended.set()
        sampler.join()
        peak[0] = max(peak[0], pss_mib(process))


def _tree(process: int) -> Iterator[int]:
    yield process
    with suppress(OSError):
        for file in Path(f"/proc/{process}/task").glob("*/children"):
            for child in file.read_text().split():
                yield from _tree(int(child))


def _pss_kib(process: int) -> int:
    with suppress(OSError):  # it has ended
        rollup = Path(f"/proc/{process}/smaps_rollup").read_text()
        found = re.search(r"^Pss:\s+(\d+)", rollup, re.MULTILINE)
        return int(found[1]) if found else 0
    return 0
