"""Three server processes behind one name, one of which drains, one is killed and returns."""

import signal

import pytest

from cxr_client import BalancingConfig, Client
from replicas import answers, replicas

pytestmark = pytest.mark.slow


def test_a_draining_server_and_a_killed_one_get_no_call_and_one_that_returns_is_used_again() -> (
    None
):
    balancing = BalancingConfig(health_check=True)
    with replicas(3) as (first, second, third):
        target = f"ipv4:{first.address},{second.address},{third.address}"
        with Client(target, balancing=balancing) as client, Client(second.address) as alone:
            while len(answers(client)) < 3:
                pass  # until all are connected
            assert answers(client) == {first.number: 4, second.number: 4, third.number: 4}

            second.server.process.send_signal(signal.SIGTERM)
            while alone.health().serving:
                pass
            while second.number in answers(client):
                pass  # until the change of its health has arrived
            assert answers(client) == {first.number: 6, third.number: 6}

            third.kill()
            assert answers(client) == {first.number: 12}

            third.restart()
            while third.number not in answers(client):
                pass  # until the client has connected again
            assert answers(client) == {first.number: 6, third.number: 6}
