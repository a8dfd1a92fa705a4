"""How glibc keeps the memory of a server."""

import asyncio
import re
import subprocess
import sys

import pytest

from cxr_server.admission import Admission
from cxr_server.idle import give_back_memory
from cxr_server.inference import allocator
from cxr_server.inference.allocator import MAX_ARENAS

PROGRAM = """
import ctypes, threading
from cxr_server.inference import allocator
allocator.keep_freed_memory()
together = threading.Barrier(24)
def work():
    together.wait()
    kept = [bytes(10_000) for _ in range(200)]
    together.wait()
threads = [threading.Thread(target=work) for _ in range(24)]
for each in threads: each.start()
for each in threads: each.join()
libc = ctypes.CDLL(None)
libc.malloc_info(0, ctypes.c_void_p.in_dll(libc, "stdout"))
libc.fflush(None)
"""


def test_threads_share_few_heaps_so_that_little_freed_memory_stays_in_each() -> None:
    done = subprocess.run(
        [sys.executable, "-c", PROGRAM], capture_output=True, text=True, timeout=60, check=True
    )
    heaps = re.findall(r"<heap nr=", done.stdout)
    assert 1 <= len(heaps) <= MAX_ARENAS + 1


HOLES = """
import re
from pathlib import Path
from cxr_server.inference import allocator
def held_mib():
    return int(re.search(r"VmRSS:\\s+(\\d+)", Path("/proc/self/status").read_text())[1]) / 1024
allocator.keep_freed_memory()
before = held_mib()
blocks = [bytearray(2**18 + 2**10 * (each % 3)) for each in range(800)]
kept = [bytearray(2**16) for _ in range(2)]
pinned = blocks[::20]
blocks = None
left = held_mib()
allocator.give_back()
print(before, left, held_mib())
"""


def test_memory_that_is_free_between_used_blocks_is_given_back() -> None:
    done = subprocess.run(
        [sys.executable, "-c", HOLES], capture_output=True, text=True, timeout=60, check=True
    )
    before, left, given_back = map(float, done.stdout.split())
    assert left > before + 150
    assert given_back < before + 50


async def test_memory_is_given_back_once_in_each_pause_and_never_during_a_call(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    given_back = asyncio.Semaphore(0)
    loop = asyncio.get_running_loop()
    monkeypatch.setattr(
        allocator, "give_back", lambda: loop.call_soon_threadsafe(given_back.release)
    )
    admission = Admission(
        most_calls=lambda: 1, max_bytes=100, max_request_bytes=100, retry_after_ms=lambda: 1
    )
    pauses: list[int] = []
    idle = asyncio.create_task(
        give_back_memory(admission, lambda: pauses.append(admission.calls), idle_s=0.001)
    )
    for _ in range(2):
        await asyncio.wait_for(given_back.acquire(), 60)
        slot = admission.enter("10")
        await asyncio.sleep(0.05)
        assert given_back.locked()
        slot.release()
    await asyncio.wait_for(given_back.acquire(), 60)
    await asyncio.sleep(0.05)
    assert given_back.locked()
    assert 1 <= len(pauses) <= 3  # none where a call has come meanwhile
    assert not any(pauses)
    idle.cancel()
