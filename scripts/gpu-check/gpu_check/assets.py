"""Step 2: the benchmark's model and films, made once."""

import sys
import time
from concurrent.futures import ProcessPoolExecutor
from pathlib import Path

from benchmarks.radiographs import BY_NAME, JPEG_224, JPEG_2373, PNG_224, PNG_1024, encoded

from benchmarks import model
from cxr_server.bundles.load import Bundle, load_bundle
from gpu_check.common import CPU, Attempts, record

PNG, JPEG = (PNG_224, JPEG_224) if CPU else (PNG_1024, JPEG_2373)
"""The kinds of images that the servers are asked about."""


def bundle_path() -> Path:
    """Return the folder of a DenseNet-121 with random weights; of a small network on a CPU."""
    return model.bundle(small=CPU)


def bundle() -> Bundle:
    """Return the model."""
    return load_bundle(bundle_path())


def size_of(name: str, seed: int) -> int:
    """Draw and encode a film; returns its size in bytes."""
    return len(encoded(BY_NAME[name], seed))


def main() -> int:
    """Run the step."""
    attempts = Attempts("assets")
    started = time.monotonic()
    with ProcessPoolExecutor(2 if CPU else 6) as pool:
        films = {
            f"{kind.name}, {seed}": pool.submit(size_of, kind.name, seed)
            for kind in (PNG, JPEG)
            for seed in range(kind.films)
        }
        with attempts.part("bundle"):
            record("assets", "bundle", bundle().manifest.name)
        with attempts.part("films"):
            record("assets", "bytes", {name: film.result() for name, film in films.items()})
    record("assets", "seconds", round(time.monotonic() - started, 1))
    return attempts.status()


if __name__ == "__main__":
    sys.exit(main())
