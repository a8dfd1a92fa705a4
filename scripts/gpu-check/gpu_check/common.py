"""Common: settings of a run, the results file, and the time that a step has left."""

import json
import os
import time
import traceback
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

ROOT = Path(__file__).parents[3]
OUT = Path(os.environ.get("OUT", "gpu-check-out")).resolve()
RESULTS = OUT / "results.json"
CPU = os.environ.get("GPU_CHECK_CPU") == "1"
"""Whether only the check's own logic is tried, on a CPU."""
DEVICE = "cpu" if CPU else "cuda:0"
UNTIL = float(os.environ.get("GPU_CHECK_UNTIL") or time.time() + 300)
"""When this step must have ended, in seconds since the epoch."""


def left_s() -> float:
    """Return the seconds until this step must have ended."""
    return UNTIL - time.time()


def record(section: str, key: str, value: object) -> None:
    """Write a value into the results file at once, and print it."""
    OUT.mkdir(parents=True, exist_ok=True)
    results = json.loads(RESULTS.read_text()) if RESULTS.exists() else {}
    results.setdefault(section, {})[key] = value
    new = RESULTS.with_suffix(".new")
    new.write_text(json.dumps(results, indent=1, default=str))
    os.replace(new, RESULTS)
    print(f"[{section}] {key}: {json.dumps(value, default=str)[:600]}", flush=True)


class Attempts:
    """Runs the parts of a step. A part that raises is recorded, and the next one runs."""

    def __init__(self, section: str) -> None:
        self.section = section
        self.failed = 0

    def has_time(self, name: str, needs_s: float) -> bool:
        """Return whether `needs_s` seconds are left; if not, record that the part is left out."""
        enough = left_s() >= needs_s
        if not enough:
            record(self.section, name, "no time left")
        return enough

    @contextmanager
    def part(self, name: str) -> Iterator[None]:
        """Run a part of the step."""
        try:
            yield
        except Exception as error:
            self.failed += 1
            where = traceback.format_exc().strip().splitlines()[-8:]
            record(self.section, f"{name} FAILED", {"error": repr(error)[:800], "where": where})

    def status(self) -> int:
        """Return the exit status of the step: 1 if a part failed."""
        return int(self.failed > 0)


def rounded(value: Any, digits: int = 3) -> float:
    """Return a number with `digits` significant digits."""
    return float(f"{float(value):.{digits}g}")
