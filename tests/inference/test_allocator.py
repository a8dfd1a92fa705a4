"""How glibc keeps the memory of a server."""

import re
import subprocess
import sys

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
