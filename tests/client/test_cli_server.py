"""`cxr health`, `cxr model`, `cxr version`, and how each command reaches the server."""

import json
import re
import socket
from importlib.metadata import version
from pathlib import Path

import pytest
from google.protobuf.duration_pb2 import Duration

from authority import Authority
from cxr.v1 import chest_xray_pb2 as pb
from cxr_client.testing import FakeServer
from cxr_client.testing.answers import NOTICE
from cxr_command import Run
from trust.ports import free_port


@pytest.mark.slow
def test_the_exit_status_of_health_reflects_the_state_of_the_server(
    cxr: Run, fake: FakeServer
) -> None:
    status, out, _ = cxr("health")
    assert status == 0
    assert out == (
        "SERVING: fake 1 on fake (CPU, float32), server fake, up 60 s, 0 queued, 0 in flight\n"
    )
    fake.answer("Health", pb.HealthResponse(status=pb.SERVING_STATUS_DRAINING))
    status, out, _ = cxr("health", "--json")
    assert status == 1
    assert json.loads(out)["status"] == "DRAINING"
    status, out, err = cxr("health", "--wait", "2")
    assert (status, out) == (1, "")
    assert "not ready within 2 s: its status was DRAINING" in err
    assert cxr("health", "--server", "127.0.0.1:1", "--max-attempts", "1")[0] == 3


def test_health_says_nothing_of_a_model_that_is_not_loaded(cxr: Run, fake: FakeServer) -> None:
    loading = pb.HealthResponse(
        status=pb.SERVING_STATUS_LOADING, server_version="1.2", uptime_duration=Duration(seconds=3)
    )
    fake.answer("Health", loading)
    assert cxr("health") == (1, "LOADING: server 1.2, up 3 s\n", "")


def test_model_describes_findings_and_limits(cxr: Run) -> None:
    status, out, _ = cxr("model")
    assert status == 0
    assert out.splitlines()[0].split() == ["model", "fake", "1"]
    assert "Effusion" in out
    assert NOTICE in out
    (limits,) = (line for line in out.splitlines() if line.startswith("limits "))
    assert re.search(r" [\d.]+ MiB, .* [\d.]+ megapixels; [\d.]+ megapixels drawn", limits)
    _, out, _ = cxr("model", "--json")
    assert json.loads(out)["findings"][0]["threshold"] == 0.25


def test_the_version_is_the_package_s(cxr: Run) -> None:
    assert cxr("--version") == (0, f"cxr {version('cxr-client')}\n", "")


def test_the_versions_of_both_sides_are_shown(cxr: Run, fake: FakeServer) -> None:
    status, out, err = cxr("version")
    assert (status, err) == (0, "")
    own, servers = out.splitlines()
    assert own.split() == ["cxr", version("cxr-client")]
    assert servers.split() == ["cxr-server", "fake", "at", fake.address]


def test_the_own_version_is_shown_without_a_server(cxr: Run) -> None:
    status, out, err = cxr("version", "--server", "127.0.0.1:1", "--max-attempts", 1)
    assert status == 3
    assert out.split() == ["cxr", version("cxr-client")]
    assert len(err.splitlines()) == 1


def test_predict_passes_every_option_on(cxr: Run, fake: FakeServer, folder: Path) -> None:
    token = folder / "token"
    token.write_text("s3cret\n")
    arguments = ["--top-k", 3, "--strict", "--no-cache", "--timeout", 7, "--token-file", token]
    arguments += ["--metadata", "application=cxr"]
    assert cxr("predict", *arguments, folder / "a.JPG")[0] == 0
    (call,) = fake.calls
    assert call.request == pb.PredictRequest(
        image=bytes(2), top_k=3, strict_input=True, cache=pb.CACHE_MODE_BYPASS
    )
    assert call.metadata["authorization"] == "Bearer s3cret"
    assert call.metadata["application"] == "cxr"
    assert 0 < call.time_remaining_s <= 7.7  # Rounded up on the wire.


def test_the_token_comes_from_the_environment_too(
    cxr: Run, fake: FakeServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("CXR_TOKEN", "from-env")
    assert cxr("health")[0] == 0
    assert fake.calls[0].metadata["authorization"] == "Bearer from-env"


@pytest.mark.parametrize("typed", [("ca", "cert", "key"), ("ca",), ()])
def test_certificates_come_from_options_and_for_the_rest_from_the_environment(
    cxr: Run, authority: Authority, monkeypatch: pytest.MonkeyPatch, typed: tuple[str, ...]
) -> None:
    files = {"ca": "ca.pem", "cert": "client.pem", "key": "client.key"}
    arguments: list[object] = []
    for name, file in files.items():
        path = authority.folder / file
        if name in typed:
            arguments += [f"--{name}-file", path]
        else:
            monkeypatch.setenv(f"CXR_{name.upper()}_FILE", str(path))
    with FakeServer(credentials=authority.server_credentials(mutual=True)) as server:
        assert cxr("health", "--server", server.address, *arguments)[0] == 0


def test_an_outage_is_told_with_its_cause_before_it_is_waited_out(cxr: Run, folder: Path) -> None:
    server = f"127.0.0.1:{free_port()}"
    status, out, err = cxr("predict", "--server", server, "--timeout", 2, folder)
    assert (status, out) == (3, "")
    told, failed, summary = err.splitlines()
    assert told == f"cxr: no connection to {server}: connection refused; trying again"
    assert f"no connection to {server}: connection refused [UNAVAILABLE, request " in failed
    assert summary.startswith("0 answered, 1 failed, 3 not answered in ")


def test_a_server_that_says_nothing_is_unreachable_whatever_the_timeout(cxr: Run) -> None:
    with socket.create_server(("127.0.0.1", 0)) as silent:
        server = f"127.0.0.1:{silent.getsockname()[1]}"
        status, _, err = cxr("health", "--server", server, "--timeout", 2)
    assert status == 3
    assert (
        err.splitlines()[0]
        == f"cxr: no connection to {server}: nothing answers there; trying again"
    )
