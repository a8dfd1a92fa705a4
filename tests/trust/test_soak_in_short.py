"""The soak in seconds: what it claims of answers, not of times.

On a full-size model, as the soak itself: what the small phantom bears, times four, is more
than callers on the same two cores can offer evenly.
"""

import subprocess
import sys
from pathlib import Path

import pytest

SOAK = Path(__file__).parents[2] / "scripts" / "soak.py"


@pytest.mark.timeout(120)
def test_a_short_soak_mixes_up_nothing_fails_nothing_and_loses_nothing(full_bundle: Path) -> None:
    # A full-size model, so that four times its capacity is little for the callers beside it.
    done = subprocess.run(
        [sys.executable, str(SOAK), "--model", str(full_bundle), "--seconds", "10", "--untimed"],
        capture_output=True,
        text=True,
        timeout=110,
        check=False,
    )
    assert done.returncode == 0, done.stdout + done.stderr
    for claim in (
        "no answer was mixed up",
        "no call failed",
        "no accepted call was lost at SIGTERM",
        "clean exit on SIGTERM",
        "every kind of call was offered",
    ):
        assert f"ok   {claim}" in done.stdout
