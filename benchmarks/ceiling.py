"""Ceiling: the engine alone on ready tensors, as the server drives it.

What a server that did nothing else would reach. Like `callers`, it stays up and carries out one
task a line: callers, seconds, warm_up_s. One caller gives the latency of a lone call; more give the
rate with as many threads as the engine takes calls at once.
"""

import argparse
import json
import statistics
import sys
import threading
import time
from pathlib import Path

import numpy as np

from cxr_server.bundles.load import load_bundle
from cxr_server.engines import Engine
from cxr_server.engines.choose import choose_engine

LEAST = 4
"""Fewest calls of a thread in a window."""


def measure(
    engine: Engine, side_px: int, callers: int, seconds: float, warm_up_s: float
) -> dict[str, float]:
    """Drive the engine for the window, each thread with its next image when it has answered."""
    images = np.random.default_rng(0).uniform(-1024, 1024, (8, 1, 1, side_px, side_px))
    images = images.astype(np.float32)
    latencies_ms: list[float] = []
    rates: list[float] = []
    begun_s: list[float] = []
    ended_s: list[float] = []

    def drive() -> None:
        own_ms: list[float] = []
        warm = time.monotonic() + warm_up_s
        while time.monotonic() < warm:
            engine.evidence(images[0])
        begun_s.append(time.process_time())
        ended = started = time.monotonic()
        while ended < started + seconds or len(own_ms) < LEAST:
            begun = ended
            engine.evidence(images[len(own_ms) % len(images)])
            ended = time.monotonic()
            own_ms.append(1000 * (ended - begun))
        rates.append(len(own_ms) / (ended - started))
        ended_s.append(time.process_time())
        latencies_ms.extend(own_ms)

    threads = [threading.Thread(target=drive) for _ in range(min(callers, engine.max_in_flight))]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    worked = max(ended_s) - min(begun_s)
    return {
        "per_s": sum(rates),
        "p50_ms": statistics.median(latencies_ms),
        "cpu_ms": 1000 * worked / len(latencies_ms),
    }


def main() -> None:
    """Carry out tasks until the input ends."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--bundle", type=Path, required=True)
    parser.add_argument("--cache-dir", type=Path, required=True)
    args = parser.parse_args()
    bundle = load_bundle(args.bundle)
    engine = choose_engine(bundle, "openvino", cache_dir=args.cache_dir)
    side_px = bundle.manifest.input_side_px
    for line in sys.stdin:
        print(json.dumps(measure(engine, side_px, **json.loads(line))), flush=True)


if __name__ == "__main__":
    main()
