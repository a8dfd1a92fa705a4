"""Fixtures of the client's tests: a fake server, both clients behind one call, and `cxr`."""

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from authority import Authority
from clients import Ask, ask_async, ask_sync
from cxr.v1 import chest_xray_pb2 as pb
from cxr_client.testing import FakeServer, default_answer
from cxr_command import Run, runner


def numbered(request: pb.PredictRequest) -> Any:
    """One finding whose class_index is the length of the image, and a warning."""
    answer: Any = default_answer(request)
    del answer.findings[1:]
    answer.findings[0].class_index = len(request.image)
    answer.warnings.add(code=pb.WARNING_CODE_CROPPED, message="It was cropped.")
    return answer


@pytest.fixture
def fake() -> Iterator[FakeServer]:
    """A server of its own for each test: gRPC shares retry state by address."""
    with FakeServer(max_request_bytes=64 * 2**20) as server:
        server.answer("Predict", numbered)
        yield server


@pytest.fixture(params=[ask_sync, ask_async], ids=["Client", "AsyncClient"])
def ask(request: pytest.FixtureRequest) -> Ask:
    """Either client: what holds for one holds for the other."""
    function: Ask = request.param
    return function


@pytest.fixture(scope="session")
def authority(tmp_path_factory: pytest.TempPathFactory) -> Authority:
    """A certificate authority with a certificate for the server and one for the client."""
    return Authority(tmp_path_factory.mktemp("authority"))


@pytest.fixture
def cxr(
    fake: FakeServer, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> Run:
    """Runs the command on the fake server; returns status, output and errors."""
    monkeypatch.setenv("CXR_SERVER", fake.address)
    monkeypatch.delenv("CXR_TOKEN", raising=False)
    return runner(capsys)


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """A folder with images (each of another length), in folders, beside other files."""
    root = tmp_path / "films"
    for number, name in enumerate(["b/x.png", "a.JPG", "b/c/y.jpeg", "z.png"], start=1):
        file = root / name
        file.parent.mkdir(parents=True, exist_ok=True)
        file.write_bytes(bytes(number))
    (root / "notes.txt").write_text("no image")
    report = b"\2\0\2\0UI\x1e\0" + b"1.2.840.10008.5.1.4.1.1.88.34\0"
    (root / "b" / "scan.dcm").write_bytes(bytes(128) + b"DICM" + report)
    return root
