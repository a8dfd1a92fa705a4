"""`make demo`: its argument, and how it fails."""

import os
import subprocess
import sys
from pathlib import Path

ROOT = Path(__file__).parents[1]


def demo(*radiographs: Path, output: Path) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, "scripts/demo.py", *map(str, radiographs)]
    env = {**os.environ, "DEMO_OUTPUT": str(output)}
    return subprocess.run(command, cwd=ROOT, env=env, capture_output=True, text=True, timeout=300)


def test_make_passes_any_file_name_on(tmp_path: Path) -> None:
    python = tmp_path / "bin" / "python"
    python.parent.mkdir()
    python.write_text('#!/bin/sh\nprintf "<%s>" "$@"\n')
    python.chmod(0o755)
    (tmp_path / ".installed-serve").touch()
    for name in ("it's a (copy).png", "", 'a "b" *.png'):
        command = ["make", "demo", f"VENV={tmp_path}", f"RADIOGRAPH={name}"]
        done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, timeout=100)
        assert done.stdout == f"<scripts/demo.py><{name}>", done.stderr


def test_a_missing_radiograph_is_told_in_one_line_before_anything_is_started(
    tmp_path: Path,
) -> None:
    done = demo(tmp_path / "none.png", output=tmp_path / "out")
    assert done.returncode == 1
    assert (done.stdout, len(done.stderr.splitlines())) == ("", 1)
    assert f"No such file or directory: '{tmp_path}/none.png'" in done.stderr


def test_a_radiograph_that_is_refused_is_told_in_one_line(tmp_path: Path) -> None:
    (tmp_path / "scan.dcm").write_bytes(bytes(128) + b"DICM" + bytes(100))
    done = demo(tmp_path / "scan.dcm", output=tmp_path / "out")
    assert done.returncode == 1
    (line,) = done.stderr.splitlines()
    assert "DICOM" in line
