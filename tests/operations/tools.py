"""The programs of `make test-operations`: found, or loudly missed."""

import os
import shutil
from pathlib import Path
from typing import NoReturn

import pytest

BUILD = Path(__file__).parents[2] / "build"
"""Where the Makefile installs what locks/operations.txt and its kind pin."""


def not_run(why: str) -> NoReturn:
    """Skip, or fail in CI."""
    if os.environ.get("CI"):
        pytest.fail(f"NOT RUN: {why}")
    pytest.skip(f"NOT RUN: {why}")


def program(name: str) -> str:
    """Path of a program; skip, or fail in CI, where it is missing."""
    return _found(name, f"{BUILD / 'operations' / 'bin'}{os.pathsep}{os.environ['PATH']}")


def program_in(environment: str, name: str) -> str:
    """The same, of a program in an environment of its own below build/."""
    return _found(name, str(BUILD / environment / "bin"))


def _found(name: str, where: str) -> str:
    path = shutil.which(name, path=where)
    if path is None:
        not_run(f"there is no {name} here; see `make test-operations`")
    return path
