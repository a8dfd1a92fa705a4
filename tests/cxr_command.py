"""The command `cxr` as tests run it: in this process, or as a process of its own."""

import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest

from cxr_client.cli import main

Run = Callable[..., tuple[int, str, str]]
"""Runs `cxr` with these arguments in this process; returns status, output and errors."""

CXR = [sys.executable, "-c", "import sys; from cxr_client.cli import main; sys.exit(main())"]


def runner(capsys: pytest.CaptureFixture[str]) -> Run:
    """Return a function that runs `cxr` in this process."""

    def run(*argv: object) -> tuple[int, str, str]:
        try:
            status = main([str(each) for each in argv])
        except SystemExit as end:
            status = int(end.code or 0)
        captured = capsys.readouterr()
        return status, captured.out, captured.err

    return run


def cxr_process(*argv: object, env: dict[str, str] | None = None) -> subprocess.CompletedProcess:
    """Run `cxr` as a process of its own."""
    words = [*CXR, *map(str, argv)]
    return subprocess.run(words, env=env, capture_output=True, timeout=100, check=False)


def names_in(root: Path) -> list[str]:
    """Return the names of all files in a folder and its subfolders, sorted."""
    return sorted(file.relative_to(root).as_posix() for file in root.rglob("*") if file.is_file())
