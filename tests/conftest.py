"""Fixtures that every folder of tests shares."""

import gc
import os
import signal
import subprocess
import sys
from collections.abc import Generator, Iterator
from pathlib import Path

# Before numpy is imported: OpenBLAS spins while it waits for processors that other tests use.
os.environ.setdefault("OPENBLAS_NUM_THREADS", "1")

import grpc
import pytest
import structlog

from cxr.v1.chest_xray_pb2_grpc import ChestXrayServiceStub
from serving import ServerProcess

pytest_plugins = ["fixtures_models"]

BIG_MESSAGES = (("grpc.max_receive_message_length", -1),)


@pytest.hookimpl(wrapper=True)
def pytest_collection() -> Generator[None, object, object]:
    """Leave what collecting makes out of the search for cycles, which takes a third of its time."""
    gc.disable()
    try:
        return (yield)
    finally:
        gc.freeze()
        gc.enable()


@pytest.fixture(scope="session", autouse=True)
def plain_tracebacks() -> None:
    """Servers in this process log plain tracebacks: rich takes most of a second to draw one."""
    renderer = structlog.dev.ConsoleRenderer.get_active()
    renderer.exception_formatter = structlog.dev.plain_traceback


@pytest.fixture
def interruptible() -> Iterator[None]:
    """SIGINT ends the programs that a test starts, also where a background job ignores it."""
    before = signal.signal(signal.SIGINT, signal.default_int_handler)
    yield
    signal.signal(signal.SIGINT, before)


@pytest.fixture(scope="session")
def radiographs(tmp_path_factory: pytest.TempPathFactory) -> list[Path]:
    """Files of chest radiographs: real ones from the folder CXR_TEST_RADIOGRAPHS, else phantoms."""
    folder = Path(os.environ.get("CXR_TEST_RADIOGRAPHS", tmp_path_factory.mktemp("phantoms")))
    if "CXR_TEST_RADIOGRAPHS" not in os.environ:
        command = [sys.executable, "-m", "cxr_server", "phantom-samples", "--output", str(folder)]
        subprocess.run(command, check=True, capture_output=True)
    files = sorted(folder.glob("*.png"))
    assert files, f"no PNG files in {folder}"
    return files


@pytest.fixture(scope="session")
def phantom_server() -> Iterator[ServerProcess]:
    """One server process with the shipped phantom bundle, shared by the whole run."""
    with ServerProcess() as server:
        yield server
        assert server.stop() == 0


@pytest.fixture(scope="session")
def full_server(full_bundle: Path) -> Iterator[ServerProcess]:
    """One server process with a full-size DenseNet-121 of random weights."""
    with ServerProcess(model=str(full_bundle)) as server:
        yield server
        assert server.stop() == 0


@pytest.fixture(scope="session")
def phantom_stub(phantom_server: ServerProcess) -> Iterator[ChestXrayServiceStub]:
    """A plain stub on the shared phantom server."""
    with grpc.insecure_channel(phantom_server.address, options=BIG_MESSAGES) as channel:
        yield ChestXrayServiceStub(channel)


@pytest.fixture(scope="session")
def full_stub(full_server: ServerProcess) -> Iterator[ChestXrayServiceStub]:
    """A plain stub on the shared full-size server."""
    with grpc.insecure_channel(full_server.address, options=BIG_MESSAGES) as channel:
        yield ChestXrayServiceStub(channel)
