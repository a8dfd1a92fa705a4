"""Ports that a test can name before anything listens on them."""

import random
import socket
from itertools import count


def free_port() -> int:
    """A free port below the range of outgoing connections.

    A client that tries a port of that range again and again while nobody listens may get the
    port for its own end, and be connected with itself.
    """
    chance = random.SystemRandom()
    for _ in count():
        port = chance.randrange(20_000, 30_000)
        with socket.socket() as probe:
            if probe.connect_ex(("127.0.0.1", port)):
                return port
    raise AssertionError
