"""What processes that come and go have taken, and how late the event loop runs."""

import asyncio
import itertools
import os
import subprocess
import sys
import time
from concurrent.futures import ThreadPoolExecutor

import pytest

from cxr_server.observability import processes
from cxr_server.observability.event_loop import INTERVAL_S, LoopWatch
from cxr_server.observability.processes import Usages


def test_the_time_of_a_process_that_has_ended_is_kept() -> None:
    usages, own = Usages(), os.getpid()
    work = "sum(range(10**6)); print(flush=True); input()"
    with subprocess.Popen(
        [sys.executable, "-c", work], stdin=subprocess.PIPE, stdout=subprocess.PIPE
    ) as child:
        assert child.stdout is not None
        child.stdout.readline()
        alone = Usages().read([own])
        both = usages.read([own, child.pid])
        assert both.memory_bytes > alone.memory_bytes > 2**20
        assert both.cpu_s >= alone.cpu_s > 0
        child.communicate(b"\n")
    ended = usages.read([own, child.pid])
    assert ended.cpu_s >= both.cpu_s
    assert usages.read([]).cpu_s >= ended.cpu_s
    assert usages.read([]).memory_bytes == 0


def test_time_never_runs_back_for_several_readers(monkeypatch: pytest.MonkeyPatch) -> None:
    ticks = itertools.count()

    def cpu_s(_: int) -> float:
        seconds = float(next(ticks))
        time.sleep(0.0005)  # lets another reader go first
        return seconds

    monkeypatch.setattr(processes, "_cpu_s", cpu_s)
    usages, pid = Usages(), os.getpid()
    with ThreadPoolExecutor(4) as readers:
        read = list(readers.map(lambda _: usages.read([pid]).cpu_s, range(100)))
    assert max(read) <= 99
    assert usages.read([pid]).cpu_s <= 100


async def test_a_loop_that_is_held_up_is_seen() -> None:
    lags_s: list[float] = []
    watch = LoopWatch(lags_s.append)
    assert not watch.is_stuck  # not watched
    watch.start()
    time.sleep(3 * INTERVAL_S)  # what no coroutine may do
    while not lags_s:
        await asyncio.sleep(0.01)
    watch.stop()
    assert lags_s[0] > INTERVAL_S
    assert not watch.is_stuck
