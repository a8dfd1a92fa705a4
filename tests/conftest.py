"""Fixtures that every folder of tests shares."""

from collections.abc import Iterator
from pathlib import Path

import grpc
import pytest

from cxr.v1.chest_xray_pb2_grpc import ChestXrayServiceStub
from serving import ServerProcess

pytest_plugins = ["fixtures_models"]

BIG_MESSAGES = (("grpc.max_receive_message_length", -1),)
RADIOGRAPHS = Path(__file__).parents[2] / "shared" / "radiographs"


@pytest.fixture(scope="session")
def radiographs() -> list[Path]:
    """Real chest radiographs, where somebody has laid them beside the project."""
    files = sorted(RADIOGRAPHS.glob("*.png"))
    if not files:
        pytest.skip("no real radiographs in ../shared/radiographs")
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
