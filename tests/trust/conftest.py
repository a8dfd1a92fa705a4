"""Fixtures of the trust tests: a server without a cache, so that every image is decoded."""

from collections.abc import Iterator
from dataclasses import replace

import grpc
import pytest

from cxr.v1.chest_xray_pb2_grpc import ChestXrayServiceStub
from cxr_server.inference import supervisor
from cxr_server.inference.engines.registry import ENGINES
from serving import ServerProcess
from trust.fragile_engines import Engines

BIG_MESSAGES = (("grpc.max_receive_message_length", -1),)


@pytest.fixture
async def engines(monkeypatch: pytest.MonkeyPatch) -> Engines:
    """Every engine that is opened fails on demand, and is replaced without a pause."""
    engines = Engines()
    fragile = replace(ENGINES["openvino"], open=engines.make)
    monkeypatch.setitem(ENGINES, "openvino", fragile)
    monkeypatch.setattr(supervisor, "REBUILD_PAUSE_S", 0.01)
    monkeypatch.setattr(supervisor, "WATCH_INTERVAL_S", 0.01)
    return engines


@pytest.fixture
def decoding_in_threads(monkeypatch: pytest.MonkeyPatch) -> None:
    """Servers start no processes that decode, which takes a third of a start, unless told to."""
    monkeypatch.setenv("CXR_DECODE_PROCESSES", "0")


@pytest.fixture(scope="session")
def plain_server() -> Iterator[ServerProcess]:
    """A phantom server without a cache."""
    with ServerProcess("--cache-entries", "0") as server:
        yield server
        assert server.stop() == 0


@pytest.fixture(scope="session")
def plain_stub(plain_server: ServerProcess) -> Iterator[ChestXrayServiceStub]:
    with grpc.insecure_channel(plain_server.address, options=BIG_MESSAGES) as channel:
        yield ChestXrayServiceStub(channel)
