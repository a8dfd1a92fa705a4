"""Causes: the texts of grpc 1.75 and 1.85 for a failed connection, and what is made of them."""

import pytest

from cxr_client.causes import cause_of

PREFIX = "connections to all backends failing; last error: UNKNOWN: ipv4:127.0.0.1:1: "
OTHER_NAME = "its certificate is for another name; if that is expected, set tls.server_name to it"
TEXTS = [
    ("Failed to connect to remote host: Connection refused", "connection refused"),
    (
        "Failed to connect to remote host: connect: Connection refused (111)",
        "connection refused",
    ),
    ("connection attempt timed out before receiving SETTINGS frame", "nothing answers there"),
    ("Failed to connect to remote host: Timeout occurred: FD Shutdown", "nothing answers there"),
    ("tcp handshaker shutdown", "nothing answers there"),
    ("connect: Network is unreachable (101)", "there is no route to it"),
    ("connect: No route to host (113)", "there is no route to it"),
    ("connect: Permission denied (13)", "permission denied"),
    (
        "Tls handshake failed (TSI_PROTOCOL_FAILURE): SSL_ERROR_SSL: error:1000007d:SSL routines:"
        "OPENSSL_internal:CERTIFICATE_VERIFY_FAILED: unable to get local issuer certificate: OK",
        "its certificate is not trusted",
    ),
    (
        "Custom verification check failed with error: UNAUTHENTICATED: Hostname Verification "
        "Check failed.",
        OTHER_NAME,
    ),
    (
        "Peer name other.example.org is not in peer certificate",
        OTHER_NAME,
    ),
    (
        "Tls handshake failed (TSI_PROTOCOL_FAILURE): SSL_ERROR_SSL: error:100000f7:SSL routines:"
        "OPENSSL_internal:WRONG_VERSION_NUMBER: Invalid certificate verification context: OK",
        "it does not use TLS",
    ),
    (
        "Failed to create security handshaker.",
        "a TLS file is not valid, or the key is another one's",
    ),
    ("Tls handshake failed (TSI_PROTOCOL_FAILURE): x: OK", "the TLS handshake failed"),
    (
        "Failed parsing HTTP/2 (Expected SETTINGS frame as the first frame, got frame type 79)",
        "it is not a gRPC server",
    ),
    ("backend unhealthy", "no server there reports that it is serving"),
    ("something new", "something new"),
]


@pytest.mark.parametrize(("text", "cause"), TEXTS)
def test_a_failed_connection_is_told_by_its_cause(text: str, cause: str) -> None:
    assert cause_of(PREFIX + text, tls=True, connected=False) == cause


@pytest.mark.parametrize(
    "text",
    [
        "errors resolving nosuch.invalid:1: [field:hostname lookup error:address lookup failed for "
        "nosuch.invalid:1: Domain name not found]",
        "DNS resolution failed for nosuch.invalid:1: C-ares status is not ARES_SUCCESS",
    ],
)
def test_a_name_that_is_not_found_is_told(text: str) -> None:
    assert cause_of(text, tls=False, connected=False) == "the name cannot be resolved"


@pytest.mark.parametrize("text", ["Socket closed", "recvmsg:Connection reset by peer"])
def test_a_connection_that_ends_at_once_may_require_what_was_not_sent(text: str) -> None:
    closed = "it closed the connection"
    assert cause_of(PREFIX + text, tls=False, connected=False) == f"{closed} (it may require TLS)"
    assert cause_of(PREFIX + text, tls=True, connected=False) == (
        f"{closed} (it may require a client certificate)"
    )
    assert cause_of(text, tls=False, connected=True) == closed
