"""`make view`: the phantom and the page by one command, and how both end."""

import json
import os
import signal
import subprocess
import sys
import urllib.request
from pathlib import Path

import psutil
import pytest

from test_demo import venv

ROOT = Path(__file__).parents[1]


def start(folder: Path, *arguments: str) -> tuple[subprocess.Popen[str], str]:
    """Start the script in a process group of its own; return it and the URL."""
    process = subprocess.Popen(
        [sys.executable, "-m", "scripts.view", "--port", "0", *arguments],
        cwd=ROOT,
        env={**os.environ, "DEMO_OUTPUT": str(folder)},
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        start_new_session=True,
    )
    assert process.stdout
    for line in process.stdout:
        if line.startswith("http"):
            return process, line.strip()
    raise AssertionError(process.communicate())


@pytest.mark.slow
@pytest.mark.parametrize("ctrl_c", [True, False], ids=["Ctrl-C", "SIGTERM"])
def test_one_command_serves_the_page_and_ends_both(
    tmp_path: Path, radiographs: list[Path], ctrl_c: bool
) -> None:
    process, url = start(tmp_path, str(radiographs[0].parent))
    try:
        with urllib.request.urlopen(f"{url}api/state", timeout=60) as answer:
            state = json.load(answer)
        assert state["server"]["state"] == "serving"
        assert state["model"]["model"]["name"] == "phantom"
        assert len(state["films"]) == 3 + len(radiographs)
        children = psutil.Process(process.pid).children(recursive=True)
        assert len(children) >= 2
        if ctrl_c:
            os.killpg(process.pid, signal.SIGINT)
        else:
            process.terminate()
        _, errors = process.communicate(timeout=90)
        assert process.returncode == 0, errors
        assert "Traceback" not in errors
        assert not [child for child in children if child.is_running()]
    finally:
        process.kill()
        process.wait()


def test_make_passes_its_arguments_on(tmp_path: Path) -> None:
    installed = venv(tmp_path, 'printf "<%s>" "$@"')
    done = subprocess.run(
        ["make", "view", installed, "VIEW_ARGS=--port 0 'two words'"],
        cwd=ROOT,
        env={name: value for name, value in os.environ.items() if "MAKE" not in name},
        capture_output=True,
        text=True,
        timeout=100,
    )
    assert done.stdout == "<-m><scripts.view><--port><0><two words>", done.stderr
