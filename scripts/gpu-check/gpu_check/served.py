"""Step 5: the server over gRPC under load: as it is, with other engines, several on one card."""

import sys
import time
from contextlib import ExitStack

from benchmarks.processes import Worker
from benchmarks.radiographs import Kind
from benchmarks.systems import Running

from benchmarks import many_callers
from gpu_check import load
from gpu_check.assets import JPEG, PNG, bundle_path
from gpu_check.common import CPU, Attempts, record

SECONDS = 0.5 if CPU else 3.0
MOST = 4 if CPU else 256
VARIANTS = {
    "null": "an engine that costs nothing: the front end alone",
    "search": "cuDNN's search of kernels",
}
Loads = list[tuple[str, Kind, int]]
"""Method, kind of image, concurrent calls."""
LOADS: Loads = (
    [("predict", PNG, 1), ("explain", PNG, 4), ("predict", JPEG, 1)]
    if CPU
    else [
        *(("predict", PNG, callers) for callers in (1, 4, 16, 64, 256)),
        *(("explain", PNG, callers) for callers in (1, 64, 256)),
        *(("predict", JPEG, callers) for callers in (1, 16, 64)),
        ("explain", JPEG, 64),
    ]
)
attempts = Attempts("served")


def measure(section: str, servers: list[Running], extra: list[Worker], loads: Loads) -> None:
    """Measure the servers under each load."""
    for method, kind, callers in loads:
        name = f"{method} {kind.name} {callers}"
        if attempts.has_time(f"{section}: {name}", SECONDS + 4):
            with attempts.part(f"{section}: {name}"):
                result = load.measure(
                    servers, extra, method=method, kind=kind.name, callers=callers, seconds=SECONDS
                )
                record(section, name, result)


def one(name: str, variant: str, extra: list[Worker], loads: Loads) -> None:
    """Start one server and measure it."""
    with attempts.part(name), load.server(bundle_path(), name, variant=variant) as running:
        section = f"served, {name}"
        start = {"s": round(running.started_s, 2), "card MiB": load.card_memory_mib()}
        record(section, "start", start | running.memory_mib())
        measure(section, [running], extra, loads)
        record(section, "end", {"card MiB": load.card_memory_mib()} | running.memory_mib())


def several(count: int, extra: list[Worker]) -> None:
    """Start servers that share the card: what several front-end processes would reach."""
    with attempts.part(f"{count} servers"), ExitStack() as stack:
        started = time.monotonic()
        servers = [
            load.server(bundle_path(), f"{n} of {count}", "--decode-threads", "2", variant="none")
            for n in range(count)
        ]
        many_callers.start_all(stack, servers)
        section = f"served, {count} servers"
        start_s = round(time.monotonic() - started, 1)
        record(section, "start", {"s": start_s, "card MiB": load.card_memory_mib()})
        loads = [("predict", PNG, MOST), ("explain", PNG, MOST), ("predict", JPEG, MOST // 2)]
        measure(section, servers, extra, loads[: 1 if CPU else 3])


def main() -> int:
    """Run the step."""
    extra = load.workers(bundle_path(), 1 if CPU else 5)
    try:
        one("as it is", "none", extra, LOADS)
        for variant, meaning in VARIANTS.items():
            if attempts.has_time(variant, 8 if CPU else 25):
                record("served", variant, meaning)
                one(variant, variant, extra, [("predict", PNG, MOST if CPU else 64)])
        for count in (2,) if CPU else (8, 14):
            if attempts.has_time(f"{count} servers", 8 if CPU else 35):
                several(count, extra)
    finally:
        for worker in extra:
            worker.end()
    return attempts.status()


if __name__ == "__main__":
    sys.exit(main())
