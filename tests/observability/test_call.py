"""Call: what is known of one RPC."""

import math
import time

import pytest

from cxr_server.observability.call import Call


def call(passed_s: float, timeout_s: float = math.inf) -> Call:
    started = time.monotonic() - passed_s
    return Call("service/Method", "id", "caller", started + timeout_s, started)


@pytest.mark.parametrize(
    ("timeout_s", "passed_s"), [(1.010, 1.001), (60.0, 59.5), (0.1, 0.097), (0.003, 0), (2, 2.1)]
)
def test_a_caller_that_gives_up_at_its_deadline_is_known(timeout_s: float, passed_s: float) -> None:
    assert call(passed_s, timeout_s).given_up_at_deadline


@pytest.mark.parametrize(("timeout_s", "passed_s"), [(1.0, 0.9), (60.0, 58.0), (0.1, 0.05)])
def test_a_caller_that_gives_up_before_its_deadline_has_cancelled(
    timeout_s: float, passed_s: float
) -> None:
    assert not call(passed_s, timeout_s).given_up_at_deadline


def test_a_call_without_a_deadline_is_never_given_up_at_one() -> None:
    assert not call(3600.0).given_up_at_deadline
