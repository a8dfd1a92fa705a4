"""Settings: flags and environment are read alike, and what cannot work is named as it was given."""

import errno
from pathlib import Path

import pytest

from cxr_client.config import TLS_SWITCH, TLS_VARIABLES
from cxr_server.settings import Address, Settings, SettingsError, parse
from cxr_server.settings.environment import check_names


@pytest.mark.parametrize(
    ("written", "meant"),
    [
        ("CXR_TOKENS_FLE", "CXR_TOKENS_FILE"),
        ("CXR_TLS_CERTS", "CXR_TLS_CERT"),
        ("CXR_MAX_PIXEL", "CXR_MAX_PIXELS"),
        ("CXR_MAX_INFLIGHT_MIB", "CXR_MAX_IN_FLIGHT_MIB"),
        ("CXR_LISTENS", "CXR_LISTEN"),
        ("CXR_TOKENS", "CXR_TOKENS_FILE"),
        ("CXR_TLS_CLIENT", "CXR_TLS_CLIENT_CA"),
    ],
)
def test_a_variable_close_to_a_setting_is_refused_with_the_right_name(
    written: str, meant: str
) -> None:
    with pytest.raises(SettingsError, match=rf"{written} is not a setting; did you mean {meant}\?"):
        parse([], {written: "1"})


def test_any_other_unknown_variable_is_a_warning() -> None:
    assert check_names({"CXR_COLOUR": "red", "PATH": "/bin"}) == [
        "CXR_COLOUR is not a setting and is ignored"
    ]
    assert check_names({"CXR_PORT": "50051"}) == ["CXR_PORT is not a setting and is ignored"]


KUBERNETES = {
    "CXR_SERVICE_HOST": "10.0.0.1",
    "CXR_SERVICE_PORT": "50051",
    "CXR_SERVICE_PORT_GRPC": "50051",
    "CXR_PORT": "tcp://10.0.0.1:50051",
    "CXR_PORT_50051_TCP": "tcp://10.0.0.1:50051",
    "CXR_PORT_50051_TCP_PROTO": "tcp",
    "CXR_PORT_50051_TCP_PORT": "50051",
    "CXR_PORT_50051_TCP_ADDR": "10.0.0.1",
}
"""What Kubernetes sets in the pods beside a service named `cxr`."""


def test_the_variables_of_kubernetes_services_are_ignored() -> None:
    of_another = {name.replace("CXR_", "CXR_SERVE_"): value for name, value in KUBERNETES.items()}
    assert check_names(KUBERNETES | of_another) == []
    assert parse([], KUBERNETES | of_another) == Settings()


def test_the_variables_of_the_client_are_ignored() -> None:
    client = ["CXR_SERVER", "CXR_TOKEN", TLS_SWITCH, *TLS_VARIABLES.values()]
    assert check_names(dict.fromkeys(client, "1")) == []
    with pytest.raises(SettingsError, match=r"did you mean CXR_TOKENS_FILE\?"):
        check_names({"CXR_TOKEN_FILE": "tokens"})


def test_an_empty_variable_counts_as_unset() -> None:
    names = ("CXR_MAX_IN_FLIGHT", "CXR_LISTEN", "CXR_INSECURE", "CXR_TOKENS_FLE")
    assert parse([], dict.fromkeys(names, "")) == Settings()


def test_a_flag_precedes_the_environment() -> None:
    assert parse(["--max-pixels", "2000"], {"CXR_MAX_PIXELS": "3000"}).max_pixels == 2000


def test_choices_are_accepted_in_any_case() -> None:
    assert parse([], {"CXR_LOG_LEVEL": "INFO"}).log_level == "info"
    assert parse(["--engine", "OpenVINO", "--log-format", "JSON"], {}).log_format == "json"


@pytest.mark.parametrize(
    ("flags", "env", "message"),
    [
        (["--max-pixels", "many"], {}, "--max-pixels many is not a whole number"),
        ([], {"CXR_GRACE_S": "soon"}, "CXR_GRACE_S=soon is not a number"),
        ([], {"CXR_INSECURE": "maybe"}, "CXR_INSECURE=maybe is neither true nor false"),
        (["--log-level", "inf"], {}, "--log-level inf is not one of .*; did you mean info?"),
        (["--max-side-px", "9"], {}, "--max-side-px 9 is not from 32 to 65535"),
        (["--grace-s", "nan"], {}, "--grace-s nan is not a finite number"),
        ([], {"CXR_MAX_CALL_S": "inf"}, "CXR_MAX_CALL_S=inf is not a finite number"),
        (
            ["--min-side-px", "500"],
            {"CXR_MAX_SIDE_PX": "100"},
            "CXR_MAX_SIDE_PX=100 is below --min-side-px 500",
        ),
        (
            ["--max-side-px", "32", "--min-side-px", "33"],
            {},
            "--max-side-px 32 is below --min-side-px 33",
        ),
        (
            ["--max-pixels", "2000", "--min-side-px", "45"],
            {},
            "--max-pixels 2000 is below 2025, .* --min-side-px 45 allows",
        ),
        (
            ["--min-side-px", "4000"],
            {"CXR_MAX_SIDE_PX": "3999"},
            "CXR_MAX_SIDE_PX=3999 is below --min-side-px 4000",
        ),
        (["--listen", "127.0.0.1:99999"], {}, "--listen 127.0.0.1:99999: port 99999 is above"),
        (["--listen", "localhost:80000"], {}, "port 80000 is above 65535"),
        ([], {"CXR_LISTEN": ":50051"}, "CXR_LISTEN=:50051: the host is missing: 127.0.0.1:50051"),
        (["--listen", "127.0.0.1"], {}, "the port is missing: 127.0.0.1:50051"),
        (["--listen", "[::1]"], {}, r"the port is missing: \[::1\]:50051"),
        (["--listen", "::1:50051"], {}, r"in brackets: \[::1\]:50051"),
        (["--listen", "localhost:grpc"], {}, "'grpc' is not a port"),
        (["--listen", "http://localhost:1"], {}, "it is a URL or a path"),
        (["--listen", "unix:"], {}, "unix:relative/path or unix:/absolute/path"),
        (["--metrics-listen", "unix:/m"], {}, "--metrics-listen unix:/m: Prometheus needs"),
        (["--health-listen", "localhost"], {}, "--health-listen localhost: the port is missing"),
        (
            ["--listen", "127.0.0.1:9", "--metrics-listen", "127.0.0.1:9"],
            {},
            "--listen 127.0.0.1:9 and --metrics-listen 127.0.0.1:9 are the same",
        ),
        (["--listen", "0.0.0.0:1"], {}, "--listen 0.0.0.0:1 can be reached .*: give --tls-cert"),
        ([], {"CXR_TLS_CERT": "c.pem"}, "CXR_TLS_CERT=c.pem needs --tls-key as well"),
        (["--tls-key", "k.pem"], {}, "--tls-key k.pem needs --tls-cert as well"),
        (["--tls-client-ca", "ca.pem"], {}, "--tls-client-ca ca.pem needs --tls-cert"),
    ],
)
def test_what_cannot_work_is_named_as_it_was_given(
    flags: list[str], env: dict[str, str], message: str
) -> None:
    with pytest.raises(SettingsError, match=message):
        parse(flags, env)


@pytest.mark.parametrize("flags", [["--max-side-px", "200"], ["--max-pixels", "2000"]])
def test_limits_that_some_image_meets_are_accepted(flags: list[str]) -> None:
    assert parse(flags, {}) != Settings()


@pytest.mark.parametrize(
    ("text", "address"),
    [
        ("127.0.0.1:0", Address("127.0.0.1", 0)),
        ("[::1]:50051", Address("::1", 50051)),
        ("unix:/run/cxr.sock", Address("", 0, "/run/cxr.sock")),
        ("unix:///run/cxr.sock", Address("", 0, "/run/cxr.sock")),
        ("unix:cxr.sock", Address("", 0, "cxr.sock")),
    ],
)
def test_an_address_is_read_and_written_as_grpc_takes_it(text: str, address: Address) -> None:
    assert Address.parse(text) == address
    assert Address.parse(str(address)) == address


@pytest.mark.parametrize("text", ["unix:/run/cxr.sock", "127.8.9.1:1", "[::1]:1", "localhost:1"])
def test_plaintext_is_served_where_only_this_machine_can_reach(text: str) -> None:
    assert parse(["--listen", text], {}).listen == text


def test_a_port_that_needs_privileges_says_so(monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(*_: object) -> None:
        raise PermissionError(errno.EACCES, "Permission denied")

    monkeypatch.setattr("socket.socket.bind", refuse)
    problem = Address.parse("127.0.0.1:80").problem()
    assert problem == "this user may not open it: choose a port above 1023"


def test_a_socket_that_nobody_can_listen_on_says_why(tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    for path, reason in {
        tmp_path / "file": "it is a file, not a socket",
        tmp_path / "nosuch" / "socket": f"there is no folder {tmp_path / 'nosuch'}",
        tmp_path / ("x" * 120): "the path is longer than 107 bytes",
    }.items():
        assert Address.parse(f"unix:{path}").problem() == reason
