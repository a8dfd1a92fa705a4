"""A server that is not reached: the cause is told at once and in the end."""

import asyncio
import logging
import socket
import subprocess
import sys
import threading
from collections.abc import Iterator
from contextlib import contextmanager

import grpc
import pytest

from clients import PNG, Ask
from cxr.v1 import chest_xray_pb2 as pb
from cxr_client import (
    AsyncClient,
    DeadlineError,
    ProtocolError,
    RetryConfig,
    UnavailableError,
    calls,
)
from cxr_client.config import Settings
from cxr_client.link import Link
from cxr_client.steps import Connect, Pause, Send
from cxr_client.testing import FakeServer, Hold, failure
from trust.ports import free_port

ONCE = RetryConfig(max_attempts=1)


@contextmanager
def silent_listener() -> Iterator[str]:
    """An address that accepts connections and never says anything."""
    with socket.create_server(("127.0.0.1", 0)) as listener:
        yield f"127.0.0.1:{listener.getsockname()[1]}"


@contextmanager
def full_backlog() -> Iterator[str]:
    """An address whose connections are never accepted: packets go nowhere."""
    with socket.socket() as listener, socket.socket() as first, socket.socket() as second:
        listener.bind(("127.0.0.1", 0))
        listener.listen(0)
        for each in (first, second):
            each.setblocking(False)
            each.connect_ex(listener.getsockname())
        yield f"127.0.0.1:{listener.getsockname()[1]}"


@contextmanager
def refused() -> Iterator[str]:
    yield f"127.0.0.1:{free_port()}"


@contextmanager
def unresolved() -> Iterator[str]:
    yield "nosuch.invalid:50051"


@contextmanager
def no_socket() -> Iterator[str]:
    yield "unix:/nosuch/cxr.sock"


OUTAGES = {
    "refused": (refused, "connection refused"),
    "unresolved": (unresolved, "the name cannot be resolved"),
    "silent": (silent_listener, "nothing answers there"),
    "black hole": (full_backlog, "nothing answers there"),
    "no socket": (no_socket, "there is no such socket"),
}


@pytest.mark.parametrize(
    ("name", "timeout_s"), [*((name, 0.6) for name in OUTAGES), ("silent", 2.5)]
)
def test_the_cause_is_told_however_short_the_deadline(
    ask: Ask, name: str, timeout_s: float
) -> None:
    outage, cause = OUTAGES[name]
    with outage() as server, pytest.raises(UnavailableError) as caught:
        ask(server, "predict", PNG, timeout_s=timeout_s, options={"insecure": True})
    assert caught.value.message == f"no connection to {server}: {cause}"
    assert caught.value.code is grpc.StatusCode.UNAVAILABLE
    assert caught.value.request_id


@pytest.mark.parametrize("name", OUTAGES)
def test_an_outage_is_logged_before_the_deadline_and_once(
    ask: Ask, caplog: pytest.LogCaptureFixture, name: str
) -> None:
    outage, cause = OUTAGES[name]
    timeout_s = 1.2 if cause == "nothing answers there" else 0.6
    with outage() as server, pytest.raises(UnavailableError):
        ask(server, "predict", PNG, timeout_s=timeout_s, options={"insecure": True})
    (record,) = [each for each in caplog.records if each.name == "cxr_client"]
    assert record.levelno == logging.WARNING
    assert record.getMessage() == f"no connection to {server}: {cause}; trying again"


def test_a_call_that_is_not_repeated_logs_nothing(
    ask: Ask, caplog: pytest.LogCaptureFixture
) -> None:
    with refused() as server, pytest.raises(UnavailableError):
        ask(server, "predict", PNG, options={"retry": ONCE})
    assert not [each for each in caplog.records if each.name == "cxr_client"]


async def test_many_calls_log_one_outage_and_its_end(caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.INFO, "cxr_client")
    with refused() as server:
        async with AsyncClient(server, timeout_s=100) as client:
            calls = [asyncio.create_task(client.predict(PNG)) for _ in range(20)]
            async with asyncio.timeout(60):
                while not caplog.records:
                    await asyncio.sleep(0.01)
            with FakeServer(address=server) as fake:
                await asyncio.gather(*calls)
                await client.predict(PNG)
                assert len(fake.calls) == 21
    assert [(each.levelname, each.getMessage()) for each in caplog.records] == [
        ("WARNING", f"no connection to {server}: connection refused; trying again"),
        ("INFO", f"{server} answers"),
    ]


def test_without_configuration_an_outage_shows_on_standard_error() -> None:
    code = (
        "from cxr_client import Client, UnavailableError\n"
        "try:\n    Client('127.0.0.1:1', timeout_s=1).health()\n"
        "except UnavailableError as error:\n    print(error.message)"
    )
    done = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, timeout=100, check=True
    )
    assert done.stdout == "no connection to 127.0.0.1:1: connection refused\n"
    assert done.stderr == "no connection to 127.0.0.1:1: connection refused; trying again\n"


@pytest.mark.slow
def test_a_server_that_was_reached_and_does_not_answer_in_time_is_a_deadline(
    fake: FakeServer, ask: Ask
) -> None:
    hold = Hold()
    fake.script(hold)
    with pytest.raises(DeadlineError) as caught:
        ask(fake.address, "predict", PNG, timeout_s=2, request_id="abc")
    hold.release()
    assert caught.value.message == "no answer within 2 s"
    assert caught.value.code is grpc.StatusCode.DEADLINE_EXCEEDED
    assert caught.value.request_id == "abc"


def test_what_a_proxy_says_is_kept(fake: FakeServer, ask: Ask) -> None:
    fake.script(*[failure("UNAVAILABLE", message="no healthy upstream")] * 5)
    with pytest.raises(UnavailableError) as caught:
        ask(fake.address, "predict", PNG, options={"retry": ONCE})
    assert caught.value.message == f"no connection to {fake.address}: no healthy upstream"


def test_waiting_ends_when_the_service_is_serving(fake: FakeServer, ask: Ask) -> None:
    loading = pb.HealthResponse(status=pb.SERVING_STATUS_LOADING)
    serving = pb.HealthResponse(status=pb.SERVING_STATUS_SERVING)
    fake.answer("Health", loading)

    def load(_: object) -> None:
        if len(fake.calls) == 3:
            fake.answer("Health", serving)

    fake.script(*[load] * 3)
    assert ask(fake.address, "wait_until_ready", 20).serving
    assert len(fake.calls) == 3


@pytest.mark.parametrize(
    "fault",
    [
        failure("UNAVAILABLE", "DRAINING", retry_after_s=0.1),
        failure("UNAVAILABLE", "MODEL_LOADING", retry_after_s=3600),
        failure("UNAVAILABLE"),
        failure("CANCELLED"),
        failure("DEADLINE_EXCEEDED"),
        failure("RESOURCE_EXHAUSTED", "QUEUE_FULL", retry_after_s=3600),
        failure("NOT_FOUND", message="Application metadata not set. Please ensure that ..."),
    ],
    ids=["draining", "loading", "proxy", "stopping", "slow", "full", "ray"],
)
def test_waiting_goes_on_through_every_temporary_answer(
    fake: FakeServer, ask: Ask, fault: object
) -> None:
    fake.script(*[fault] * 3)
    assert ask(fake.address, "wait_until_ready", 60).serving
    assert len(fake.calls) == 4


def test_waiting_goes_on_until_the_server_is_there(ask: Ask) -> None:
    stop = threading.Event()

    def serve(server: str) -> None:
        with FakeServer(address=server):
            stop.wait(100)

    with refused() as server:
        serving = threading.Timer(1, serve, [server])
        serving.start()
        assert ask(server, "wait_until_ready", 60).serving
        stop.set()
        serving.join()


@pytest.mark.parametrize("name", OUTAGES)
def test_waiting_in_vain_tells_the_cause(ask: Ask, name: str) -> None:
    outage, cause = OUTAGES[name]
    with outage() as server, pytest.raises(UnavailableError) as caught:
        ask(server, "wait_until_ready", 0.6, options={"insecure": True})
    assert caught.value.message == (
        f"{server} was not ready within 0.6 s: no connection to {server}: {cause}"
    )


@pytest.mark.slow
def test_waiting_for_a_service_that_never_serves_ends_in_time_and_tells_its_last_answer(
    fake: FakeServer, ask: Ask
) -> None:
    fake.answer("Health", pb.HealthResponse(status=pb.SERVING_STATUS_FAILED))
    hold = Hold()
    fake.script(lambda context: None, hold)  # the second attempt is cut short by the deadline
    with pytest.raises(DeadlineError, match="not ready within 2 s: its status was FAILED"):
        ask(fake.address, "wait_until_ready", 2)
    hold.release()


def test_waiting_fails_at_once_on_a_permanent_error(fake: FakeServer, ask: Ask) -> None:
    fake.script(failure(grpc.StatusCode.UNIMPLEMENTED))
    with pytest.raises(ProtocolError):
        ask(fake.address, "wait_until_ready", 20)


class Failed:
    """A call that gRPC itself has ended."""

    def __init__(self, code: grpc.StatusCode, details: str) -> None:
        self._code, self._details = code, details

    def code(self) -> grpc.StatusCode:
        return self._code

    def details(self) -> str:
        return self._details

    def trailing_metadata(self) -> None:
        return None


@pytest.mark.parametrize("reconnected", [True, False])
def test_a_deadline_that_passes_while_reconnecting_is_told_with_the_cause(
    reconnected: bool,
) -> None:
    refusal = Failed(grpc.StatusCode.UNAVAILABLE, "last error: UNKNOWN: Connection refused")
    late = Failed(grpc.StatusCode.DEADLINE_EXCEEDED, "Deadline Exceeded")
    link = Link(Settings(retry=RetryConfig(max_attempts=2)))
    steps = calls.health(link, 60, None)
    assert isinstance(steps.send(None), Connect)
    assert isinstance(steps.send(False), Send)
    assert isinstance(steps.send(refusal), Pause)
    assert isinstance(steps.send(None), Connect)
    assert isinstance(steps.send(reconnected), Send)
    with pytest.raises(DeadlineError if reconnected else UnavailableError) as caught:
        steps.send(late)
    assert ("connection refused" in caught.value.message) is not reconnected


async def test_fifty_calls_in_flight_survive_a_restart() -> None:
    address = f"127.0.0.1:{free_port()}"
    arrived = threading.Semaphore(0)
    never = threading.Event()

    def hang(context: grpc.ServicerContext) -> None:
        arrived.release()
        while context.is_active() and not never.wait(0.05):
            pass

    with FakeServer(address=address) as first:
        first.script(*[hang] * 50)
        async with AsyncClient(address, max_in_flight=50, timeout_s=100) as client:
            calls = [asyncio.create_task(client.predict(PNG)) for _ in range(50)]
            for _ in range(16):  # as many as the fake server works on
                assert await asyncio.to_thread(arrived.acquire, timeout=60)
            await asyncio.to_thread(first.stop)
            await asyncio.sleep(0.5)
            with FakeServer(address=address) as second:
                answers = await asyncio.gather(*calls)
                assert len(second.calls) == 50
    assert all(each.findings for each in answers)
