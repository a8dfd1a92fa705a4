"""Which windows count: those in which every core ran at full speed, where there are enough."""

import os
from typing import Any

from benchmarks.core_speed import LEAST_WINDOWS, CoreSpeed, at_full_speed, beside, counted


def window(slowdown: float, system: str = "cxr-serve") -> dict[str, Any]:
    return {"kind": "PNG", "method": "predict", "system": system, "slowdown": slowdown}


def test_a_loop_is_timed_on_every_core_and_the_thread_that_asks_stays_free() -> None:
    cores, speed = os.sched_getaffinity(0), CoreSpeed()
    assert speed.slowdown() >= 1
    assert 0 < speed.fastest_ms < 1000
    assert os.sched_getaffinity(0) == cores


def test_a_loop_is_compared_with_the_fastest_one_so_far() -> None:
    speed = CoreSpeed(fastest_ms=1e-6)
    assert speed.slowdown() > 1000
    assert speed.fastest_ms == 1e-6


def test_the_slow_windows_of_a_cell_count_only_while_few_are_fast() -> None:
    fast, slow = [window(1 + each / 100) for each in range(LEAST_WINDOWS)], window(1.6)
    assert counted([*fast, slow]) == fast
    assert counted([*fast[1:], slow]) == [*fast[1:], slow]
    of_another = [window(1.6, "bare server"), window(1.0, "bare server")]
    assert counted([*fast, slow, *of_another]) == [*fast, *of_another]


def test_all_windows_of_a_run_that_did_not_look_count() -> None:
    old = {"kind": "PNG", "method": "predict", "system": "cxr-serve"}
    assert at_full_speed([old, old]) == counted([old, old]) == [old, old]


def test_windows_at_full_speed_are_compared_with_the_median_and_others_turn_by_turn() -> None:
    count = LEAST_WINDOWS
    own = {turn: window(1.0) | {"cpu_ms": 10.0 + turn} for turn in range(count)}
    other = {turn: window(1.0) | {"cpu_ms": 2.0 + turn} for turn in range(count)}
    own[count], other[count] = (window(1.7) | {"cpu_ms": ms} for ms in (30.0, 9.0))
    middle = 2.0 + (count - 1) / 2
    assert beside(own, other, "cpu_ms") == [(10.0 + turn, middle) for turn in range(count)]
    other[0]["slowdown"] = 1.7
    by_turn = [(10.0 + turn, 2.0 + turn) for turn in range(count)]
    assert beside(own, other, "cpu_ms") == [*by_turn, (30.0, 9.0)]
