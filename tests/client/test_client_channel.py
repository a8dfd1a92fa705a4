"""Channel: TLS, mutual TLS and tokens over real connections, and what is said where they fail."""

import threading
from pathlib import Path

import pytest

from authority import Authority
from clients import PNG, Ask
from cxr_client import Client, RetryConfig, TLSConfig, UnavailableError
from cxr_client.testing import FakeServer
from trust.ports import free_port

ONCE = RetryConfig(max_attempts=1)


def test_a_token_is_sent_with_every_call(fake: FakeServer, ask: Ask) -> None:
    for method, arguments in (("predict", [PNG]), ("explain", [PNG]), ("health", [])):
        ask(fake.address, method, *arguments, options={"token": "s3cret"})
    sent = [call.metadata["authorization"] for call in fake.calls]
    assert sent == ["Bearer s3cret"] * 3
    ask(fake.address, "health")
    assert "authorization" not in fake.calls[-1].metadata


def test_tls_works_with_the_right_authority_only(authority: Authority, ask: Ask) -> None:
    credentials = authority.server_credentials(mutual=False)
    with FakeServer(credentials=credentials) as server:
        trusting = {"tls": TLSConfig(ca=authority.folder / "ca.pem"), "token": "s3cret"}
        assert ask(server.address, "health", options=trusting).serving
        assert server.calls[0].metadata["authorization"] == "Bearer s3cret"
        for tls in (TLSConfig(), None):
            with pytest.raises(UnavailableError):
                ask(server.address, "health", options={"retry": ONCE, "tls": tls})
    assert len(server.calls) == 1


def test_mutual_tls_requires_the_client_s_certificate(authority: Authority, ask: Ask) -> None:
    credentials = authority.server_credentials(mutual=True)
    ca = (authority.folder / "ca.pem").read_bytes()
    cert, key = str(authority.folder / "client.pem"), authority.folder / "client.key"
    with FakeServer(credentials=credentials) as server:
        options = {"tls": TLSConfig(ca=ca, cert=cert, key=key)}
        assert ask(server.address, "health", options=options).serving
        with pytest.raises(UnavailableError):
            ask(server.address, "health", options={"tls": TLSConfig(ca=ca), "retry": ONCE})
    assert len(server.calls) == 1


def test_a_missing_tls_file_is_an_os_error(tmp_path: Path) -> None:
    with pytest.raises(FileNotFoundError):
        Client(tls=TLSConfig(ca=tmp_path / "none.pem"))


def test_another_name_in_the_certificate_can_be_expected(authority: Authority, ask: Ask) -> None:
    ca = authority.folder / "ca.pem"
    with FakeServer(credentials=authority.server_credentials(mutual=False)) as server:
        for name, trusted in (("cxr.example.org", True), ("other.example.org", False)):
            options = {"tls": TLSConfig(ca=ca, server_name=name), "retry": ONCE}
            if trusted:
                assert ask(server.address, "health", options=options).serving
            else:
                with pytest.raises(UnavailableError):
                    ask(server.address, "health", options=options)


@pytest.mark.slow
def test_a_failed_handshake_is_told_by_its_cause(authority: Authority, ask: Ask) -> None:
    ca = authority.folder / "ca.pem"
    causes = {
        "its certificate is not trusted": TLSConfig(),
        "its certificate is for another name; if that is expected, set tls.server_name to it": (
            TLSConfig(ca=ca, server_name="other.example.org")
        ),
        "it closed the connection (it may require TLS)": None,
    }
    credentials = authority.server_credentials(mutual=False)
    # One address: of several, gRPC tells the last failure.
    with FakeServer(address=f"127.0.0.1:{free_port()}", credentials=credentials) as server:
        for cause, tls in causes.items():
            with pytest.raises(UnavailableError) as caught:
                ask(server.address, "health", options={"tls": tls, "timeout_s": 0.8})
            assert caught.value.message == f"no connection to {server.address}: {cause}"


def test_a_missing_certificate_of_the_client_is_told(authority: Authority, ask: Ask) -> None:
    options = {"tls": TLSConfig(ca=authority.folder / "ca.pem"), "timeout_s": 0.8}
    credentials = authority.server_credentials(mutual=True)
    # One address: of several, gRPC tells the last failure.
    with FakeServer(address=f"127.0.0.1:{free_port()}", credentials=credentials) as server:
        with pytest.raises(UnavailableError) as caught:
            ask(server.address, "health", options=options)
        assert caught.value.message == (
            f"no connection to {server.address}: "
            "it closed the connection (it may require a client certificate)"
        )


def test_tls_to_a_plaintext_server_is_told(
    fake: FakeServer, authority: Authority, ask: Ask
) -> None:
    options = {"tls": TLSConfig(ca=authority.folder / "ca.pem"), "timeout_s": 0.8}
    with pytest.raises(UnavailableError) as caught:
        ask(fake.address, "health", options=options)
    assert caught.value.message == f"no connection to {fake.address}: it does not use TLS"


@pytest.mark.slow
def test_waiting_goes_on_until_tls_is_up(authority: Authority, ask: Ask) -> None:
    server = f"localhost:{free_port()}"
    credentials = authority.server_credentials(mutual=False)
    stop = threading.Event()

    def serve() -> None:
        with FakeServer(address=server):
            stop.wait(2)
        with FakeServer(address=server, credentials=credentials):
            stop.wait(100)

    serving = threading.Thread(target=serve)
    serving.start()
    options = {"tls": TLSConfig(ca=authority.folder / "ca.pem")}
    assert ask(server, "wait_until_ready", 60, options=options).serving
    stop.set()
    serving.join()
