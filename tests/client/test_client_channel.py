"""Channel: what a client refuses to be set to, and TLS, mutual TLS and tokens for real."""

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

from cxr_client import AsyncClient, Client, UnavailableError
from cxr_client.channel import Settings, is_loopback
from scripted import PNG, Ask, Script, ScriptedServer


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
def test_loopback_is_told_from_the_rest(server: str, loopback: bool) -> None:
    assert is_loopback(server) is loopback


@pytest.mark.parametrize("client", [Client, AsyncClient])
@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"server": ""}, "server is empty"),
        ({"server": "10.0.0.7:50051"}, "unencrypted"),
        ({"server": "10.0.0.7:50051", "token": "secret"}, "unencrypted"),
        ({"tls": True, "insecure": True}, "contradicts"),
        ({"cert_file": "own.pem"}, "go together"),
        ({"key_file": "own.key"}, "go together"),
        ({"timeout_s": 0}, "positive"),
        ({"timeout_s": float("inf")}, "positive"),
        ({"max_attempts": -1}, "negative"),
        ({"max_request_bytes": 0}, "below 1"),
        ({"token": ""}, "visible ASCII"),
        ({"token": "two words"}, "visible ASCII"),
        ({"token": "line\nbreak"}, "visible ASCII"),
    ],
)
def test_settings_that_cannot_work_are_refused_at_once(
    client: type, options: dict[str, object], message: str
) -> None:
    with pytest.raises(ValueError, match=message) as caught:
        client(**options)
    assert "secret" not in str(caught.value)


def test_the_token_is_in_no_representation() -> None:
    settings = Settings(token="s3cret")
    assert "s3cret" not in repr(settings) + str(settings)
    with Client(token="s3cret") as client:
        assert "s3cret" not in repr(client)


def test_the_channel_retries_what_a_stopping_server_says_and_keeps_large_images_for_it() -> None:
    arguments = dict(Settings(max_request_bytes=50_000_000, max_attempts=9).arguments())
    assert int(arguments["grpc.per_rpc_retry_buffer_size"]) > 50_000_000
    assert arguments["grpc.max_send_message_length"] == 50_000_000
    config = json.loads(str(arguments["grpc.service_config"]))
    (method,) = config["methodConfig"]
    assert method["retryPolicy"]["retryableStatusCodes"] == ["UNAVAILABLE", "CANCELLED"]
    assert method["retryPolicy"]["maxAttempts"] == 5
    assert config["retryThrottling"]
    assert config["loadBalancingConfig"] == [{"round_robin": {}}]


def test_a_token_is_sent_with_every_call(scripted: ScriptedServer, ask: Ask) -> None:
    for method, arguments in (("predict", [PNG]), ("explain", [PNG]), ("health", [])):
        ask(scripted.address, method, *arguments, options={"token": "s3cret"})
    sent = [call.metadata["authorization"] for call in scripted.script.received]
    assert sent == ["Bearer s3cret"] * 3
    ask(scripted.address, "health")
    assert "authorization" not in scripted.script.received[-1].metadata


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
    with ScriptedServer(Script(), credentials) as server:
        trusting = {"ca_file": authority.folder / "ca.pem", "token": "s3cret"}
        assert ask(server.address, "health", options=trusting).serving
        assert server.script.received[0].metadata["authorization"] == "Bearer s3cret"
        for options in ({"tls": True}, {}):
            with pytest.raises(UnavailableError):
                ask(server.address, "health", options={"max_attempts": 1, **options})
    assert len(server.script.received) == 1


def test_mutual_tls_wants_the_client_s_certificate(authority: Authority, ask: Ask) -> None:
    credentials = authority.server_credentials(mutual=True)
    trusting = {"ca_file": authority.folder / "ca.pem"}
    own = {
        "cert_file": str(authority.folder / "client.pem"),
        "key_file": str(authority.folder / "client.key"),
    }
    with ScriptedServer(Script(), credentials) as server:
        assert ask(server.address, "health", options={**trusting, **own}).serving
        with pytest.raises(UnavailableError):
            ask(server.address, "health", options={**trusting, "max_attempts": 1})
    assert len(server.script.received) == 1


def test_a_missing_tls_file_is_an_os_error(tmp_path: Path) -> None:
    with pytest.raises(FileNotFoundError):
        Client(ca_file=tmp_path / "none.pem")
