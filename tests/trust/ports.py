"""Ports that a test can name before anything listens on them."""

import random
import socket
from itertools import count


def free_port() -> int:
    """Return a free port below the range of ephemeral ports.

    A client that keeps connecting to an ephemeral port on which nobody listens can be given that
    port as its own, and connect to itself.
    """
    chance = random.SystemRandom()
    for _ in count():
        port = chance.randrange(20_000, 30_000)
        with socket.socket() as probe:
            if probe.connect_ex(("127.0.0.1", port)):
                return port
    raise AssertionError
