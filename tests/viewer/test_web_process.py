"""The process of `cxr view`: its options, addresses, TLS and its end."""

import io
import signal
import socket
import ssl
import subprocess
import sys
import threading
import time
from contextlib import redirect_stderr, redirect_stdout
from pathlib import Path

import grpc
import pytest

from authority import Authority
from cxr_client.cli import main
from cxr_client.testing import FakeServer
from cxr_command import CXR
from viewer_process import ViewerProcess


@pytest.fixture(scope="module")
def authority(tmp_path_factory: pytest.TempPathFactory) -> Authority:
    return Authority(tmp_path_factory.mktemp("authority"))


def refused(*arguments: object) -> str:
    """The one line of a command that ends at once with a usage error, in this process."""
    with redirect_stdout(io.StringIO()) as output, redirect_stderr(io.StringIO()) as errors:
        try:
            status = main(["view", *map(str, arguments)])
        except SystemExit as end:  # of argparse
            status = int(end.code or 0)
    assert (status, output.getvalue()) == (2, "")
    (line,) = errors.getvalue().splitlines()
    return line


def test_the_url_is_the_only_line_of_the_output(fake: FakeServer) -> None:
    with ViewerProcess(fake.address) as page:
        assert page.url == f"http://127.0.0.1:{page.port}/"
        assert page.stop() == 0
        assert page.process.stdout
        assert page.process.stdout.read() == ""
        (line,) = page.log.splitlines()
    assert fake.address in line
    assert "for research use only" in line


def test_a_port_that_is_taken_is_told_in_one_line() -> None:
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = taken.getsockname()[1]
        line = refused("--port", port)
    assert f"--port {port}: it is in use: stop what listens there, or choose another one" in line


@pytest.mark.parametrize("host", ["0.0.0.0", "::", "192.0.2.7", "films.example.org"])
def test_beyond_loopback_tls_or_a_word_is_needed(host: str) -> None:
    line = refused("--host", host, "--port", 0)
    assert "--https-cert and --https-key, or --allow-http" in line


def test_with_that_word_it_listens_everywhere(fake: FakeServer) -> None:
    with ViewerProcess(fake.address, "--host", "0.0.0.0", "--allow-http") as page:
        assert page.url == f"http://localhost:{page.port}/"
        assert page.ask().status == 200
        assert "open to other machines too" in page.log


def test_an_address_that_is_not_of_this_machine_is_told() -> None:
    line = refused("--host", "192.0.2.7", "--allow-http", "--port", 0)
    assert "the address is not one of this machine" in line


def test_a_name_that_does_not_exist_is_told() -> None:
    line = refused("--host", "nowhere.invalid", "--allow-http", "--port", 0)
    assert "the name cannot be resolved" in line


def test_the_page_is_served_over_tls(fake: FakeServer, authority: Authority) -> None:
    folder = authority.folder
    files = ("--https-cert", folder / "server.pem", "--https-key", folder / "server.key")
    with ViewerProcess(fake.address, "--host", "localhost", *files) as page:
        assert page.url.startswith("https://localhost:")
        trust = ssl.create_default_context(cafile=folder / "ca.pem")
        assert page.ask("api/state", tls=trust).json["server"]["tls"] is False
        assert page.ask("api/explanations", b"image", tls=trust).explanation


def test_the_connection_to_the_model_server_may_be_encrypted(authority: Authority) -> None:
    folder = authority.folder
    files = ("--ca-file", folder / "ca.pem", "--cert-file", folder / "client.pem")
    files = (*files, "--key-file", folder / "client.key")
    with (
        FakeServer(credentials=authority.server_credentials(mutual=True)) as server,
        ViewerProcess(server.address, *files) as page,
    ):
        answer = page.ask("api/state")
        assert answer.json["server"]["state"] == "serving"
        assert answer.json["server"]["tls"] is True
        assert str(folder).encode() not in answer.body
        assert page.ask("api/explanations", b"image").explanation


def test_certificates_that_cannot_be_used_are_told(authority: Authority) -> None:
    cert, key = authority.folder / "server.pem", authority.folder / "server.key"
    other = authority.folder / "client.key"
    assert "--https-cert needs --https-key as well" in refused("--https-cert", cert)
    assert "--https-key needs --https-cert as well" in refused("--https-key", key)
    both = ("--https-cert", cert, "--https-key")
    assert "not a PEM certificate and its key" in refused(*both, other)
    assert "No such file" in refused(*both, "none.key")


def test_a_folder_that_does_not_exist_is_told(tmp_path: Path) -> None:
    assert f"{tmp_path}/none: No such file or directory" in refused(tmp_path / "none")


@pytest.mark.parametrize("name", ["https://films.example.org", "films.example.org:3000", ""])
def test_an_allowed_host_is_a_name(name: str) -> None:
    assert "is not the name of a host" in refused("--allowed-host", name)


@pytest.mark.parametrize("port", ["-1", "65536", "http"])
def test_a_port_is_a_number(port: str) -> None:
    assert "is not a number from 0 to 65535" in refused(f"--port={port}")


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_a_signal_ends_it_cleanly(fake: FakeServer, number: int) -> None:
    with ViewerProcess(fake.address) as page:
        idle = page.connect()
        idle.request("GET", "/")
        idle.getresponse().read()
        assert page.stop(number) == 0
        assert len(page.log.splitlines()) == 1
        idle.close()


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
@pytest.mark.slow
def test_a_signal_ends_it_cleanly_with_a_call_and_an_upload_in_flight(
    fake: FakeServer, number: int
) -> None:
    entered, cancelled = threading.Event(), threading.Event()

    def hold(context: grpc.ServicerContext) -> None:
        entered.set()
        while context.is_active():
            time.sleep(0.02)
        cancelled.set()

    fake.script(hold, rpc="Explain")
    with ViewerProcess(fake.address) as page:
        call, upload = page.connect(), page.connect()
        call.request("POST", "/api/explanations", body=b"image")
        upload.putrequest("POST", "/api/explanations")
        upload.putheader("content-length", "1000")
        upload.endheaders(b"begun")
        assert entered.wait(60)
        assert page.stop(number) == 0
        assert cancelled.wait(60)
        assert len(page.log.splitlines()) == 1
        call.close()
        upload.close()


def test_without_the_extra_one_line_says_how_to_install_it() -> None:
    code = "import sys; sys.modules['starlette'] = None; sys.argv[0] = 'cxr'\n" + CXR[2]
    done = subprocess.run(
        [sys.executable, "-c", code, "view"], capture_output=True, text=True, timeout=100
    )
    assert done.returncode == 2
    (line,) = done.stderr.splitlines()
    assert "pip install './client[viewer]'" in line


def test_the_other_commands_import_no_web_server() -> None:
    code = "import cxr_client.cli, sys; print({'starlette', 'uvicorn', 'anyio'} & set(sys.modules))"
    done = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, timeout=100, check=True
    )
    assert done.stdout == "set()\n"
