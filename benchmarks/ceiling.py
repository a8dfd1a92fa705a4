"""Ceiling: the engine alone on ready tensors, as the server drives it. Prints JSON.

What a server that did nothing else would reach: batch-1 latency of a lone call, and images
a second with as many threads as the engine takes calls at once.
"""

import argparse
import json
import statistics
import threading
import time
from pathlib import Path

import numpy as np

from cxr_server.bundles.load import load_bundle
from cxr_server.engines.choose import choose_engine


def main() -> None:
    """Measure once and print the result."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--bundle", type=Path, required=True)
    parser.add_argument("--cache-dir", type=Path, required=True)
    parser.add_argument("--seconds", type=float, default=5.0)
    args = parser.parse_args()
    engine = choose_engine(load_bundle(args.bundle), "openvino", cache_dir=args.cache_dir)
    images = np.random.default_rng(0).uniform(-1024, 1024, (8, 1, 1, 224, 224)).astype(np.float32)
    for image_nchw in images:
        engine.evidence(image_nchw)
    alone_ms: list[float] = []
    started = time.monotonic()
    while time.monotonic() - started < args.seconds / 2 or len(alone_ms) < 5:
        begun = time.monotonic()
        engine.evidence(images[len(alone_ms) % len(images)])
        alone_ms.append(1000 * (time.monotonic() - begun))
    counts = [0] * engine.max_in_flight
    stop = threading.Event()

    def drive(lane: int) -> None:
        while not stop.is_set():
            engine.evidence(images[counts[lane] % len(images)])
            counts[lane] += 1

    threads = [threading.Thread(target=drive, args=(lane,)) for lane in range(len(counts))]
    started, worked = time.monotonic(), time.process_time()
    for thread in threads:
        thread.start()
    time.sleep(args.seconds)
    stop.set()
    for thread in threads:
        thread.join()
    per_s = sum(counts) / (time.monotonic() - started)
    cpu_ms = 1000 * (time.process_time() - worked) / max(sum(counts), 1)
    print(
        json.dumps(
            {
                "alone_p50_ms": statistics.median(alone_ms),
                "per_s": per_s,
                "cpu_ms": cpu_ms,
                "lanes": engine.max_in_flight,
            }
        )
    )


if __name__ == "__main__":
    main()
