"""`cxr completion`: the scripts, and what bash completes with its own."""

import re
import subprocess

import pytest

from cxr_command import CXR, Run

BASH = """
source /dev/stdin <<< "$1"
shift
COMP_WORDS=("$@")
COMP_CWORD=$(($# - 1))
_cxr
printf '%s\\n' "${COMPREPLY[@]}"
"""


def completed_by_bash(script: str, *words: str) -> list[str]:
    command = ["bash", "-c", BASH, "bash", script, *words]
    done = subprocess.run(command, capture_output=True, text=True, timeout=100, check=True)
    assert not done.stderr
    return done.stdout.split()


def test_bash_completes_commands_options_and_their_values(cxr: Run) -> None:
    status, script, _ = cxr("completion", "bash")
    assert status == 0
    assert completed_by_bash(script, "cxr", "p") == ["predict"]
    assert completed_by_bash(script, "cxr", "predict", "--to") == ["--top-k", "--token-file"]
    assert completed_by_bash(script, "cxr", "explain", "x.png", "--color-map", "V") == ["VIRIDIS"]
    assert completed_by_bash(script, "cxr", "completion", "") == ["bash", "zsh", "fish"]


def test_bash_completes_files_where_a_file_is_meant(cxr: Run) -> None:
    _, script, _ = cxr("completion", "bash")
    for words in (["predict", "fi"], ["predict", "--token-file", "fi"], ["predict", "--top-k", ""]):
        assert completed_by_bash(script, "cxr", *words) == []
    assert "complete -o default -F _cxr cxr" in script


@pytest.mark.parametrize("shell", ["bash", "zsh", "fish"])
def test_a_script_has_every_command_and_option_of_the_help(cxr: Run, shell: str) -> None:
    status, script, err = cxr("completion", shell)
    assert (status, err) == (0, "")
    for command in ("predict", "explain", "report", "health", "model", "version", "completion"):
        assert command in script
    _, text, _ = cxr("explain", "--help")
    options = set(re.findall(r"--[a-z-]+[a-z]", text))
    assert len(options) > 25
    for option in options:
        assert (f"-l {option[2:]} " if shell == "fish" else option) in script


def test_the_script_is_printed_without_a_server() -> None:
    done = subprocess.run([*CXR, "completion", "bash"], capture_output=True, timeout=100)
    assert (done.returncode, done.stderr) == (0, b"")
