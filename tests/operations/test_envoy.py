"""The example of Envoy, before three servers, for callers that neither balance nor retry."""

import json
import re
import signal
import subprocess
import threading
import time
from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any
from urllib.request import urlopen

import grpc
import pytest
import yaml

from cxr.v1 import chest_xray_pb2 as pb
from cxr.v1.chest_xray_pb2_grpc import ChestXrayServiceStub
from cxr_client import Client, CxrError, ImageError, RetryConfig
from images import chest_like, png
from operations.tools import program
from replicas import Replica, answers, replicas
from trust.certificates import Authority
from trust.ports import free_port

pytestmark = pytest.mark.operations

EXAMPLE = Path(__file__).parents[2] / "deploy" / "envoy" / "envoy.yaml"
ONCE = {"retry": RetryConfig(max_attempts=1), "timeout_s": 60}


def test_envoy_accepts_the_example() -> None:
    validate(EXAMPLE)


def test_envoy_accepts_the_example_with_tls(tmp_path: Path) -> None:
    authority = Authority(tmp_path / "ca", "ca")
    certificate, key = authority.sign(tmp_path / "signed", "server")
    text = re.sub(r"(?m)^( *)# (?=transport_socket:| )", r"\1", EXAMPLE.read_text())
    files = {"tls.crt": certificate, "tls.key": key, "ca.crt": authority.certificate}
    for name, file in files.items():
        text = text.replace(f"/etc/envoy/tls/{name}", str(file))
    path = tmp_path / "envoy.yaml"
    path.write_text(text)
    resources = yaml.safe_load(text)["static_resources"]
    assert "transport_socket" in resources["clusters"][0]
    assert "transport_socket" in resources["listeners"][0]["filter_chains"][0]
    validate(path)


def validate(path: Path) -> None:
    command = [program("envoy"), "--mode", "validate", "--config-path", str(path)]
    done = subprocess.run(command, capture_output=True, text=True, check=False, timeout=60)
    assert done.returncode == 0, done.stderr


class Envoy:
    """The example on free ports, before these servers. Use as a context manager."""

    def __init__(self, servers: list[Replica], folder: Path) -> None:
        self.port, self.admin = free_port(), free_port()
        self.address = f"127.0.0.1:{self.port}"
        config = yaml.safe_load(EXAMPLE.read_text())
        resources = config["static_resources"]
        place(config["admin"], self.admin)
        place(resources["listeners"][0], self.port)
        (group,) = resources["clusters"][0]["load_assignment"]["endpoints"]
        group["lb_endpoints"] = [
            {"endpoint": place({"address": {"socket_address": {}}}, each.port)} for each in servers
        ]
        self._path = folder / "envoy.json"
        self._path.write_text(json.dumps(config))

    def __enter__(self) -> "Envoy":
        command = [program("envoy"), "--config-path", str(self._path), "--use-dynamic-base-id"]
        self._process = subprocess.Popen(
            [*command, "--concurrency", "2", "--log-level", "error"], stderr=subprocess.DEVNULL
        )
        wait(lambda: self._get("ready").startswith("LIVE"))
        return self

    def __exit__(self, *_: object) -> None:
        self._process.terminate()
        self._process.wait(30)

    def healthy(self) -> int:
        """The number of servers that pass the health checks."""
        name = "cluster.cxr.membership_healthy"
        return int(self._get(f"stats?filter={name}").removeprefix(f"{name}: "))

    def _get(self, path: str) -> str:
        try:
            with urlopen(f"http://127.0.0.1:{self.admin}/{path}", timeout=5) as page:
                text: str = page.read().decode()
                return text
        except OSError:
            return ""


def place(owner: dict[str, Any], port: int) -> dict[str, Any]:
    owner["address"]["socket_address"] |= {"address": "127.0.0.1", "port_value": port}
    return owner


def wait(for_what: Any, timeout_s: float = 60) -> None:
    until = time.monotonic() + timeout_s
    while not for_what():
        assert time.monotonic() < until
        time.sleep(0.05)


@pytest.fixture(scope="module")
def servers() -> Iterator[list[Replica]]:
    with replicas(3) as found:
        yield found


@pytest.fixture(scope="module")
def envoy(servers: list[Replica], tmp_path_factory: pytest.TempPathFactory) -> Iterator[Envoy]:
    with Envoy(servers, tmp_path_factory.mktemp("envoy")) as running:
        wait(lambda: running.healthy() == 3)
        yield running


@contextmanager
def load(address: str, threads: int = 3) -> Iterator[list[str]]:
    """Predict all the time, one call at a time in each thread; yields the errors so far."""
    errors: list[str] = []
    stop = threading.Event()

    def ask(number: int) -> None:
        seed = 1000 * number
        with Client(address, **ONCE) as client:
            while not stop.is_set():
                try:
                    client.predict(png(chest_like(seed=seed)))
                except CxrError as error:
                    errors.append(f"{error.code}: {error.message}")
                seed += 1

    running = [threading.Thread(target=ask, args=(number,)) for number in range(threads)]
    for each in running:
        each.start()
    try:
        yield errors
    finally:
        stop.set()
        for each in running:
            each.join()


def test_answers_and_errors_pass_unchanged(envoy: Envoy) -> None:
    with Client(envoy.address, **ONCE) as client:
        assert client.predict(png(chest_like()), request_id="mine-1").request_id == "mine-1"
        with pytest.raises(ImageError) as caught:
            client.predict(b"junk", request_id="mine-2")
    assert caught.value.reason == "IMAGE_FORMAT_UNSUPPORTED"
    assert caught.value.request_id == "mine-2"


def test_the_limit_on_requests_is_that_of_the_server(envoy: Envoy) -> None:
    codes = []
    with grpc.insecure_channel(envoy.address) as channel:
        stub = ChestXrayServiceStub(channel)
        for mib in (31, 33):
            with pytest.raises(grpc.RpcError) as caught:
                stub.Predict(pb.PredictRequest(image=bytes(mib * 2**20)), timeout=60)
            codes.append(caught.value.code())
    assert codes == [grpc.StatusCode.INVALID_ARGUMENT, grpc.StatusCode.RESOURCE_EXHAUSTED]


def test_calls_on_one_connection_are_spread_over_the_servers(envoy: Envoy) -> None:
    with Client(envoy.address, **ONCE) as client:
        found: Counter[int] = Counter()
        while len(found) < 3:
            found += answers(client)


def test_draining_costs_no_call_and_a_kill_only_those_that_it_interrupts(
    envoy: Envoy, servers: list[Replica]
) -> None:
    first, second, third = servers
    with load(envoy.address) as errors, Client(envoy.address, **ONCE) as client:
        second.server.process.send_signal(signal.SIGTERM)
        wait(lambda: second.number not in answers(client))
        assert second.number not in answers(client)
        assert errors == []

        third.kill()
        wait(lambda: envoy.healthy() == 1)  # of three: below half, where Envoy would panic
        interrupted = list(errors)
        assert answers(client) == {first.number: 12}
        assert all("it closed the connection" in error for error in interrupted)

        third.restart()
        wait(lambda: third.number in answers(client))
        assert errors == interrupted
