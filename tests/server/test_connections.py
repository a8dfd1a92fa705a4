"""Closing the connection of one caller, found by the name that gRPC gives it."""

import errno
import os
import socket
from collections.abc import Iterator
from contextlib import ExitStack
from pathlib import Path

import pytest

from cxr_server.rpc import connections

Pair = tuple[socket.socket, socket.socket]
PEERS = [("127.0.0.1", "127.0.0.1", "ipv4:127.0.0.1:{port}")]
if Path("/proc/net/if_inet6").exists():  # this machine has IPv6
    PEERS += [
        ("::", "127.0.0.1", "ipv4:127.0.0.1:{port}"),
        ("::", "127.0.0.1", "ipv6:%5B::ffff:127.0.0.1%5D:{port}"),
        ("::1", "::1", "ipv6:%5B::1%5D:{port}"),
        ("::1", "::1", "ipv6:[::1]:{port}"),
    ]


@pytest.fixture
def sockets() -> Iterator[ExitStack]:
    with ExitStack() as stack:
        yield stack


def listening(stack: ExitStack, host: str) -> socket.socket:
    family = socket.AF_INET6 if ":" in host else socket.AF_INET
    listener = socket.create_server((host, 0), family=family, dualstack_ipv6=host == "::")
    return stack.enter_context(listener)


def connected(stack: ExitStack, listener: socket.socket, client_host: str = "127.0.0.1") -> Pair:
    """A server's and a client's end of a connection."""
    client = socket.create_connection((client_host, listener.getsockname()[1]), timeout=60)
    stack.enter_context(client)
    accepted, _ = listener.accept()
    stack.enter_context(accepted)
    accepted.settimeout(60)
    return accepted, client


def has_ended(pair: Pair) -> bool:
    accepted, client = pair
    accepted.setblocking(False)
    try:
        return accepted.recv(1) == b"" and client.recv(1) == b""
    except BlockingIOError:
        return False


@pytest.mark.parametrize(("host", "client_host", "peer"), PEERS)
def test_the_connection_of_a_peer_is_closed_and_no_other(
    sockets: ExitStack, host: str, client_host: str, peer: str
) -> None:
    # One listener: the port of another might be that of the slow client, whose peer it then has.
    listener = listening(sockets, host)
    slow, other = (connected(sockets, listener, client_host) for _ in range(2))
    connections.close(peer.format(port=slow[1].getsockname()[1]))
    assert has_ended(slow)
    assert not has_ended(other)


@pytest.mark.parametrize("peer", ["unix:", "unix:/run/cxr.sock", "gateway", ""])
def test_a_peer_without_an_address_closes_nothing(sockets: ExitStack, peer: str) -> None:
    pair = connected(sockets, listening(sockets, "127.0.0.1"))
    connections.close(peer)
    assert not has_ended(pair)


def test_no_descriptor_is_left_behind(sockets: ExitStack, tmp_path: Path) -> None:
    for number in range(20):  # files, as a server has them, beside sockets
        sockets.enter_context((tmp_path / str(number)).open("w"))
    pair = connected(sockets, listening(sockets, "127.0.0.1"))
    before = len(os.listdir("/proc/self/fd"))
    for _ in range(3):
        connections.close("ipv4:127.0.0.1:1")
    assert len(os.listdir("/proc/self/fd")) == before
    assert not has_ended(pair)


def test_without_a_descriptor_left_the_server_goes_on(
    sockets: ExitStack, monkeypatch: pytest.MonkeyPatch
) -> None:
    def exhausted(_: str) -> list[str]:
        raise OSError(errno.EMFILE, os.strerror(errno.EMFILE))

    pair = connected(sockets, listening(sockets, "127.0.0.1"))
    monkeypatch.setattr("cxr_server.rpc.connections.os.listdir", exhausted)
    connections.close(f"ipv4:127.0.0.1:{pair[1].getsockname()[1]}")
    assert not has_ended(pair)
