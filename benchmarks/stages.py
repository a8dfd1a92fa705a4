"""Stages: processor time of what comes before the engine, in one thread, without a server.

Like `callers`, it reads one task per line: the kind of image, and for `core_speed` the patience and
the fastest loop. The films take turns: a file that was just decoded is decoded faster again. Turns
count in which the cores ran at full speed; there are more until there are enough.
"""

import os

os.environ["OPENBLAS_NUM_THREADS"] = "1"  # as in the server; before NumPy is imported

import json
import statistics
import sys
import time
from collections import Counter
from collections.abc import Callable
from functools import partial
from typing import TypeVar

import simplejpeg

from benchmarks.core_speed import CoreSpeed, Window, at_full_speed
from benchmarks.radiographs import BY_NAME, Kind, encoded
from cxr_server.imaging import quality
from cxr_server.imaging.codecs import read
from cxr_server.imaging.radiograph import DecodeLimits, DecodeOptions
from cxr_server.inference import allocator
from cxr_server.inference.cache import EvidenceCache
from cxr_server.inference.preprocess import XRV

TURNS = 9
SIDE_PX = 224
T = TypeVar("T")


def measure(kind: Kind, patience: int, fastest_ms: float) -> dict[str, float]:
    """Return the time of each stage, ms: the mean of the films, of each its median.

    Files of a kind differ: the largest JPEG of a camera takes twice as long as the smallest. The
    servers' times are means over the films, too.
    """
    cores, taken = CoreSpeed(fastest_ms), list[Window]()
    while True:
        for film in range(kind.films):
            before = cores.slowdown()
            stages_ms = once_ms(encoded(kind, film), kind)
            slowdown = max(before, cores.slowdown())
            taken.append({"film": film, "slowdown": slowdown, "stages_ms": stages_ms})
        fast = at_full_speed(taken)
        counts = Counter(each["film"] for each in fast)
        if len(counts) == kind.films and min(counts.values()) >= TURNS:
            break
        if len(taken) >= patience * TURNS * kind.films:
            fast = taken
            break
    medians_ms = []
    for film in range(kind.films):
        own = [each["stages_ms"] for each in fast if each["film"] == film]
        medians_ms.append({name: statistics.median(each[name] for each in own) for name in own[0]})
    return {name: statistics.fmean(each[name] for each in medians_ms) for name in medians_ms[0]}


def once_ms(file: bytes, kind: Kind) -> dict[str, float]:
    """Return the time of each stage of one image, ms."""
    limits, options = DecodeLimits(), DecodeOptions()
    found_ms: dict[str, float] = {}

    def timed(name: str, work: Callable[[], T]) -> T:
        begun_s = time.thread_time()
        result = work()
        found_ms[name] = 1000 * (time.thread_time() - begun_s)
        return result

    timed("hash", partial(EvidenceCache(1).key_of, file))
    image = timed("header", partial(read, file, limits))
    radiograph = timed("decode", partial(image.radiograph, options))
    timed("checks", partial(quality.inspect, radiograph, SIDE_PX))
    timed("resize", partial(XRV.image_chw, radiograph, SIDE_PX))
    if kind.file_format == "JPEG":
        timed("bare libjpeg-turbo", partial(simplejpeg.decode_jpeg, file, "GRAY"))
    return found_ms


def main() -> None:
    """Run tasks until the input ends."""
    allocator.keep_freed_memory()
    for line in sys.stdin:
        task = json.loads(line)
        found_ms = measure(BY_NAME[task["kind"]], task["patience"], task["fastest_ms"])
        print(json.dumps(found_ms), flush=True)


if __name__ == "__main__":
    main()
