"""The example in Node.js, with its packages from the registry that npm is configured for."""

import os
import shutil
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest

from authority import Authority
from clients import PNG
from cxr_client.testing import FakeServer, failure
from cxr_client.testing.answers import NOTICE
from serving import ServerProcess
from trust.ports import free_port

pytestmark = pytest.mark.slow

ROOT = Path(__file__).parents[2]
# Node.js of the environment that runs the tests, else the machine's.
ENVIRONMENT = {
    **os.environ,
    "PATH": os.pathsep.join([str(Path(sys.executable).parent), os.environ["PATH"]]),
    "no_grpc_proxy": "localhost,127.0.0.1,127.0.0.2",
}
Predict = Callable[..., "subprocess.CompletedProcess[str]"]


def run(words: list[str], folder: Path, **variables: str) -> "subprocess.CompletedProcess[str]":
    environment = {**ENVIRONMENT, **variables}
    return subprocess.run(
        words, cwd=folder, env=environment, capture_output=True, text=True, timeout=200, check=False
    )


@pytest.fixture(scope="module")
def predict(tmp_path_factory: pytest.TempPathFactory) -> Predict:
    """Runs the example, copied with the contract to where its packages are installed."""
    root = tmp_path_factory.mktemp("node-example")
    folder = root / "client" / "examples" / "node"
    ignored = shutil.ignore_patterns("node_modules")
    shutil.copytree(ROOT / "client" / "examples" / "node", folder, ignore=ignored)
    shutil.copytree(ROOT / "protos", root / "protos")
    installed = run(["npm", "ci"], folder)
    assert installed.returncode == 0, installed.stderr

    def predict(*arguments: object, **variables: str) -> "subprocess.CompletedProcess[str]":
        return run(["node", "predict.js", *map(str, arguments)], folder, **variables)

    return predict


@pytest.fixture
def film(tmp_path: Path) -> Path:
    """A file that the fake server takes: larger than what gRPC keeps for a retry by default."""
    file = tmp_path / "film.png"
    file.write_bytes(bytes(3 << 20))
    return file


def test_it_prints_the_findings_and_writes_a_heat_map(
    predict: Predict, phantom_server: ServerProcess, radiographs: list[Path], tmp_path: Path
) -> None:
    (file,) = [each for each in radiographs if each.name == "phantom-effusion-1.png"]
    result = predict(file, "--server", phantom_server.address, "--output", tmp_path / "new")
    assert (result.returncode, result.stderr) == (0, "")
    lines = result.stdout.splitlines()
    assert lines[0].startswith("phantom-effusion-1.png: phantom ")
    assert lines[1].split() == ["*", "Effusion", "0.996"]
    picture = tmp_path / "new" / "phantom-effusion-1-Effusion.png"
    assert f"wrote {picture}" in lines
    assert "Not for diagnosis" in lines[-1]
    assert picture.read_bytes().startswith(PNG)


def test_it_prints_the_reason_of_an_error(
    predict: Predict, phantom_server: ServerProcess, tmp_path: Path
) -> None:
    file = tmp_path / "broken.png"
    file.write_bytes(PNG + b"and no more")
    result = predict(file, "--server", phantom_server.address)
    assert (result.returncode, result.stdout) == (1, "")
    assert "[IMAGE_UNREADABLE, request " in result.stderr


def test_it_prints_a_file_that_cannot_be_read(predict: Predict, tmp_path: Path) -> None:
    result = predict(tmp_path / "none.png")
    assert result.returncode == 1
    assert result.stderr.startswith("failed: ENOENT")


def test_it_asks_a_server_again_that_is_full_loads_or_stops(
    predict: Predict, fake: FakeServer, film: Path, tmp_path: Path
) -> None:
    fake.script(
        failure("RESOURCE_EXHAUSTED", "QUEUE_FULL"),
        failure("UNAVAILABLE", "MODEL_LOADING"),
        failure("CANCELLED"),
    )
    result = predict(film, "--server", fake.address, "--output", tmp_path)
    assert (result.returncode, result.stderr) == (0, "")
    assert result.stdout.splitlines()[-1] == NOTICE
    assert [len(call.request.image) for call in fake.calls] == [3 << 20] * 4
    assert all(0 < call.time_remaining_s <= 60 for call in fake.calls)


def test_it_uses_tls_and_a_token(
    predict: Predict, authority: Authority, film: Path, tmp_path: Path
) -> None:
    with FakeServer(credentials=authority.server_credentials(mutual=False)) as server:
        ca = authority.folder / "ca.pem"
        arguments = (film, "--server", server.address, "--ca-file", ca, "--output", tmp_path)
        result = predict(*arguments, CXR_TOKEN="secret")
        assert (result.returncode, result.stderr) == (0, "")
        assert server.calls[0].metadata["authorization"] == "Bearer secret"


def test_it_sends_nothing_unencrypted_to_other_hosts_unless_told_to(
    predict: Predict, film: Path, tmp_path: Path
) -> None:
    # Of this machine, but not by the name of loopback.
    with FakeServer(address=f"127.0.0.2:{free_port()}") as server:
        arguments = (film, "--server", server.address, "--output", tmp_path)
        assert predict(*arguments).returncode == 1
        assert server.calls == []
        assert predict(*arguments, "--insecure").returncode == 0
