"""Memory: of a server whose callers send large files, and of one that decodes in threads.

What a server may take is its memory budget, which by default is half of the machine's memory. One
is therefore measured with the budget that is advised for two cores, and one with the default.
"""

import time
from concurrent.futures import ThreadPoolExecutor
from functools import partial
from pathlib import Path
from typing import Any

from benchmarks import systems
from benchmarks.radiographs import Kind, encoded
from benchmarks.systems import Running, System

SAMPLE_S = 0.25


def measured(bundle: Path, kind: Kind, callers: int, settings: dict[str, Any]) -> dict[str, Any]:
    """Return all results, by their names in a run's."""
    return {
        "memory_under_load": under_load(systems.OURS, bundle, kind, callers, settings),
        "memory_in_budget": under_load(systems.OURS_IN_BUDGET, bundle, kind, callers, settings),
        "memory_in_threads_mib": in_threads_mib(bundle),
    }


def under_load(
    system: System, bundle: Path, kind: Kind, callers: int, settings: dict[str, Any]
) -> dict[str, Any]:
    """Send large images from many callers to a new server, and return its peak memory.

    Pages that its processes share, such as files on their way to a decoder, count once (PSS).
    """
    with Running(system, bundle) as server, ThreadPoolExecutor(1) as measuring:
        samples_mib = [server.memory_mib()["pss"]]
        call = {"kind": kind.name, "method": "predict", "callers": callers, **settings}
        load = measuring.submit(partial(server.measure, **call))
        while not load.done():
            time.sleep(SAMPLE_S)
            samples_mib.append(server.memory_mib()["pss"])
        return {
            "callers": callers,
            "seconds": settings["seconds"],
            "file_bytes": len(encoded(kind)),
            "before_mib": samples_mib[0],
            "after_mib": samples_mib[-1],
            "peak_mib": max(samples_mib),
            **load.result(),
        }


def in_threads_mib(bundle: Path) -> dict[str, float]:
    """Return the memory of a new server that decodes in threads."""
    with Running(systems.OURS_IN_THREADS, bundle) as server:
        return server.memory_mib()
