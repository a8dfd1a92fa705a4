"""Fixtures of the client's tests: a fake server, and both clients behind one call."""

from collections.abc import Iterator
from typing import Any

import pytest

from clients import Ask, ask_async, ask_sync
from cxr.v1 import chest_xray_pb2 as pb
from cxr_client.testing import FakeServer, default_answer


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
