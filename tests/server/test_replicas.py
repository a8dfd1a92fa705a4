"""Three server processes behind one name, one of which drains, one is killed and returns."""

import signal
from collections import Counter
from collections.abc import Iterator
from contextlib import ExitStack

import pytest

from cxr_client import BalancingConfig, Client
from serving import ServerProcess
from trust.ports import free_port

pytestmark = pytest.mark.slow

CALLS = 12


class Replica:
    """A server that is known by its limit on calls in flight."""

    def __init__(self, number: int) -> None:
        self.number = number
        self.address = f"127.0.0.1:{free_port()}"
        self.flags = ("--listen", self.address, "--max-in-flight", str(number))

    def process(self) -> ServerProcess:
        return ServerProcess(*self.flags, "--drain-pause-s", "60")


@pytest.fixture
def stack() -> Iterator[ExitStack]:
    with ExitStack() as stack:
        yield stack


def answers(client: Client) -> Counter[int]:
    """Which replicas answer the next calls."""
    return Counter(client.describe_model().limits.max_in_flight_count for _ in range(CALLS))


def test_a_draining_server_and_a_killed_one_get_no_call_and_one_that_returns_is_used_again(
    stack: ExitStack,
) -> None:
    replicas = [Replica(number) for number in (11, 12, 13)]
    processes = [stack.enter_context(each.process()) for each in replicas]
    target = "ipv4:" + ",".join(each.address for each in replicas)
    client = stack.enter_context(Client(target, balancing=BalancingConfig(health_check=True)))
    while len(answers(client)) < 3:
        pass  # until all are connected
    assert answers(client) == {11: 4, 12: 4, 13: 4}

    processes[1].process.send_signal(signal.SIGTERM)
    with Client(replicas[1].address) as alone:
        while alone.health().serving:
            pass
    while 12 in answers(client):
        pass  # until the change of its health has arrived
    assert answers(client) == {11: 6, 13: 6}

    processes[2].process.kill()
    assert answers(client) == {11: CALLS}

    stack.enter_context(replicas[2].process())
    while 13 not in answers(client):
        pass  # until the client has connected again
    assert answers(client) == {11: 6, 13: 6}
