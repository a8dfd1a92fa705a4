"""Core speed: whether the cores run at full speed.

On a shared host Python takes 1.7 times as long for seconds or hours, and an engine's matrix
products 1.1 times, probably while another tenant uses the second thread of a physical core. It is
processor time, so that no account of the kernel shows it. A short loop of Python does.
"""

import math
import os
import statistics
import threading
import time
from collections.abc import Hashable
from typing import Any

LOOP_COUNT = 60_000  # about 3 ms
FULL_SPEED = 1.15
"""The most that a loop may take, of the fastest one, for its core to run at full speed."""
LEAST_WINDOWS = 4
"""At full speed, for the others of a cell not to count."""
PATIENCE = 4
"""Factor on the number of turns, while cores are slow."""

Window = dict[str, Any]
Turns = dict[Hashable, Window]
"""The windows of a cell by their turns."""


class CoreSpeed:
    """Times a short loop of Python, of which the fastest one so far took `fastest_ms`."""

    def __init__(self, fastest_ms: float = math.inf) -> None:
        self.fastest_ms = fastest_ms

    def slowdown(self) -> float:
        """Return how much longer a loop takes on the slowest usable core than the fastest one."""
        found_ms: list[float] = []
        for core in sorted(os.sched_getaffinity(0)):
            thread = threading.Thread(target=_time_on, args=(core, found_ms))
            thread.start()
            thread.join()
        self.fastest_ms = min(self.fastest_ms, *found_ms)
        return max(found_ms) / self.fastest_ms


def _time_on(core: int, found_ms: list[float]) -> None:
    os.sched_setaffinity(0, {core})  # of this thread
    taken_ms = []
    for _ in range(2):  # the first one may find cold caches
        begun_s = time.thread_time()
        total = 0
        for number in range(LOOP_COUNT):
            total += number * number % 7
        taken_ms.append(1000 * (time.thread_time() - begun_s))
    found_ms.append(min(taken_ms))


def at_full_speed(windows: list[Window]) -> list[Window]:
    """Return those of which no core was slow before or after.

    All of a run that did not look (before 2026-11-27).
    """
    return [each for each in windows if each.get("slowdown", 1.0) <= FULL_SPEED]


def counted(windows: list[Window]) -> list[Window]:
    """Return those that count: at full speed, or all of a cell with few such."""
    fast: dict[tuple[str, ...], list[Window]] = {}
    for each in at_full_speed(windows):
        fast.setdefault(cell_of(each), []).append(each)
    enough = {cell for cell, kept in fast.items() if len(kept) >= LEAST_WINDOWS}
    return [each for each in windows if cell_of(each) not in enough or at_full_speed([each])]


def beside(own: Turns, other: Turns, what: str) -> list[tuple[float, float]]:
    """Return a number of each window that counts, and that of another cell to take off it.

    At full speed the latter is the median of that cell. Else all windows count, each with the one
    of the same turn, which has met the same noise.
    """
    fast_own, fast_other = (at_full_speed([*each.values()]) for each in (own, other))
    if min(len(fast_own), len(fast_other)) >= LEAST_WINDOWS:
        middle = statistics.median(each[what] for each in fast_other)
        return [(each[what], middle) for each in fast_own]
    return [(each[what], other[turn][what]) for turn, each in own.items() if turn in other]


def cell_of(window: Window) -> tuple[str, ...]:
    """Return what tells a window's cell from others: kind, method and system."""
    return window["kind"], window["method"], window["system"]
