"""Options and channel: invalid settings; TLS, mutual TLS and tokens over real connections."""

import datetime
import ipaddress
import json
from dataclasses import dataclass
from pathlib import Path

import grpc
import pytest
from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec

from clients import PNG, Ask
from cxr_client import AsyncClient, Client, RetryConfig, TLSConfig, UnavailableError
from cxr_client.channel import channel_arguments
from cxr_client.config import Settings, is_loopback
from cxr_client.testing import FakeServer

ONCE = RetryConfig(max_attempts=1)


@pytest.mark.parametrize(
    ("server", "loopback"),
    [
        ("127.0.0.1:50051", True),
        ("127.8.9.10:1", True),
        ("localhost:50051", True),
        ("LOCALHOST", True),
        ("[::1]:50051", True),
        ("::1", True),
        ("dns:///localhost:50051", True),
        ("dns://8.8.8.8/localhost:50051", True),
        ("ipv4:127.0.0.1:50051", True),
        ("ipv4:127.0.0.1:1,127.0.0.2:1", True),
        ("ipv6:[::1]:1", True),
        ("unix:/run/cxr.sock", True),
        ("0.0.0.0:50051", False),
        ("10.0.0.7:50051", False),
        ("ipv4:127.0.0.1:1,10.0.0.7:1", False),
        ("[2001:db8::1]:50051", False),
        ("localhost.example.org:50051", False),
        ("127.0.0.1.example.org:50051", False),
        ("cxr.internal", False),
    ],
)
def test_loopback_addresses_are_recognised(server: str, loopback: bool) -> None:
    assert is_loopback(server) is loopback


@pytest.mark.parametrize("client", [Client, AsyncClient])
@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"server": ""}, "server is empty"),
        ({"server": "10.0.0.7:50051"}, "unencrypted"),
        ({"server": "10.0.0.7:50051", "token": "secret"}, "unencrypted"),
        ({"tls": TLSConfig(), "insecure": True}, "contradicts"),
        ({"timeout_s": 0}, "positive"),
        ({"timeout_s": float("inf")}, "positive"),
        ({"max_request_bytes": 0}, "below 1"),
        ({"token": ""}, "visible ASCII"),
        ({"token": "two words"}, "visible ASCII"),
        ({"token": "line\nbreak"}, "visible ASCII"),
    ],
)
def test_invalid_settings_are_refused_at_construction(
    client: type, options: dict[str, object], message: str
) -> None:
    with pytest.raises(ValueError, match=message) as caught:
        client(**options)
    assert "secret" not in str(caught.value)


@pytest.mark.parametrize(
    ("group", "options", "message"),
    [
        (TLSConfig, {"cert": "own.pem"}, "go together"),
        (TLSConfig, {"key": "own.key"}, "go together"),
        (RetryConfig, {"max_attempts": 0}, "below 1"),
        (RetryConfig, {"initial_backoff_s": 0}, "initial_backoff_s is not a positive number"),
        (RetryConfig, {"backoff_multiplier": -1}, "backoff_multiplier is not a positive number"),
        (RetryConfig, {"max_backoff_s": float("inf")}, "max_backoff_s is not a positive number"),
    ],
)
def test_invalid_options_are_refused_at_construction(
    group: type, options: dict[str, object], message: str
) -> None:
    with pytest.raises(ValueError, match=message):
        group(**options)


def test_a_private_key_is_in_no_representation() -> None:
    assert "s3cret" not in repr(TLSConfig(cert=b"public", key=b"s3cret"))


def test_the_token_is_in_no_representation() -> None:
    settings = Settings(token="s3cret")
    assert "s3cret" not in repr(settings) + str(settings)
    with Client(token="s3cret") as client:
        assert "s3cret" not in repr(client)


def test_the_channel_retries_connection_failures_and_buffers_large_images() -> None:
    retry = RetryConfig(max_attempts=9, initial_backoff_s=0.5)
    arguments = dict(channel_arguments(Settings(max_request_bytes=50_000_000, retry=retry)))
    assert int(arguments["grpc.per_rpc_retry_buffer_size"]) > 50_000_000
    assert arguments["grpc.max_send_message_length"] == 50_000_000
    config = json.loads(str(arguments["grpc.service_config"]))
    (method,) = config["methodConfig"]
    assert method["retryPolicy"]["retryableStatusCodes"] == ["UNAVAILABLE", "CANCELLED"]
    assert method["retryPolicy"]["maxAttempts"] == 5
    assert float(method["retryPolicy"]["initialBackoff"].removesuffix("s")) == 0.5
    assert config["retryThrottling"]
    assert config["loadBalancingConfig"] == [{"round_robin": {}}]


def test_a_token_is_sent_with_every_call(fake: FakeServer, ask: Ask) -> None:
    for method, arguments in (("predict", [PNG]), ("explain", [PNG]), ("health", [])):
        ask(fake.address, method, *arguments, options={"token": "s3cret"})
    sent = [call.metadata["authorization"] for call in fake.calls]
    assert sent == ["Bearer s3cret"] * 3
    ask(fake.address, "health")
    assert "authorization" not in fake.calls[-1].metadata


@dataclass(frozen=True)
class Authority:
    """A certificate authority in a folder, with a certificate for the server and a client."""

    folder: Path

    def __post_init__(self) -> None:
        key = ec.generate_private_key(ec.SECP256R1())
        name = x509.Name([x509.NameAttribute(x509.NameOID.COMMON_NAME, "test authority")])
        for owner in ("ca", "server", "client"):
            own = key if owner == "ca" else ec.generate_private_key(ec.SECP256R1())
            subject = x509.Name([x509.NameAttribute(x509.NameOID.COMMON_NAME, owner)])
            now = datetime.datetime.now(datetime.UTC)
            certificate = (
                x509.CertificateBuilder()
                .subject_name(name if owner == "ca" else subject)
                .issuer_name(name)
                .public_key(own.public_key())
                .serial_number(x509.random_serial_number())
                .not_valid_before(now - datetime.timedelta(hours=1))
                .not_valid_after(now + datetime.timedelta(hours=1))
                .add_extension(x509.BasicConstraints(owner == "ca", None), critical=True)
                .add_extension(
                    x509.SubjectAlternativeName(
                        [
                            x509.DNSName("localhost"),
                            x509.DNSName("cxr.example.org"),
                            x509.IPAddress(ipaddress.ip_address("127.0.0.1")),
                        ]
                    ),
                    critical=False,
                )
                .sign(key, hashes.SHA256())
            )
            pem = serialization.Encoding.PEM
            (self.folder / f"{owner}.pem").write_bytes(certificate.public_bytes(pem))
            (self.folder / f"{owner}.key").write_bytes(
                own.private_bytes(
                    pem, serialization.PrivateFormat.PKCS8, serialization.NoEncryption()
                )
            )

    def server_credentials(self, *, mutual: bool) -> grpc.ServerCredentials:
        read = {name: (self.folder / name).read_bytes() for name in ("server.key", "server.pem")}
        return grpc.ssl_server_credentials(
            [(read["server.key"], read["server.pem"])],
            root_certificates=(self.folder / "ca.pem").read_bytes() if mutual else None,
            require_client_auth=mutual,
        )


@pytest.fixture(scope="module")
def authority(tmp_path_factory: pytest.TempPathFactory) -> Authority:
    return Authority(tmp_path_factory.mktemp("authority"))


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
