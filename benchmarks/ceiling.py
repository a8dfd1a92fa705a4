"""Ceiling: the engine alone on preprocessed tensors, called as the server calls it.

The upper bound for any server. Like `callers`, it reads one task per line: callers, seconds,
warm_up_s, and batch, the images of a call. One caller gives the latency of a single call; more give
the rate with as many threads as the engine runs calls in parallel.
"""

import argparse
import json
import sys
import time
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import numpy as np

from benchmarks.callers import Count, counts_of, summary
from cxr_server.bundles.load import load_bundle
from cxr_server.inference.engines import FLOAT32, Engine, infer
from cxr_server.inference.engines.registry import choose_engine

LEAST = 4
"""Minimum number of calls per thread in a window."""


def measure(
    engine: Engine, side_px: int, callers: int, seconds: float, warm_up_s: float, batch: int = 1
) -> dict[str, Any]:
    """Call the engine from threads, counted as in `callers`; the rate is in images."""
    random = np.random.default_rng(0).uniform(-1024, 1024, (8, 1, side_px, side_px))
    images = [*random.astype(np.float32)]
    counts = counts_of(min(callers, engine.max_in_flight), warm_up_s, seconds, LEAST)
    total = 0
    begun_s = time.process_time()

    def drive(count: Count) -> None:
        nonlocal total
        ended = time.monotonic()
        try:
            while not all(each.closed for each in counts):
                started = ended
                infer(engine, [images[(total + n) % len(images)] for n in range(batch)])
                ended = time.monotonic()
                total += 1
                count.note(ended, ended - started)
        finally:
            count.closed = True  # a failing engine ends all threads

    with ThreadPoolExecutor(len(counts)) as threads:
        list(threads.map(drive, counts))
    found = summary(counts)
    cpu_ms = 1000 * (time.process_time() - begun_s) / (total * batch)
    return found | {"per_s": found["per_s"] * batch, "cpu_ms": cpu_ms}


def main() -> None:
    """Run tasks until the input ends."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--bundle", type=Path, required=True)
    parser.add_argument("--cache-dir", type=Path)
    parser.add_argument("--engine", default="openvino")
    parser.add_argument("--device")
    parser.add_argument("--precision", default=FLOAT32)
    parser.add_argument("--threads", type=int, help="cores of a CPU engine")
    args = parser.parse_args()
    bundle = load_bundle(args.bundle)
    engine = choose_engine(
        bundle,
        args.engine,
        device=args.device,
        cache_dir=args.cache_dir,
        threads=args.threads,
        precision=args.precision,
    )
    side_px = bundle.manifest.input_side_px
    for line in sys.stdin:
        print(json.dumps(measure(engine, side_px, **json.loads(line))), flush=True)


if __name__ == "__main__":
    main()
