"""A start that fails, signals while loading, SIGHUP, and a user without a home folder."""

import json
import os
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path
from typing import Any

import grpc
import pytest
from grpc_health.v1 import health_pb2, health_pb2_grpc
from grpc_reflection.v1alpha import reflection_pb2

from cxr.v1 import chest_xray_pb2 as pb
from cxr.v1.chest_xray_pb2_grpc import ChestXrayServiceStub
from cxr_server.access import new_token
from images import png
from serving import PROGRAM, ServerProcess, with_engine
from trust.certificates import Authority
from trust.ports import free_port

pytestmark = pytest.mark.usefixtures("decoding_in_threads")
NOT_SERVING = health_pb2.HealthCheckResponse.NOT_SERVING
REQUEST = pb.PredictRequest(image=png())


def failed_start(*flags: str, program: tuple[str, ...] = PROGRAM) -> tuple[int, list[dict]]:
    """Return the exit status and the log's lines of a server that does not start."""
    command = [*program, "serve", "--listen", "127.0.0.1:0", *flags]
    done = subprocess.run(command, capture_output=True, text=True, timeout=100, check=False)
    assert done.stdout == ""
    return done.returncode, [json.loads(line) for line in done.stderr.splitlines()]


@pytest.mark.slow
def test_a_model_that_cannot_be_loaded_ends_the_start_at_once_with_one_error() -> None:
    body = 'raise RuntimeError("first\\\\nno such device")'
    flags = ("--drain-pause-s", "1000")
    status, events = failed_start(*flags, program=with_engine(body))
    assert status == 1
    assert [event["event"] for event in events] == ["starting", "failed"]
    assert events[-1]["level"] == "error"
    assert "no such device" in events[-1]["error"]


@pytest.mark.slow
def test_an_unexpected_error_at_the_start_is_one_line_with_its_traceback() -> None:
    status, events = failed_start(program=with_engine('raise KeyError("surprise")'))
    assert status == 1
    assert [event["event"] for event in events] == ["starting", "failed"]
    assert events[-1]["error"] == "KeyError: 'surprise'"
    assert "Traceback" in events[-1]["exception"]


def test_settings_that_cannot_work_are_one_line_of_json() -> None:
    status, (event,) = failed_start("--max-in-flight", "-1")
    assert (status, event["event"], event["level"]) == (2, "failed", "error")
    assert "--max-in-flight -1" in event["error"]


def test_wrong_usage_is_one_line_of_json() -> None:
    status, (event,) = failed_start("--max-in-flght", "3")
    assert (status, event["event"], event["level"]) == (2, "failed", "error")
    assert "did you mean --max-in-flight?" in event["error"]


def test_settings_that_cannot_work_are_text_in_the_console_format() -> None:
    command = [*PROGRAM, "serve", "--max-in-flight", "-1", "--log-format=console"]
    done = subprocess.run(command, capture_output=True, text=True, timeout=100, check=False)
    assert (done.returncode, done.stderr.count("\n")) == (2, 1)
    assert done.stderr.startswith("cxr-server: ")


@pytest.mark.slow
def test_a_failed_start_keeps_its_status_when_stderr_is_full() -> None:
    for flags, status in (("--max-in-flight", "-1"), 2), (("--model", "nosuch"), 1):
        with open("/dev/full", "w") as full:
            command = [*PROGRAM, "serve", "--listen", "127.0.0.1:0", *flags]
            done = subprocess.run(command, stderr=full, timeout=100, check=False)
        assert done.returncode == status


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
def test_a_signal_before_the_log_is_there_ends_the_start_with_one_line(
    number: signal.Signals,
) -> None:
    program = (
        "import importlib, os, sys\n"
        "from cxr_server.__main__ import main\n"
        f"importlib.import_module = lambda name: os.kill(os.getpid(), {int(number)})\n"
        "sys.exit(main())\n"
    )
    status, (event,) = failed_start(program=(sys.executable, "-c", program))
    assert status == 128 + number
    assert (event["event"], event["level"]) == ("failed", "error")
    assert number.name in event["error"]


@pytest.mark.slow
@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
def test_a_signal_while_loading_ends_the_process_at_once(number: signal.Signals) -> None:
    address = f"127.0.0.1:{free_port()}"
    command = [*with_engine("time.sleep(1000)"), "serve", "--listen", address]
    process = subprocess.Popen(command, stderr=subprocess.PIPE, text=True)
    seen: list[int] = []
    with process, grpc.insecure_channel(address) as channel:
        watch = health_pb2_grpc.HealthStub(channel).Watch(
            health_pb2.HealthCheckRequest(), wait_for_ready=True, timeout=90
        )
        with suppress(grpc.RpcError):  # the end of the process
            for response in watch:
                seen.append(response.status)
                process.send_signal(number)
        assert process.wait(90) == 128 + number
        assert process.stderr
        events = [json.loads(line) for line in process.stderr]
    assert seen == [NOT_SERVING]
    assert [event["event"] for event in events] == ["starting", "stopped at once"]
    assert events[-1]["signal"] == number.name


@pytest.mark.slow
@pytest.mark.parametrize("version", ["v1", "v1alpha"])
def test_a_stream_of_reflection_that_a_tool_keeps_does_not_delay_the_end(version: str) -> None:
    asking = reflection_pb2.ServerReflectionRequest(list_services="")
    closed = threading.Event()

    def requests() -> Iterator[reflection_pb2.ServerReflectionRequest]:
        yield asking
        closed.wait()

    with ServerProcess("--grace-s", "1000") as server, grpc.insecure_channel(server.address) as it:
        reflect = it.stream_stream(
            f"/grpc.reflection.{version}.ServerReflection/ServerReflectionInfo",
            request_serializer=reflection_pb2.ServerReflectionRequest.SerializeToString,
            response_deserializer=reflection_pb2.ServerReflectionResponse.FromString,
        )
        answers = reflect(requests())
        assert next(answers).list_services_response.service
        assert server.stop() == 0
        assert list(answers) == []
        closed.set()


@pytest.mark.slow
def test_a_drain_tells_its_signal_and_a_second_one_is_logged_after_all_calls() -> None:
    with ServerProcess("--drain-pause-s", "1000") as server:
        server.process.terminate()
        while "draining" not in server.log:
            time.sleep(0.01)
        with grpc.insecure_channel(server.address) as channel:
            for _ in range(20):
                ChestXrayServiceStub(channel).DescribeModel(pb.DescribeModelRequest(), timeout=60)
        assert server.stop(signal.SIGINT) == 128 + signal.SIGINT
    told = [(event["event"], event.get("signal")) for event in server.events]
    assert told[-23:] == [
        ("signal received", "SIGTERM"),
        ("draining", None),
        *[("call", None)] * 20,
        ("stopped at once", "SIGINT"),
    ]


@pytest.mark.slow
def test_sighup_reloads_tokens_and_certificates_and_stops_nothing(tmp_path: Path) -> None:
    authority = Authority(tmp_path / "ca", "test CA")
    certificate, key = authority.sign(tmp_path / "server", "server")
    token, line = new_token("early")
    late, late_line = new_token("late")
    (tmp_path / "tokens").write_text(line)
    flags = ("--tls-cert", str(certificate), "--tls-key", str(key))
    with ServerProcess(*flags, "--tokens-file", str(tmp_path / "tokens")) as server:
        credentials = grpc.ssl_channel_credentials(authority.certificate.read_bytes())
        (tmp_path / "tokens").write_text(f"{line}\n{late_line}")
        server.process.send_signal(signal.SIGHUP)
        while "certificates reloaded" not in server.log:  # no call and no handshake is needed
            assert server.process.poll() is None
            time.sleep(0.01)
        with grpc.secure_channel(server.address, credentials) as channel:
            for each in (token, late):
                metadata = (("authorization", f"Bearer {each}"),)
                assert ChestXrayServiceStub(channel).Predict(REQUEST, metadata=metadata).findings
        assert server.stop() == 0
    told = [event for event in server.events if "reload" in event["event"]]
    assert [event["event"] for event in told] == [
        "reload requested",
        "tokens reloaded",
        "certificates reloaded",
    ]
    assert told[0]["of"] == ["tokens", "certificates"]
    assert told[1]["tokens"] == 2


@pytest.mark.slow
def test_sighup_at_any_time_stops_nothing() -> None:
    address = f"127.0.0.1:{free_port()}"
    command = [*PROGRAM, "serve", "--listen", address]
    with subprocess.Popen(command, stderr=subprocess.PIPE, text=True) as process:
        assert process.stderr
        first = process.stderr.readline()  # of what comes before the model is loaded
        assert json.loads(first)["event"] == "starting"
        with grpc.insecure_channel(address) as channel:
            stub = ChestXrayServiceStub(channel)
            for _ in range(100):
                process.send_signal(signal.SIGHUP)
                health = stub.Health(pb.HealthRequest(), wait_for_ready=True, timeout=90)
            while health.status != pb.SERVING_STATUS_SERVING:
                health = stub.Health(pb.HealthRequest(), timeout=90)
            assert stub.Predict(REQUEST).findings
        process.terminate()
        assert process.wait(90) == 0


# --- no home folder ---

HOMELESS = """
import pwd, sys
from cxr_server.__main__ import main
def unknown(uid):
    raise KeyError(uid)
pwd.getpwuid = unknown
sys.exit(main())
"""
VARIABLES = ("HOME", "XDG_CACHE_HOME", "XDG_DATA_HOME", "CXR_CACHE_DIR", "CXR_BUNDLE_HOME")


def homeless() -> tuple[str, ...]:
    """Return a program that runs the server as a user without HOME and entry in /etc/passwd."""
    without = ("env", *(word for name in VARIABLES for word in ("-u", name)))
    if os.geteuid():
        return (*without, sys.executable, "-c", HOMELESS)
    # The interpreter may lie in root's home folder.
    able = ("--inh-caps=+dac_override", "--ambient-caps=+dac_override")
    user = ("--reuid=54321", "--regid=54321", "--clear-groups")
    return ("setpriv", *user, *able, *without, *PROGRAM)


@pytest.mark.slow
def test_a_user_without_a_home_folder_can_serve() -> None:
    with ServerProcess(program=homeless()) as server:
        with grpc.insecure_channel(server.address) as channel:
            assert ChestXrayServiceStub(channel).Predict(REQUEST).findings
        assert server.stop() == 0
    warnings = [event for event in server.events if event["level"] != "info"]
    (warning,) = warnings
    assert "no home folder" in warning["detail"]


def run_homeless(*words: str) -> tuple[int, str, str]:
    done = subprocess.run(
        [*homeless(), *words], capture_output=True, text=True, timeout=300, check=False
    )
    return done.returncode, done.stdout, done.stderr


@pytest.mark.slow
def test_a_user_without_a_home_folder_can_use_the_other_commands() -> None:
    status, printed, _ = run_homeless("doctor")
    assert status == 0
    assert "ok   tracing: off; " in printed
    status, printed, _ = run_homeless("models", "--json")
    listed: dict[str, Any] = json.loads(printed)
    assert (status, listed["bundle_home"]) == (0, None)
    assert [bundle["name"] for bundle in listed["bundles"]] == ["phantom"]
    assert run_homeless("models")[0] == 0
    status, _, error = run_homeless("serve", "--model", "nosuch")
    assert status == 1
    assert "there is no bundle nosuch" in error
    status, _, error = run_homeless("prepare", "densenet121-res224-all")
    assert status == 1
    assert error.startswith("cxr-server: this user has no home folder")
