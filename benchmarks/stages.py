"""Stages: processor time of what comes before the engine, in one thread, without a server.

Like `callers`, it reads one task per line: the kind of image. The films take turns: a file that was
just decoded is decoded faster again.
"""

import os

os.environ["OPENBLAS_NUM_THREADS"] = "1"  # as in the server; before NumPy is imported

import json
import statistics
import sys
import time
from collections.abc import Callable
from functools import partial
from typing import TypeVar

import simplejpeg

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


def measure(kind: Kind) -> dict[str, float]:
    """Return the time of each stage, ms: the mean of the films, of each its median.

    Files of a kind differ: the largest JPEG of a camera takes twice as long as the smallest. The
    servers' times are means over the films, too.
    """
    films = range(kind.films)
    turns = [[once_ms(encoded(kind, film), kind) for film in films] for _ in range(TURNS)]
    medians_ms = [
        {name: statistics.median(each[name] for each in taken) for name in taken[0]}
        for taken in zip(*turns, strict=True)
    ]
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
        print(json.dumps(measure(BY_NAME[json.loads(line)["kind"]])), flush=True)


if __name__ == "__main__":
    main()
