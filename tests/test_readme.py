"""The README is true: its commands run, its tables are the code's, its links lead somewhere."""

import argparse
import os
import re
import shlex
import subprocess
import sys
from pathlib import Path
from typing import NamedTuple

import pytest

import test_wheels
from cxr_server import settings
from cxr_server.commands import prepare
from cxr_server.convert.catalog import CATALOG
from readme_tables import errors_table, settings_table, table_in_readme
from serving import ServerProcess
from trust.certificates import Authority
from viewer_process import ViewerProcess

ROOT = Path(__file__).parents[1]
README = (ROOT / "README.md").read_text()
ADDRESS = "127.0.0.1:50051"
CONSOLE = re.compile(r"\$ ((?:.*[|\\]\n)*.*)\n((?:.*\n)*)")
"""A command, whose lines but the last end in `|` or a backslash, and what it prints."""


class Block(NamedTuple):
    mode: str
    language: str
    code: str

    @property
    def commands(self) -> list[list[str]]:
        """The block's lines as words, without comments."""
        lines = (shlex.split(line, comments=True) for line in self.code.splitlines())
        return [words for words in lines if words]


BLOCKS = [
    Block(*found)
    for found in re.findall(r"<!-- test: (\w+) -->\n```(\w+)\n(.*?)```", README, re.DOTALL)
]


def blocks(mode: str) -> list[Block]:
    found = [block for block in BLOCKS if block.mode == mode]
    assert found, f"the README has no block of the mode {mode}"
    return found


@pytest.fixture(scope="module")
def shell(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder as the README's reader has it after `make install-serve` and the samples."""
    folder = tmp_path_factory.mktemp("readme")
    (setup,) = blocks("setup")
    samples = [line for line in setup.code.splitlines() if line.startswith("cxr-server ")]
    assert len(samples) == 1
    run(samples[0], folder)
    return folder


def run(code: str, folder: Path, address: str = ADDRESS, language: str = "bash") -> str:
    """Run a block in the folder, with the address of a server that really runs."""
    path = os.pathsep.join([str(Path(sys.executable).parent), os.environ["PATH"]])
    code = code.replace(ADDRESS, address)
    words = [sys.executable, "-c", code]
    if language == "bash":
        words = ["bash", "-euo", "pipefail", "-c", code]
    done = subprocess.run(
        words,
        cwd=folder,
        env={**os.environ, "PATH": path, "CXR_SERVER": address},
        capture_output=True,
        text=True,
        timeout=300,
    )
    assert done.returncode == 0, done.stderr
    return done.stdout


def test_every_command_block_says_how_it_is_tested() -> None:
    code_blocks = re.findall(r"^```(?:bash|python|sh|console)$", README, re.MULTILINE)
    assert len(code_blocks) == len(BLOCKS)
    modes = {"ci", "setup", "pip", "serve", "secured", "live", "printed", "prepare", "grpcurl"}
    assert {block.mode for block in BLOCKS} <= {*modes, "container", "view"}


def test_the_first_commands_are_what_ci_runs() -> None:
    (block,) = blocks("ci")
    ci = (ROOT / ".ci" / "run").read_text().splitlines()
    assert block.commands == [["make", "demo"], ["make", "test-fast"], ["make", "test"]]
    for words in block.commands:
        assert " ".join(words) in ci


def test_every_make_target_named_in_the_documents_exists() -> None:
    targets = set(re.findall(r"^([a-z-]+):", (ROOT / "Makefile").read_text(), re.MULTILINE))
    pages = [ROOT / "README.md", ROOT / "CONTRIBUTING.md", *(ROOT / "docs").rglob("*.md")]
    for page in pages:
        named = set(re.findall(r"(?:^|`)make ([a-z][a-z-]+)", page.read_text(), re.MULTILINE))
        assert named <= targets, page


def test_the_serve_command_serves(phantom_server: ServerProcess) -> None:
    (block,) = blocks("serve")
    ((program, command, *flags),) = block.commands
    assert (program, command) == ("cxr-server", "serve")
    assert settings.parse(flags, {}) == settings.Settings()  # so it is what phantom_server runs
    assert phantom_server.facts["model"] == "phantom"


@pytest.mark.slow
def test_the_live_commands_answer(shell: Path, phantom_server: ServerProcess) -> None:
    printed = ""
    for block in blocks("live"):
        printed += run(block.code, shell, phantom_server.address, block.language)
    assert "Effusion" in printed
    assert "Effusion" in (shell / "scores.csv").read_text()
    pictures = [shell / "effusion.png", *(shell / "heatmaps").glob("*.png")]
    assert len(pictures) == 1 + 2 * len(list((shell / "phantoms").glob("*.png")))
    assert all(picture.read_bytes().startswith(b"\x89PNG") for picture in pictures)


@pytest.mark.slow
def test_the_commands_for_tls_and_tokens_answer(tmp_path: Path) -> None:
    ca = Authority(tmp_path, "ca")
    certificate, key = ca.sign(tmp_path / "signed", "server")
    (block,) = blocks("secured")
    token, serve, health = block.code.splitlines()
    run(token, tmp_path)
    flags = shlex.split(serve)[2:]
    assert settings.parse(flags, {}).tokens_file == "tokens"
    own = {"server.pem": certificate, "server.key": key, "tokens": tmp_path / "tokens"}
    own |= {"0.0.0.0:50051": "127.0.0.1:0"}
    with ServerProcess(*(str(own.get(word, word)) for word in flags)) as server:
        health = health.replace("cxr.example.org:50051", server.address)
        assert run(health, tmp_path).startswith("SERVING: phantom ")


def test_the_grpcurl_commands_answer(shell: Path, phantom_server: ServerProcess) -> None:
    printed = "".join(run(block.code, shell, phantom_server.address) for block in blocks("grpcurl"))
    assert "cxr.v1.ChestXrayService" in printed
    assert '"SERVING"' in printed
    assert '"weightsSha256"' in printed
    assert '"findings"' in printed
    assert (shell / "heatmap.jpg").read_bytes().startswith(b"\xff\xd8\xff")


def test_the_printed_answers_are_what_the_commands_print(
    shell: Path, phantom_server: ServerProcess
) -> None:
    for block in blocks("printed"):
        command, printed = CONSOLE.fullmatch(block.code).groups()
        # `head` closes the pipe early, which is no failure here.
        answer = run(f"set +o pipefail; {command}", shell, phantom_server.address)
        assert parts(answer) == parts(printed)


def parts(text: str) -> list[object]:
    """Words, and numbers to a tolerance: the last digits depend on the processor."""
    found = re.findall(r"-?\d+\.\d+|\w+|[^\w\s]", text)
    return [pytest.approx(float(each), abs=2e-3) if "." in each[1:] else each for each in found]


def test_the_wheels_that_pip_installs_are_those_that_are_tested() -> None:
    (block,) = blocks("pip")
    install, samples = block.commands
    assert install == ["pip", "install", *(f"./{name}" for name in test_wheels.DISTRIBUTIONS)]
    assert samples == ["cxr-server", "phantom-samples", "--output", "phantoms"]


def test_the_decisions_are_listed_with_their_status_and_date() -> None:
    folder = ROOT / "docs" / "decisions"
    index = (folder / "README.md").read_text()
    pages = sorted(folder.glob("0*.md"))
    assert pages
    for page in pages:
        number, title = re.match(r"# (\d+)\. (.+)\n", page.read_text()).groups()
        status, date = re.search(
            r"^Status: (\w+) · Date: (\d{4}-\d\d-\d\d)", page.read_text(), re.MULTILINE
        ).groups()
        assert f"| [{number}]({page.name}) | {title} | {status} | {date} |" in index


def test_the_commands_for_the_page_serve_it(shell: Path, phantom_server: ServerProcess) -> None:
    (block,) = blocks("view")
    make, (*command, folder) = block.commands
    assert make == ["make", "view"]
    assert command == ["cxr", "view"]
    with ViewerProcess(phantom_server.address, shell / folder) as page:
        state = page.ask("api/state").json
    assert state["server"]["state"] == "serving"
    assert {"sample", "folder"} == {film["group"] for film in state["films"]}


def test_the_commands_for_a_real_model_are_understood() -> None:
    """They need the network: `tests/test_demo.py` takes their way, here the words are checked."""
    (block,) = blocks("prepare")
    install, activate, fetch, serve, predict = block.commands
    assert [install, activate] == [["make", "install-serve"], [".", ".venv/bin/activate"]]
    assert fetch == ["cxr-server", "prepare", "densenet121-res224-all"]
    assert serve[:2] == ["cxr-server", "serve"]
    assert set(settings.parse(serve[2:], {}).model) <= set(CATALOG)
    assert predict[:2] == ["cxr", "predict"]


def test_the_container_is_given_words_that_prepare_takes() -> None:
    parser = argparse.ArgumentParser()
    prepare.add_arguments(parser)
    lines = [line for block in blocks("container") for line in block.code.splitlines()]
    (words,) = [
        shlex.split(line.split("cxr-serve prepare ")[1]) for line in lines if "prepare" in line
    ]
    parsed = parser.parse_args(words)
    assert parsed.name in CATALOG
    assert parsed.if_missing


def test_the_settings_table_is_the_codes() -> None:
    assert table_in_readme("settings") == settings_table()


def test_the_errors_table_is_the_codes() -> None:
    assert table_in_readme("errors") == errors_table()


def test_links_to_files_lead_somewhere() -> None:
    pages = [ROOT / "README.md", ROOT / "CONTRIBUTING.md", *(ROOT / "docs").rglob("*.md")]
    for page in pages:
        for link in re.findall(r"\]\(([^)#:]+)(?:#[^)]*)?\)", page.read_text()):
            assert (page.parent / link).exists(), f"{page.name}: {link}"
