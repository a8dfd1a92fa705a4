"""The programs that the other tests here run, by the version that the lock pins."""

import subprocess

import pytest

from operations.tools import program

pytestmark = pytest.mark.operations


@pytest.mark.parametrize(
    ("name", "arguments", "version"),
    [
        ("envoy", ("--version",), "1.40.0"),
        ("hadolint", ("--version",), "2.15.1"),
        ("helm", ("version", "--short"), "v4."),
        ("k6", ("version",), "1.1.0"),
        ("kubectl", ("version", "--client"), "v1.37."),
        ("kubernetes-validate", ("--version",), "1.37"),
        ("locust", ("--version",), "2.47.0"),
        ("prometheus", ("--version",), "2."),
        ("promtool", ("--version",), "2."),
    ],
)
def test_a_program_of_the_fleet_is_there(
    name: str, arguments: tuple[str, ...], version: str
) -> None:
    done = subprocess.run([program(name), *arguments], capture_output=True, text=True, check=True)
    assert version in done.stdout + done.stderr
