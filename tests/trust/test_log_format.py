"""What the lines of the log are, and what they say of the start, of calls and of libraries."""

import json
import os
import pty
import signal
import socket
import ssl
import subprocess
import sys
import time
from contextlib import suppress
from io import BytesIO
from pathlib import Path

import grpc
import pytest
from PIL import Image

from cxr.v1 import chest_xray_pb2 as pb
from cxr.v1.chest_xray_pb2_grpc import ChestXrayServiceStub
from cxr_server import __version__
from serving import ServerProcess, with_engine
from trust import raw_http2
from trust.certificates import Authority
from trust.test_log_streams import answered, running

pytestmark = [pytest.mark.slow, pytest.mark.usefixtures("decoding_in_threads")]
BROKEN = with_engine('raise RuntimeError("no such device")')


@pytest.fixture(scope="module")
def secured(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Path, Path]:
    """CA, certificate and key."""
    folder = tmp_path_factory.mktemp("tls")
    authority = Authority(folder / "ca", "test CA")
    return authority.certificate, *authority.sign(folder / "server", "server")


def test_every_line_is_json_whatever_arrives_at_the_port(
    secured: tuple[Path, Path, Path], tmp_path: Path
) -> None:
    ca, certificate, key = secured
    output = tmp_path / "output"
    flags = ("--tls-cert", str(certificate), "--tls-key", str(key), "--log-level", "debug")
    noisy = {**os.environ, "GRPC_VERBOSITY": "INFO"}
    with output.open("wb") as file, running(*flags, stdout=file, stderr=file, env=noisy) as started:
        process, address = started
        credentials = grpc.ssl_channel_credentials(ca.read_bytes())
        with grpc.secure_channel(address, credentials) as channel:
            stub = ChestXrayServiceStub(channel)
            stub.Health(pb.HealthRequest(), wait_for_ready=True, timeout=90)
        host, _, port = address.partition(":")
        for garbage in (b"GET / HTTP/1.1\r\n\r\n", b"\x16\x03\x01\x00\xff" + 300 * b"\xff", b""):
            with socket.create_connection((host, int(port)), 30) as connection, suppress(OSError):
                connection.sendall(garbage)
                connection.shutdown(socket.SHUT_WR)
                connection.recv(1000)
        unknown_ca = ssl.create_default_context()
        with (
            socket.create_connection((host, int(port)), 30) as connection,
            pytest.raises(ssl.SSLError),
        ):
            unknown_ca.wrap_socket(connection, server_hostname=host)
        while "Handshake" not in output.read_text():
            assert process.poll() is None
        process.terminate()
        process.wait(90)
    events = [json.loads(line) for line in output.read_text().splitlines()]
    assert {"starting", "native output", "call"} <= {event["event"] for event in events}
    assert all(event["timestamp"] for event in events if event.get("level"))


def test_port_scanners_write_no_log(secured: tuple[Path, Path, Path]) -> None:
    _, certificate, key = secured
    with ServerProcess("--tls-cert", str(certificate), "--tls-key", str(key)) as server:
        host, _, port = server.address.partition(":")
        for _ in range(20):
            with socket.create_connection((host, int(port)), 30) as connection, suppress(OSError):
                connection.sendall(b"GET / HTTP/1.1\r\n\r\n")
                connection.recv(1000)
        assert server.stop() == 0
    assert [event["event"] for event in server.events if "HTTP" in str(event)] == []
    assert "native output" not in server.log


def test_the_start_says_what_is_served_where_and_within_which_limits(
    secured: tuple[Path, Path, Path],
) -> None:
    ca, certificate, key = secured
    flags = ("--tls-cert", str(certificate), "--tls-key", str(key), "--tls-client-ca", str(ca))
    with ServerProcess(*flags, "--max-in-flight", "7", "--engine-threads", "1") as server:
        assert server.stop() == 0
    lines = {event["event"]: event for event in server.events}
    starting, serving = lines["starting"], lines["serving"]
    assert (starting["event"], starting["version"]) == ("starting", __version__)
    assert starting["settings"] == {
        "listen": "127.0.0.1:0",
        "decode_processes": 0,
        "max_in_flight": 7,
        "engine_threads": 1,
        "tls_cert": str(certificate),
        "tls_key": str(key),
        "tls_client_ca": str(ca),
    }
    expected = {
        "event": "serving",
        "level": "info",
        "address": server.address,
        "version": __version__,
        "model": "phantom",
        "engine": "openvino",
        "device": "CPU",
        "precision": "float32",
        "tls": "mutual",
        "tokens": False,
        "max_in_flight": 7,
        "max_request_mib": 32,
        "engine_threads": 1,
    }
    assert expected.items() <= serving.items()
    assert serving["model_version"]
    assert serving["decoding"].startswith("in ")
    assert server.facts.items() <= serving.items()


def test_a_call_names_its_caller_and_health_calls_are_logged_at_debug() -> None:
    with ServerProcess() as quiet, ServerProcess("--log-level", "debug") as loud:
        for server in (quiet, loud):
            answered(server.address, 2)
            assert server.stop() == 0
    methods = ("cxr.v1.ChestXrayService/Health", "cxr.v1.ChestXrayService/Predict")
    calls = [event for event in quiet.events if event["event"] == "call"]
    assert [call["method"] for call in calls] == [methods[1]] * 2
    assert [call["caller"] for call in calls] == ["host:127.0.0.1"] * 2
    calls = [event for event in loud.events if event["event"] == "call"]
    levels = {(call["method"], call["level"]) for call in calls}
    assert levels == {(methods[0], "debug"), (methods[1], "info")}


def on_a_terminal(*flags: str, **env: str) -> str:
    """Return what a server that cannot load its model writes on a terminal."""
    terminal, stderr = pty.openpty()
    command = [*BROKEN, "serve", "--listen", "127.0.0.1:0", *flags]
    without = {key: value for key, value in os.environ.items() if key != "NO_COLOR"}
    process = subprocess.Popen(command, stdout=stderr, stderr=stderr, env={**without, **env})
    os.close(stderr)
    text = b""
    with suppress(OSError):  # EIO, once the process has ended
        while data := os.read(terminal, 1000):
            text += data
    os.close(terminal)
    assert process.wait(90) == 1
    return text.decode()


def test_a_terminal_gets_text_in_colour_unless_no_color_is_set() -> None:
    assert "\x1b[" in on_a_terminal()
    plain = on_a_terminal(NO_COLOR="1")
    assert "\x1b[" not in plain
    assert "[info     ] starting" in plain
    assert plain.splitlines()[-1].startswith("cxr-server: openvino does not start on CPU")
    assert json.loads(on_a_terminal("--log-format", "json").splitlines()[-1])["level"] == "error"


def test_a_file_gets_no_colour() -> None:
    command = [*BROKEN, "serve", "--listen", "127.0.0.1:0", "--log-format", "console"]
    done = subprocess.run(command, capture_output=True, text=True, timeout=90, check=False)
    assert done.returncode == 1
    assert "starting" in done.stderr
    assert "\x1b[" not in done.stderr
    assert done.stderr.splitlines()[-1].startswith("cxr-server: openvino does not start on CPU")


def test_callers_that_hang_up_while_the_answer_is_sent_leave_no_traceback() -> None:
    picture = pb.RenderOptions(frame=pb.RENDER_FRAME_ORIGINAL, max_side_px=1600)
    large = BytesIO()
    Image.linear_gradient("L").resize((1600, 1600)).save(large, "PNG")
    request = pb.ExplainRequest(image=large.getvalue(), render=picture)
    method = "/cxr.v1.ChestXrayService/Explain"
    with ServerProcess() as server:
        for count in range(1, 9):
            caller = raw_http2.ask(server.address, method, request.SerializeToString())
            while server.log.count(method[1:]) < count:  # ended, but for the answer's way
                time.sleep(0.01)
            raw_http2.hang_up(caller)
        assert server.stop() == 0
    assert {event["level"] for event in server.events} == {"info"}


def test_the_level_error_logs_nothing_of_a_good_run_and_why_a_start_fails() -> None:
    with ServerProcess("--log-level", "error") as server:
        answered(server.address)
        assert server.stop() == 0
    assert server.log == ""
    command = [*BROKEN, "serve", "--listen", "127.0.0.1:0", "--log-level", "error"]
    done = subprocess.run(command, capture_output=True, text=True, timeout=90, check=False)
    (event,) = map(json.loads, done.stderr.splitlines())
    assert (event["event"], event["level"]) == ("failed", "error")


def test_a_crash_in_native_code_leaves_its_stack_on_stderr() -> None:
    with ServerProcess() as server:
        assert server.stop(signal.SIGSEGV) == -signal.SIGSEGV
        # A line of the log may come between the parts of the message.
        assert "Fatal Python error" in server.log
        assert "Segmentation fault" in server.log


def test_a_crash_ends_the_process_though_nobody_reads_stderr() -> None:
    with ServerProcess(stderr=subprocess.PIPE) as server:
        answered(server.address, 400)  # the pipe is full
        assert server.stop(signal.SIGSEGV) == -signal.SIGSEGV


CHATTY = """
import sys, logging, threading, warnings
from dataclasses import replace
from cxr_server.__main__ import main
from cxr_server.inference.engines.registry import ENGINES
spec = ENGINES["openvino"]
def fail():
    raise ValueError("thread\\nerror")
def chatty(*arguments):
    logging.getLogger("some.library").warning("said %s", "this")
    warnings.warn("careful")
    print("not a log line", file=sys.stderr, flush=True)
    thread = threading.Thread(target=fail)
    thread.start()
    thread.join()
    return spec.open(*arguments)
ENGINES["openvino"] = replace(spec, open=chatty)
sys.exit(main())
"""


def test_what_libraries_and_threads_say_becomes_a_line_each() -> None:
    with ServerProcess(program=(sys.executable, "-c", CHATTY)) as server:
        assert server.stop() == 0
    lines = {event["event"]: event for event in server.events}
    assert lines["said this"]["logger"] == "some.library"
    assert lines["native output"]["text"] == "not a log line"
    assert "ValueError: thread\nerror" in lines["uncaught exception"]["exception"]
    assert any("careful" in event for event in lines)
