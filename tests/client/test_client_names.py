"""A server whose name leads to another address after a restart."""

import socket
import struct
import threading
from collections.abc import Iterator
from contextlib import contextmanager

import pytest

from cxr_client import Client
from cxr_client.testing import FakeServer
from trust.ports import free_port


@contextmanager
def names(answers: list[str]) -> Iterator[str]:
    """A DNS server that answers in turn, the last one for good; its address."""
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as server:
        server.bind(("127.0.0.1", 0))

        def answer() -> None:
            while True:
                try:
                    asked, caller = server.recvfrom(2048)
                except OSError:  # closed
                    return
                end = asked.index(b"\0", 12) + 5
                (kind,) = struct.unpack_from(">H", asked, end - 4)
                is_a = kind == 1
                reply = asked[:2] + b"\x85\x80" + struct.pack(">HHHH", 1, is_a, 0, 0)
                reply += asked[12:end]
                if is_a:
                    address = answers.pop(0) if len(answers) > 1 else answers[0]
                    reply += b"\xc0\x0c" + struct.pack(">HHIH", 1, 1, 1, 4)
                    reply += socket.inet_aton(address)
                server.sendto(reply, caller)

        threading.Thread(target=answer, daemon=True).start()
        yield "{}:{}".format(*server.getsockname())


@pytest.mark.slow
def test_a_server_that_comes_back_at_another_address_is_found_by_the_call_that_misses_it() -> None:
    port = free_port()
    # At the end of the connection, the name still leads to the old address.
    with names(["127.0.0.1", "127.0.0.1", "127.0.0.2"]) as resolver:
        before, after = (FakeServer(address=f"127.0.0.{n}:{port}") for n in (1, 2))
        before.start()
        target = f"dns://{resolver}/cxr.test:{port}"
        with Client(target, insecure=True, timeout_s=60) as client:
            client.predict(b"film")
            before.stop()
            after.start()
            assert client.predict(b"film").findings
        after.stop()
