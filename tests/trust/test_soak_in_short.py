"""The soak test in ten seconds: its claims about results, not those about times.

On a full-size model, like the soak test itself: callers on the same cores cannot offer four times
what the small phantom model sustains.
"""

import subprocess
import sys
from pathlib import Path

ROOT = Path(__file__).parents[2]


def test_a_short_soak_mixes_up_nothing_fails_nothing_and_loses_nothing(full_bundle: Path) -> None:
    command = [sys.executable, "-m", "scripts.soak", "--model", str(full_bundle)]
    done = subprocess.run(
        [*command, "--seconds", "10", "--untimed"],
        cwd=ROOT,
        capture_output=True,
        text=True,
        timeout=500,
        check=False,
    )
    assert done.returncode == 0, done.stdout + done.stderr
    for claim in (
        "no answer was mixed up",
        "no call failed",
        "no accepted call was lost at SIGTERM",
        "no hostile call failed",
        "the server is alive after the hostile callers",
        "memory below 2048 MiB",
        "clean exit on SIGTERM",
        "every kind of call was offered",
    ):
        assert f"ok   {claim}" in done.stdout
