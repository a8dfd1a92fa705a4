"""Servers that stand for one another, each known by its limit on calls in flight."""

from collections import Counter
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager

from cxr_client import Client
from serving import ServerProcess
from trust.ports import free_port


class Replica:
    """A server process that can be ended and started again on its port."""

    def __init__(self, number: int) -> None:
        self.number = number
        self.port = free_port()
        self.address = f"127.0.0.1:{self.port}"
        self.server = self._process()

    def _process(self) -> ServerProcess:
        flags = ("--listen", self.address, "--max-in-flight", str(self.number))
        return ServerProcess(*flags, "--drain-pause-s", "60", "--engine-threads", "1")

    def kill(self) -> None:
        self.server.process.kill()
        self.server.process.wait()

    def restart(self) -> None:
        self.server.__exit__(None, None, None)
        self.server = self._process().__enter__()


@contextmanager
def replicas(count: int) -> Iterator[list[Replica]]:
    """That many servers, all of which serve."""
    with ExitStack() as stack:
        found = [Replica(11 + index) for index in range(count)]
        for each in found:
            each.server.__enter__()
            stack.callback(lambda each=each: each.server.__exit__(None, None, None))
        yield found


def answers(client: Client, calls: int = 12) -> Counter[int]:
    """Which replicas answer the next calls."""
    return Counter(client.describe_model().limits.max_in_flight_count for _ in range(calls))
