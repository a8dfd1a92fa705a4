"""How `cxr` reaches the server, and what it says of one that it cannot reach."""

import os
import pty
import subprocess
from pathlib import Path

import pytest

from authority import Authority
from cxr.v1 import chest_xray_pb2 as pb
from cxr_client.testing import FakeServer, default_answer
from cxr_command import CXR, Run
from trust.ports import free_port


def test_a_folder_is_not_tried_file_by_file_without_a_server(cxr: Run, folder: Path) -> None:
    status, out, err = cxr(
        "predict", "--server", "127.0.0.1:1", "--timeout", 0.5, "--jobs", 1, folder
    )
    assert (status, out) == (3, "")
    assert err.count("; trying again") == 1
    assert err.count("connection refused [UNAVAILABLE") == 1
    assert "not answered" in err


def test_an_outage_is_told_on_a_terminal_while_it_lasts(tmp_path: Path) -> None:
    film = tmp_path / "film.png"
    film.write_bytes(b"12345")
    address = f"127.0.0.1:{free_port()}"
    ours, theirs = pty.openpty()
    command = [*CXR, "predict", "--server", address, "--json", str(film), str(film)]
    running = subprocess.Popen(command, stdout=subprocess.PIPE, stderr=theirs)
    os.close(theirs)
    drawn = ""
    while "trying again" not in drawn:
        drawn += os.read(ours, 65536).decode()
    assert f"cxr: no connection to {address}: connection refused; trying again" in drawn
    assert running.poll() is None
    with FakeServer(address=address):
        out, _ = running.communicate(timeout=100)
    os.close(ours)
    assert running.returncode == 0
    assert len(out.splitlines()) == 2


def test_grpc_adds_no_lines_of_its_own(tmp_path: Path) -> None:
    credentials = Authority(tmp_path).server_credentials(mutual=False)
    with FakeServer(credentials=credentials) as fake:
        command = [*CXR, "health", "--server", fake.address, "--tls", "--timeout", "0.5"]
        done = subprocess.run(command, capture_output=True, text=True, timeout=100, check=False)
    assert done.returncode == 3
    assert all(line.startswith("cxr: no connection to") for line in done.stderr.splitlines())
    assert "its certificate is not trusted" in done.stderr


@pytest.mark.slow
def test_a_certificate_for_another_name_hints_at_the_option(
    cxr: Run, authority: Authority, folder: Path
) -> None:
    security = ["--ca-file", authority.folder / "ca.pem", "--tls-server-name", "other.example.org"]
    with FakeServer(credentials=authority.server_credentials(mutual=False)) as fake:
        for command in (["health"], ["predict", folder / "a.JPG"]):
            where = ["--server", fake.address, "--timeout", 1, *security]
            status, _, err = cxr(*command, *where)
            assert status == 3
            lines = [line for line in err.splitlines() if "another name" in line]
            assert lines
            for line in lines:
                assert "if that is expected, set --tls-server-name to it" in line
            assert "tls.server_name" not in err


def test_a_token_of_the_environment_may_end_in_a_newline(
    cxr: Run, fake: FakeServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("CXR_TOKEN", "s3cret\n")
    assert cxr("health")[0] == 0
    assert fake.calls[0].metadata["authorization"] == "Bearer s3cret"


def test_a_message_that_is_too_large_names_the_option(
    cxr: Run, fake: FakeServer, tmp_path: Path
) -> None:
    film = tmp_path / "film.png"
    film.write_bytes(bytes(2 * 2**20))
    status, _, err = cxr("predict", "--max-request-mib", 1, film)
    assert status == 1
    assert "this client's limit of 1048576 bytes (--max-request-mib)" in err
    answer = default_answer(pb.PredictRequest())
    answer.notice = "x" * 2 * 2**20
    fake.answer("Predict", answer)
    status, _, err = cxr("predict", "--max-response-mib", 1, film)
    assert status == 1
    assert "this client takes at most 1048576 (--max-response-mib)" in err
