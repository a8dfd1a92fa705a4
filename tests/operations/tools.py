"""The programs of `make test-operations`: found, or loudly missed."""

import os
import shutil
from pathlib import Path

import pytest

FOLDER = Path(__file__).parents[2] / "build" / "operations" / "bin"
"""Where the Makefile installs what locks/operations.txt pins."""


def program(name: str) -> str:
    """Path of a program; skip, or fail in CI, where it is missing."""
    path = shutil.which(name, path=f"{FOLDER}{os.pathsep}{os.environ['PATH']}")
    if path is None:
        missing = f"NOT RUN: there is no {name} here; see `make test-operations`"
        if os.environ.get("CI"):
            pytest.fail(missing)
        pytest.skip(missing)
    return path
