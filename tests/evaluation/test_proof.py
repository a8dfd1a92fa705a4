"""`make prove-evaluation` on few phantoms: a run that is killed, and its figures by others."""

import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]


@pytest.mark.slow
@pytest.mark.timeout(1200)  # a minute on two quiet cores
def test_a_run_that_was_killed_loses_nothing_and_its_figures_equal_independent_ones(
    tmp_path: Path,
) -> None:
    words = ["--count", "72", "--output", str(tmp_path), "--no-browser"]
    done = subprocess.run(
        [sys.executable, "-m", "scripts.prove_evaluation", *words],
        cwd=ROOT,
        capture_output=True,
        text=True,
    )
    assert done.returncode == 0, done.stdout + done.stderr
    assert "everything holds" in done.stdout
