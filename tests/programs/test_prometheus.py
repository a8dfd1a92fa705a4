"""The metrics, read by a real promtool and a real Prometheus (Debian package `prometheus`)."""

import json
import subprocess
import time
import urllib.error
import urllib.parse
import urllib.request
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import grpc
import pytest

from cxr.v1 import chest_xray_pb2 as pb
from cxr.v1.chest_xray_pb2_grpc import ChestXrayServiceStub
from images import chest_like, png
from serving import ServerProcess
from trust.ports import free_port

pytestmark = pytest.mark.programs
CALLS = 3


@pytest.fixture(scope="module")
def metrics() -> Iterator[str]:
    """Address of the metrics of a server that has answered some calls."""
    address = f"127.0.0.1:{free_port()}"
    with ServerProcess("--metrics-listen", address) as process:
        with grpc.insecure_channel(process.address) as channel:
            stub = ChestXrayServiceStub(channel)
            for seed in range(CALLS):
                stub.Predict(pb.PredictRequest(image=png(chest_like(seed=seed))))
        yield address
        assert process.stop() == 0


def test_promtool_reports_no_problems(metrics: str) -> None:
    with urllib.request.urlopen(f"http://{metrics}/metrics", timeout=10) as response:
        exposition = response.read()
    command = ["promtool", "check", "metrics"]
    done = subprocess.run(command, input=exposition, capture_output=True, check=False)
    assert (done.returncode, done.stderr) == (0, b"")


def test_prometheus_scrapes_the_server_and_answers_queries(metrics: str, tmp_path: Path) -> None:
    config = {
        "global": {"scrape_interval": "1s"},
        "scrape_configs": [{"job_name": "cxr", "static_configs": [{"targets": [metrics]}]}],
    }
    path = tmp_path / "prometheus.yml"
    path.write_text(json.dumps(config))  # JSON is YAML
    address = f"127.0.0.1:{free_port()}"
    data = ("--storage.tsdb.path", str(tmp_path / "data"), "--web.listen-address", address)
    prometheus = subprocess.Popen(
        ["prometheus", "--config.file", str(path), *data],
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
    )
    try:
        query = 'rpc_server_call_duration_seconds_count{rpc_method=~".*Predict"}'
        assert eventually(address, "up") == 1
        assert eventually(address, f"sum({query})") == CALLS
    finally:
        prometheus.terminate()
        prometheus.wait(30)


def eventually(address: str, query: str) -> float:
    """The first value that Prometheus has for a query."""
    url = f"http://{address}/api/v1/query?{urllib.parse.urlencode({'query': query})}"
    until = time.monotonic() + 60
    while time.monotonic() < until:
        try:
            with urllib.request.urlopen(url, timeout=5) as response:
                found: list[Any] = json.load(response)["data"]["result"]
        except (urllib.error.URLError, ConnectionError):
            found = []
        if found:
            return float(found[0]["value"][1])
        time.sleep(0.2)
    raise AssertionError(f"Prometheus has no value for {query}")
