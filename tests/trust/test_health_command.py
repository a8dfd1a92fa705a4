"""`cxr-server health`, as a container's health check runs it: from the server's environment."""

import os
import signal
import subprocess
import sys
from pathlib import Path

import pytest
from cryptography import x509

from cxr_server.access import new_token
from serving import ServerProcess
from trust.certificates import Authority
from trust.ports import free_port

pytestmark = pytest.mark.usefixtures("decoding_in_threads")


def health(*flags: str, **env: str) -> tuple[int, str]:
    """Run the command; return its exit status and its line."""
    done = subprocess.run(
        [sys.executable, "-m", "cxr_server", "health", "--timeout", "60", *flags],
        capture_output=True,
        text=True,
        timeout=100,
        env={**os.environ, **env},
    )
    assert done.stderr == ""
    assert done.stdout.count("\n") == 1
    return done.returncode, done.stdout


def settings(server: ServerProcess) -> dict[str, str]:
    """The environment of a server that was started by these flags on a port that it picked."""
    flags = dict(zip(server.flags[::2], server.flags[1::2], strict=True))
    flags["--listen"] = server.address
    return {f"CXR_{flag[2:].replace('-', '_').upper()}": value for flag, value in flags.items()}


def test_a_plaintext_server_on_any_port_is_found(phantom_server: ServerProcess) -> None:
    status, said = health(CXR_LISTEN=phantom_server.address)
    assert (status, said) == (0, f"{phantom_server.address} answers SERVING\n")


def test_an_address_that_means_all_is_asked_on_loopback(phantom_server: ServerProcess) -> None:
    port = phantom_server.address.rpartition(":")[2]
    assert health("--listen", f"0.0.0.0:{port}")[0] == 0


@pytest.mark.slow
def test_tokens_are_not_needed(tmp_path: Path) -> None:
    (tmp_path / "tokens").write_text(new_token("ward-3")[1])
    with ServerProcess("--tokens-file", str(tmp_path / "tokens")) as server:
        assert health(**settings(server))[0] == 0


@pytest.fixture
def tls(tmp_path: Path) -> list[str]:
    certificate, key = Authority(tmp_path / "ca", "CA").sign(tmp_path / "server", "server")
    return ["--tls-cert", str(certificate), "--tls-key", str(key)]


@pytest.mark.slow
def test_under_tls_the_server_must_hold_the_certificate_of_the_settings(
    tls: list[str], tmp_path: Path
) -> None:
    # The certificate is for 127.0.0.1, and need not name what the server listens on.
    with ServerProcess(*tls, "--listen", "localhost:0") as server:
        env = settings(server)
        assert health(**env)[0] == 0
        other = Authority(tmp_path / "other", "CA").sign(tmp_path / "other", "server")
        env |= {"CXR_TLS_CERT": str(other[0]), "CXR_TLS_KEY": str(other[1])}
        status, said = health("--timeout", "10", **env)
        assert status == 1
        assert f"{server.address} does not answer" in said


@pytest.mark.slow
def test_a_name_in_the_certificate_that_is_no_host_is_passed_over(tmp_path: Path) -> None:
    names = [x509.UniformResourceIdentifier("spiffe://x.org/cxr"), x509.RFC822Name("a@b.org")]
    authority = Authority(tmp_path / "ca", "CA")
    certificate, key = authority.sign(tmp_path / "server", "server", first_names=names)
    with ServerProcess("--tls-cert", str(certificate), "--tls-key", str(key)) as server:
        assert health(**settings(server))[0] == 0


@pytest.mark.slow
def test_a_plaintext_question_to_a_server_with_tls_is_told_what_to_give(tls: list[str]) -> None:
    with ServerProcess(*tls) as server:
        status, said = health("--listen", server.address)
    assert status == 1
    assert said.endswith(" (it may require TLS: give --tls-cert and --tls-key as to serve)\n")
    status, said = health("--listen", server.address, *tls[:2])
    assert status == 1
    assert said.endswith(f"--tls-cert {tls[1]} needs --tls-key as well\n")


@pytest.mark.slow
def test_under_mutual_tls_the_health_only_port_is_asked(tls: list[str], tmp_path: Path) -> None:
    mutual = [*tls, "--tls-client-ca", str(tmp_path / "ca" / "ca.pem")]
    probes = f"127.0.0.1:{free_port()}"
    with ServerProcess(*mutual, "--health-listen", probes) as server:
        env = settings(server)
        assert health(**env) == (0, f"{probes} answers SERVING\n")
        del env["CXR_HEALTH_LISTEN"]
        status, said = health(**env)
        assert status == 1
        assert "give serve and health a --health-listen" in said


@pytest.mark.slow
def test_a_unix_socket_is_asked(tmp_path: Path) -> None:
    with ServerProcess("--health-listen", f"unix:{tmp_path / 'health.sock'}") as server:
        assert health(**settings(server))[0] == 0


@pytest.mark.slow
def test_a_server_that_shuts_down_is_not_healthy() -> None:
    with ServerProcess("--drain-pause-s", "1000") as server:
        server.process.send_signal(signal.SIGTERM)
        while (found := health("--listen", server.address))[0] == 0:
            pass  # it has not seen the signal yet
        assert found == (1, f"cxr-server: {server.address} answers NOT_SERVING\n")


def test_where_nobody_listens_the_server_is_not_healthy() -> None:
    address = f"127.0.0.1:{free_port()}"
    status, said = health("--listen", address, "--timeout", "5")
    assert status == 1
    assert said.startswith(f"cxr-server: {address} does not answer: ")


def test_settings_that_cannot_be_asked_are_told() -> None:
    assert "which port was picked is not known here" in health("--listen", "127.0.0.1:0")[1]
    assert "the port is missing" in health("--listen", "localhost")[1]
