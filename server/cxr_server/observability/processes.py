"""Processes: what memory and CPU time other processes take, read from /proc."""

import os
import re
import threading
from collections.abc import Iterable
from contextlib import suppress
from pathlib import Path
from typing import NamedTuple

_TICKS = os.sysconf("SC_CLK_TCK")
_PSS = re.compile(r"^Pss:\s+(\d+) kB", re.MULTILINE)


class Usage(NamedTuple):
    """Memory, shared pages divided among those that share them, and CPU time so far."""

    memory_bytes: int
    cpu_s: float


class Usages:
    """Sums over processes that come and go. For any thread."""

    def __init__(self) -> None:
        self._ended_s = 0.0
        self._seen_s: dict[int, float] = {}
        self._lock = threading.Lock()

    def read(self, pids: Iterable[int]) -> Usage:
        """Return the memory of these processes, and the CPU time of all that were ever given.

        Of a process that has ended, the time after it was last seen is missing.
        """
        with self._lock:  # all of it: an older reading would look like another process
            memory_bytes, now_s = 0, {}
            for pid in pids:
                with suppress(OSError):  # it has ended
                    memory_bytes += _memory_bytes(pid)
                    now_s[pid] = _cpu_s(pid)
            for pid, seconds in self._seen_s.items():
                if now_s.get(pid, -1.0) < seconds:  # gone, or another process with its number
                    self._ended_s += seconds
            self._seen_s = now_s
            return Usage(memory_bytes, self._ended_s + sum(now_s.values()))


def _memory_bytes(pid: int) -> int:
    found = _PSS.search(Path(f"/proc/{pid}/smaps_rollup").read_text())
    return 1024 * int(found[1]) if found else 0


def _cpu_s(pid: int) -> float:
    # After the name, which may hold anything: fields 14 and 15 of proc(5) are user and system time.
    fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
    return (int(fields[11]) + int(fields[12])) / _TICKS
