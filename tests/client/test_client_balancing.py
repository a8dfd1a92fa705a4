"""Balancing: which of the servers behind one name are called."""

from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack

import grpc
import pytest
from grpc_health.v1 import health_pb2_grpc
from grpc_health.v1.health import HealthServicer
from grpc_health.v1.health_pb2 import HealthCheckResponse

from clients import Ask
from cxr.v1 import chest_xray_pb2 as pb
from cxr.v1.chest_xray_pb2_grpc import (
    ChestXrayServiceServicer,
    add_ChestXrayServiceServicer_to_server,
)
from cxr_client import BalancingConfig, Client, RetryConfig, ServingStatus, UnavailableError
from cxr_command import Run
from trust.ports import free_port

SERVING, NOT_SERVING = HealthCheckResponse.SERVING, HealthCheckResponse.NOT_SERVING
CHECKED = {"balancing": BalancingConfig(health_check=True), "retry": RetryConfig(max_attempts=1)}


class Replica(ChestXrayServiceServicer):
    """A server whose health can be set, and which counts its calls."""

    def __init__(self, port: int) -> None:
        self.calls = 0
        self.health = HealthServicer()
        self.server = grpc.server(ThreadPoolExecutor(4), options=[("grpc.so_reuseport", 0)])
        add_ChestXrayServiceServicer_to_server(self, self.server)
        health_pb2_grpc.add_HealthServicer_to_server(self.health, self.server)
        self.address = f"127.0.0.1:{port}"
        self.server.add_insecure_port(self.address)
        self.server.start()
        self.report(SERVING)

    def __enter__(self) -> "Replica":
        return self

    def __exit__(self, *_: object) -> None:
        self.server.stop(0).wait()

    def report(self, status: int) -> None:
        self.health.set("cxr.v1.ChestXrayService", status)

    def Health(self, request: pb.HealthRequest, context: object) -> pb.HealthResponse:
        self.calls += 1
        return pb.HealthResponse(status=pb.SERVING_STATUS_LOADING)


@pytest.fixture
def replicas() -> Iterator[list[Replica]]:
    with ExitStack() as stack:
        yield [stack.enter_context(Replica(free_port())) for _ in range(3)]


def target(replicas: list[Replica]) -> str:
    return "ipv4:" + ",".join(each.address for each in replicas)


def spread(client: Client, replicas: list[Replica]) -> list[int]:
    """How many of twelve calls each server gets, once the client has connected to all."""
    while not all(each.calls for each in replicas):
        client.health()
    before = [each.calls for each in replicas]
    for _ in range(12):
        client.health()
    return [each.calls - count for each, count in zip(replicas, before, strict=True)]


def test_calls_are_spread_evenly_over_the_addresses(replicas: list[Replica]) -> None:
    with Client(target(replicas)) as client:
        assert spread(client, replicas) == [4, 4, 4]


def test_a_server_that_reports_not_serving_gets_no_call_where_its_health_is_asked_for(
    replicas: list[Replica],
) -> None:
    replicas[1].report(NOT_SERVING)
    with Client(target(replicas)) as unchecked:
        assert spread(unchecked, replicas) == [4, 4, 4]
    before = replicas[1].calls
    with Client(target(replicas), **CHECKED) as client:
        for _ in range(12):
            client.health()
    assert replicas[1].calls == before


def test_one_address_can_be_kept_to(replicas: list[Replica]) -> None:
    with Client(target(replicas), balancing=BalancingConfig(policy="pick_first")) as client:
        for _ in range(12):
            client.health()
    assert sorted(each.calls for each in replicas) == [0, 0, 12]


def test_the_state_of_a_single_server_stays_visible_unless_its_health_is_asked_for(
    replicas: list[Replica], ask: Ask
) -> None:
    server = replicas[0]
    server.report(NOT_SERVING)
    assert ask(server.address, "health").status is ServingStatus.LOADING
    with pytest.raises(UnavailableError) as caught:
        ask(server.address, "health", options=CHECKED)
    assert caught.value.message.endswith("no server there reports that it is serving")


def test_the_command_asks_for_health_by_option_and_by_environment(
    replicas: list[Replica], cxr: Run, monkeypatch: pytest.MonkeyPatch
) -> None:
    replicas[0].report(NOT_SERVING)
    where = ["health", "--server", replicas[0].address, "--max-attempts", 1]
    assert "LOADING" in cxr(*where)[1]
    assert "no server there reports" in cxr(*where, "--health-check")[2]
    monkeypatch.setenv("CXR_HEALTH_CHECK", "1")
    assert "no server there reports" in cxr(*where)[2]
    monkeypatch.setenv("CXR_HEALTH_CHECK", "maybe")
    assert "CXR_HEALTH_CHECK: CXR_HEALTH_CHECK=maybe is neither" in cxr(*where)[2]
