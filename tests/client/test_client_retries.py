"""Retries: what is repeated, when, and how often."""

import time

import grpc
import pytest

from clients import PNG, Ask, overload
from cxr_client import (
    CallCancelledError,
    CxrError,
    DeadlineError,
    InternalError,
    OverloadedError,
    RetryConfig,
    UnavailableError,
)
from cxr_client.retries import Retries
from cxr_client.testing import FakeServer, Step, failure

UNAVAILABLE = failure(grpc.StatusCode.UNAVAILABLE, "DRAINING")
QUICK = {"retry": RetryConfig(initial_backoff_s=0.001, max_backoff_s=0.002)}


def test_a_large_image_survives_an_unavailable_server(fake: FakeServer, ask: Ask) -> None:
    fake.script(*[UNAVAILABLE] * 2)
    result = ask(fake.address, "predict", bytes(2_000_000))
    assert result.findings[0].class_index == 2_000_000
    assert len(fake.calls) == 3
    assert len({call.metadata["x-request-id"] for call in fake.calls}) == 1


@pytest.mark.parametrize("code", ["UNAVAILABLE", "CANCELLED"])
def test_a_failed_connection_is_retried_up_to_max_attempts(
    fake: FakeServer, ask: Ask, code: str
) -> None:
    fake.script(*[failure(code, "X")] * 20)
    retry = RetryConfig(
        max_attempts=8, initial_backoff_s=0.001, max_backoff_s=0.01
    )  # gRPC itself allows 5
    with pytest.raises((UnavailableError, CallCancelledError)) as caught:
        ask(fake.address, "predict", PNG, options={"retry": retry})
    assert caught.value.reason == "X"
    assert len(fake.calls) == 8


@pytest.mark.parametrize("fault", [UNAVAILABLE, overload(0.01)], ids=["unavailable", "overload"])
def test_retries_can_be_turned_off(fake: FakeServer, ask: Ask, fault: Step) -> None:
    fake.script(*[fault] * 9)
    with pytest.raises((UnavailableError, OverloadedError)):
        ask(fake.address, "predict", PNG, options={"retry": RetryConfig(max_attempts=1)})
    assert len(fake.calls) == 1


@pytest.mark.parametrize(
    "refusal",
    [overload(0.001), failure("UNAVAILABLE", "MODEL_LOADING", retry_after_s=0.001)],
    ids=["full", "loading"],
)
def test_a_refusal_that_states_when_to_retry_is_no_attempt(
    fake: FakeServer, ask: Ask, refusal: Step
) -> None:
    fake.script(*[refusal] * 40, UNAVAILABLE)
    assert ask(fake.address, "predict", PNG, timeout_s=60, options=QUICK).findings
    assert len(fake.calls) == 42


def test_a_refusal_is_retried_at_the_stated_time(fake: FakeServer, ask: Ask) -> None:
    fake.script(overload(0.2), overload(0.1))
    start_s = time.monotonic()
    result = ask(fake.address, "predict", bytes(2_000_000), timeout_s=9)
    assert time.monotonic() - start_s >= 0.3
    assert result.findings[0].class_index == 2_000_000
    first, *_, last = fake.calls
    assert first.metadata["x-request-id"] == last.metadata["x-request-id"]
    # The deadline is one for all attempts: the last has what the first left over.
    # (On the wire a deadline is rounded up, to a tenth of a second or so.)
    assert last.time_remaining_s < first.time_remaining_s - 0.1


@pytest.mark.slow
def test_a_server_that_stays_full_is_an_overload_and_not_a_deadline(
    fake: FakeServer, ask: Ask
) -> None:
    fake.script(*[overload(1)] * 100)
    with pytest.raises(OverloadedError) as caught:
        ask(fake.address, "predict", PNG, timeout_s=3)
    assert caught.value.retry_after_s == 1
    assert caught.value.reason == "QUEUE_FULL"
    assert len(fake.calls) > 1


def test_a_retry_beyond_the_deadline_is_not_attempted(fake: FakeServer, ask: Ask) -> None:
    fake.script(overload(3600))
    with pytest.raises(OverloadedError) as caught:
        ask(fake.address, "predict", PNG, timeout_s=30)
    assert caught.value.retry_after_s == 3600
    assert len(fake.calls) == 1


@pytest.mark.parametrize(
    "code", sorted(set(grpc.StatusCode) - {grpc.StatusCode.OK}, key=lambda code: code.value[0])
)
def test_without_a_retry_time_only_unavailable_and_cancelled_are_retried(
    fake: FakeServer, ask: Ask, code: grpc.StatusCode
) -> None:
    fake.script(failure(code, "X"))
    if code in (grpc.StatusCode.UNAVAILABLE, grpc.StatusCode.CANCELLED):
        ask(fake.address, "predict", PNG)
        assert len(fake.calls) == 2
    else:
        with pytest.raises(Exception, match=f"fake {code.name}"):
            ask(fake.address, "predict", PNG)
        assert len(fake.calls) == 1


def test_the_pause_after_a_refusal_is_never_shorter_than_stated_and_grows() -> None:
    full = OverloadedError("full", retry_after_s=2.0)

    def mean_s(refusals: int) -> float:
        total_s = 0.0
        for _ in range(200):
            retries = Retries(RetryConfig())
            pauses = [retries.pause_s(full, 1000) for _ in range(refusals)]
            assert all(pause is not None and 2.0 <= pause <= 7.0 for pause in pauses)
            total_s += pauses[-1] or 0
        return total_s / 200

    first_s, fourth_s, fortieth_s = mean_s(1), mean_s(4), mean_s(40)
    assert first_s < 2.2 < fourth_s < 2.5 < fortieth_s
    assert fortieth_s > 4


def test_the_pauses_of_callers_refused_together_differ() -> None:
    full = OverloadedError("full", retry_after_s=1.0)
    pauses = {Retries(RetryConfig()).pause_s(full, 30) for _ in range(200)}
    assert len(pauses) > 100


@pytest.mark.parametrize("stated_s", [0.0, 0.05, 0.8])
def test_a_pause_always_leaves_time_for_the_retry(stated_s: float) -> None:
    retries = Retries(RetryConfig())
    full = OverloadedError("full", retry_after_s=stated_s)
    pauses = [retries.pause_s(full, 1.0) for _ in range(200)]
    assert all(pause is not None and stated_s <= pause <= 0.95 for pause in pauses)
    assert Retries(RetryConfig()).pause_s(full, stated_s + 0.05) is None


def test_a_stated_time_of_nothing_does_not_spin() -> None:
    retries = Retries(RetryConfig())
    full = UnavailableError("loading", retry_after_s=0.0)
    assert sum(retries.pause_s(full, 600) or 0 for _ in range(50)) > 20


def test_the_backoff_grows_to_its_limit_and_ends_with_the_attempts() -> None:
    lost = UnavailableError("gone")
    retries = Retries(RetryConfig(max_attempts=6))
    pauses = [retries.pause_s(lost, 1000) for _ in range(6)]
    for pause, mean_s in zip(pauses, (0.2, 0.6, 1.8, 5, 5), strict=False):
        assert pause == pytest.approx(mean_s, rel=0.21)
    assert pauses[-1] is None
    assert Retries(RetryConfig()).pause_s(lost, 0.1) == pytest.approx(0.05)
    endless = Retries(RetryConfig(max_attempts=10_000))
    assert all(endless.pause_s(lost, 1000) for _ in range(9_999))


@pytest.mark.parametrize(
    "error", [OverloadedError("too large"), DeadlineError("late"), InternalError("it failed")]
)
def test_other_failures_are_final(error: CxrError) -> None:
    assert Retries(RetryConfig()).pause_s(error, 30) is None
