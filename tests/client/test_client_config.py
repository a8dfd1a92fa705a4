"""Options: what is refused, in words that name the option; the environment; the address."""

import pickle
from dataclasses import fields
from pathlib import Path
from typing import get_args

import pytest

from clients import Ask
from cxr_client import (
    AsyncClient,
    BalancingConfig,
    Client,
    ConfigError,
    RetryConfig,
    TLSConfig,
    enums,
)
from cxr_client.address import is_loopback
from cxr_client.config import Options, Settings
from cxr_client.testing import FakeServer

PEM = b"-----BEGIN CERTIFICATE-----\n"


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


@pytest.mark.parametrize(
    "server",
    [
        "127.0.0.1:50051",
        "[::1]:50051",
        "cxr.internal:443",
        "dns:///cxr.internal:443",
        "dns://8.8.8.8/cxr.internal:443",
        "ipv4:127.0.0.1:1,10.0.0.7:2",
        "ipv6:[::1]:1",
        "unix:/run/cxr.sock",
        "unix-abstract:cxr",
        "xds:///cxr",
    ],
)
def test_every_target_of_grpc_with_a_port_is_taken(server: str) -> None:
    assert Settings(server=server, insecure=True).server == server


@pytest.mark.parametrize(
    ("server", "message"),
    [
        ("", "server: is empty"),
        ("http://127.0.0.1:50051", "is a URL; give '127.0.0.1:50051'"),
        ("https://cxr.internal:443/v1", "is a URL; give 'cxr.internal:443'"),
        ("127.0.0.1", "has no port; give '127.0.0.1:50051'"),
        ("cxr.internal", "has no port; give 'cxr.internal:50051'"),
        ("dns:///cxr.internal", "has no port; give 'cxr.internal:50051'"),
        ("::1", r"has no port; give '\[::1\]:50051'"),
        ("[::1]", r"has no port; give '\[::1\]:50051'"),
        (":50051", "has no host"),
        ("localhost:", "the port '' is not a number from 1 to 65535"),
        ("localhost:cxr", "the port 'cxr' is not"),
        ("localhost:0", "the port '0' is not"),
        ("localhost:80000", "the port '80000' is not"),
        ("127.0.0.1:50051/v1", "the port '50051/v1' is not"),
        ("10.0.0.7:50051", "another machine: .* unencrypted; set tls or insecure"),
    ],
)
@pytest.mark.parametrize("client", [Client, AsyncClient])
def test_a_server_that_cannot_be_meant_is_refused(client: type, server: str, message: str) -> None:
    with pytest.raises(ConfigError, match=message) as caught:
        client(server)
    assert caught.value.option == "server"


@pytest.mark.parametrize("client", [Client, AsyncClient])
@pytest.mark.parametrize(
    ("options", "option", "message"),
    [
        ({"server": "10.0.0.7:50051", "token": "secret"}, "server", "unencrypted"),
        ({"tls": TLSConfig(), "insecure": True}, "insecure", "contradicts TLS"),
        ({"tls": True}, "tls", "is a bool; give a TLSConfig"),
        ({"timeout_s": 0}, "timeout_s", "positive"),
        ({"timeout_s": float("inf")}, "timeout_s", "positive"),
        ({"max_request_bytes": 0}, "max_request_bytes", "below 1"),
        ({"max_response_bytes": 0}, "max_response_bytes", "below 1"),
        ({"token": ""}, "token", "visible ASCII"),
        ({"token": "two words"}, "token", "visible ASCII"),
        ({"token": "line\nbreak"}, "token", "visible ASCII"),
        ({"metadata": {"Application": "cxr"}}, "metadata", "lower case"),
        ({"metadata": {"key-bin": "cxr"}}, "metadata", "lower case"),
        ({"metadata": {"application": "line\nbreak"}}, "metadata", "not a text"),
        ({"metadata": {"authorization": "secret"}}, "metadata", "by the client itself"),
        ({"tls": TLSConfig(ca=b"garbage")}, "tls.ca", "PEM"),
        ({"tls": TLSConfig(cert=PEM, key=b"\x30\x82")}, "tls.key", "PEM"),
    ],
)
def test_invalid_options_are_refused_by_name_at_construction(
    client: type, options: dict[str, object], option: str, message: str
) -> None:
    with pytest.raises(ConfigError, match=message) as caught:
        client(**options)
    assert caught.value.option == option
    assert str(caught.value).startswith(f"{option}: {caught.value.problem}")
    assert "secret" not in str(caught.value)


@pytest.mark.parametrize(
    ("group", "options", "option"),
    [
        (TLSConfig, {"cert": "own.pem"}, "tls.cert"),
        (TLSConfig, {"key": "own.key"}, "tls.key"),
        (RetryConfig, {"max_attempts": 0}, "retry.max_attempts"),
        (RetryConfig, {"initial_backoff_s": 0}, "retry.initial_backoff_s"),
        (RetryConfig, {"backoff_multiplier": -1}, "retry.backoff_multiplier"),
        (RetryConfig, {"max_backoff_s": float("inf")}, "retry.max_backoff_s"),
        (BalancingConfig, {"policy": "weighted"}, "balancing.policy"),
        (
            BalancingConfig,
            {"policy": "pick_first", "health_check": True},
            "balancing.health_check",
        ),
        (AsyncClient, {"max_in_flight": 0}, "max_in_flight"),
    ],
)
def test_invalid_groups_of_options_are_refused_by_name(
    group: type, options: dict[str, object], option: str
) -> None:
    with pytest.raises(ConfigError) as caught:
        group(**options)
    assert caught.value.option == option


def test_an_error_of_options_is_a_value_error_with_its_parts() -> None:
    error = ConfigError("server", "is another machine", ("tls", "insecure"))
    assert isinstance(error, ValueError)
    assert str(error) == "server: is another machine; set tls or insecure"
    assert error.remedies == ("tls", "insecure")
    copy = pickle.loads(pickle.dumps(error))
    assert (str(copy), vars(copy)) == (str(error), vars(error))


@pytest.mark.parametrize(
    ("name", "hint"),
    [
        ("timeout", "did you mean 'timeout_s'"),
        ("max_request_mib", "did you mean 'max_request_bytes'"),
        ("retries", "did you mean 'retry'"),
        ("compression", "insecure, max_request_bytes"),
    ],
)
def test_an_option_that_does_not_exist_gets_the_right_name(name: str, hint: str) -> None:
    for client in (Client, AsyncClient):
        with pytest.raises(TypeError, match=f"{client.__name__} has no option '{name}'.*{hint}"):
            client("127.0.0.1:1", **{name: 3})


def test_both_lists_of_options_are_one() -> None:
    settings = {field.name for field in fields(Settings)} - {"server"}
    assert settings == set(Options.__annotations__)


@pytest.mark.parametrize(
    "name",
    ["ExplanationMethod", "RenderKind", "RenderFrame", "ColorMap", "RenderFormat", "HeatScale"],
)
def test_type_checkers_know_every_name_of_an_enum(name: str) -> None:
    assert list(get_args(getattr(enums, f"{name}Name"))) == getattr(enums, name).choices()


def test_a_private_key_is_in_no_representation() -> None:
    assert "s3cret" not in repr(TLSConfig(cert=b"public", key=b"s3cret"))


def test_the_token_is_in_no_representation() -> None:
    settings = Settings(token="s3cret")
    assert "s3cret" not in repr(settings) + str(settings)
    with Client(token="s3cret") as client:
        assert "s3cret" not in repr(client)


@pytest.mark.parametrize("token", ["s3cret\n", "s3cret\r\n", " s3cret "])
def test_a_token_from_a_file_loses_its_newline(fake: FakeServer, ask: Ask, token: str) -> None:
    ask(fake.address, "health", options={"token": token})
    assert fake.calls[0].metadata["authorization"] == "Bearer s3cret"


def test_metadata_of_the_callers_own_goes_with_every_call(fake: FakeServer, ask: Ask) -> None:
    ask(fake.address, "health", options={"metadata": {"application": "cxr"}, "token": "t"})
    sent = fake.calls[0].metadata
    assert (sent["application"], sent["authorization"]) == ("cxr", "Bearer t")
    assert "s3cret" not in repr(Settings(metadata={"x-api-key": "s3cret"}))


@pytest.mark.parametrize(
    ("environ", "expected"),
    [
        ({}, None),
        ({"CXR_CA_FILE": "", "CXR_TLS": ""}, None),
        ({"CXR_TLS": "1"}, TLSConfig()),
        ({"CXR_TLS": "True"}, TLSConfig()),
        ({"CXR_TLS": "0", "CXR_CA_FILE": "ca.pem"}, None),
        ({"CXR_CA_FILE": "ca.pem"}, TLSConfig(ca="ca.pem")),
        (
            {"CXR_CERT_FILE": "a.pem", "CXR_KEY_FILE": "a.key", "CXR_TLS_SERVER_NAME": "cxr"},
            TLSConfig(cert="a.pem", key="a.key", server_name="cxr"),
        ),
    ],
)
def test_tls_can_be_read_from_the_environment(
    environ: dict[str, str], expected: TLSConfig | None, monkeypatch: pytest.MonkeyPatch
) -> None:
    assert TLSConfig.from_env(environ) == expected
    for name, value in environ.items():
        monkeypatch.setenv(name, value)
    assert TLSConfig.from_env() == expected


@pytest.mark.parametrize(
    ("group", "environ", "option"),
    [
        (TLSConfig, {"CXR_TLS": "maybe"}, "tls"),
        (TLSConfig, {"CXR_CERT_FILE": "a.pem"}, "tls.cert"),
        (BalancingConfig, {"CXR_HEALTH_CHECK": "maybe"}, "balancing.health_check"),
    ],
)
def test_an_environment_that_contradicts_itself_is_refused(
    group: type[TLSConfig | BalancingConfig], environ: dict[str, str], option: str
) -> None:
    with pytest.raises(ConfigError) as caught:
        group.from_env(environ)
    assert caught.value.option == option


@pytest.mark.parametrize(("text", "wanted"), [("", False), ("0", False), ("on", True)])
def test_the_health_check_can_be_asked_for_in_the_environment(text: str, wanted: bool) -> None:
    assert BalancingConfig.from_env({"CXR_HEALTH_CHECK": text}).health_check is wanted


def test_a_client_does_not_read_the_environment(
    fake: FakeServer, ask: Ask, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    for name in ("CXR_CA_FILE", "CXR_CERT_FILE", "CXR_TOKEN_FILE"):
        monkeypatch.setenv(name, str(tmp_path / "none"))
    for name, value in (("CXR_SERVER", "10.0.0.7:1"), ("CXR_TLS", "1"), ("CXR_TOKEN", "x")):
        monkeypatch.setenv(name, value)
    assert ask(fake.address, "health").serving
    assert "authorization" not in fake.calls[0].metadata
