"""Mutations of a file of each codec, decoded in decode processes: `python -m trust.fuzz_codecs`.

Mutation `n` of a seed and a codec depends on these alone. Prints how the mutations of each codec
ended. An image that is read and one that is refused are right; a decoder that crashes, hangs or
takes too much memory (IMAGE_DECODER_FAILED) costs its own call, and is counted; anything else is
an error, with which the program ends with status 1.
"""

import argparse
import random
import sys
from collections import Counter
from concurrent.futures import ThreadPoolExecutor
from contextlib import nullcontext

from cxr_server.errors import ImageError
from cxr_server.imaging.radiograph import DecodeLimits
from cxr_server.inference.decode_processes.pool import DecodeProcesses
from cxr_server.inference.preprocess import XRV, Job
from cxr_server.observability.metrics import Metrics
from trust.fuzz import DICOM_BASES, base_files, mutation

JOB = Job(preprocessing=XRV, side_px=224, limits=DecodeLimits(max_pixel_count=1_000_000))
ARENA_BYTES = 64 * 2**20


def files_by_codec() -> dict[str, list[bytes]]:
    """Return the good files that are mutated, by codec or transfer syntax."""
    others = base_files()
    pngs = [file for file in others if file.startswith(b"\x89PNG")]
    return {"PNG": pngs, "JPEG": [each for each in others if each not in pngs]} | {
        f"DICOM, {name}": [file] for name, file in DICOM_BASES.items()
    }


def ends_of(
    processes: DecodeProcesses, files: list[bytes], seed: int, count: int
) -> tuple[Counter[str], list[int]]:
    """Decode mutations of the files. Returns how they ended, and which ended wrongly."""
    ends, wrong = Counter[str](), list[int]()

    def one(number: int) -> None:
        image = mutation(seed, number, files)
        try:
            processes.preprocess(image, JOB, hold=lambda *_: nullcontext(), check=lambda: None)
            ends["OK"] += 1
        except ImageError as error:
            ends[error.reason] += 1
        except Exception as error:
            ends[type(error).__name__] += 1
            wrong.append(number)

    with ThreadPoolExecutor(processes.limit) as threads:
        list(threads.map(one, range(count)))
    return ends, wrong


def main() -> int:
    """Decode the mutations of all codecs. Returns 1 if something was wrong."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--seed", type=int, default=random.SystemRandom().randrange(2**32))
    parser.add_argument("--count", type=int, default=4_000, help="of each codec")
    parser.add_argument("--processes", type=int, default=2)
    args = parser.parse_args()
    processes = DecodeProcesses(args.processes, arena_bytes=ARENA_BYTES, metrics=Metrics())
    has_failed = False
    try:
        for name, files in files_by_codec().items():
            ends, wrong = ends_of(processes, files, args.seed, args.count)
            told = ", ".join(f"{end} {number}" for end, number in ends.most_common())
            print(f"{name}: {told}", flush=True)
            if wrong:
                print(f"  wrong: --seed {args.seed}, mutations {sorted(wrong)[:10]}")
                has_failed = True
    finally:
        processes.close()
    return int(has_failed)


if __name__ == "__main__":
    sys.exit(main())
