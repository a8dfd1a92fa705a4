"""`AsyncClient.predict_many`: any number of images, few of them at a time."""

import asyncio
import threading
import time
from collections.abc import AsyncIterator, Iterator
from pathlib import Path
from typing import Any

import grpc
import pytest

from cxr.v1 import chest_xray_pb2 as pb
from cxr_client import (
    AsyncClient,
    CallCancelledError,
    DeadlineError,
    ImageError,
    Prediction,
    UnauthenticatedError,
    UnavailableError,
)
from cxr_client.answer import Timing
from cxr_client.limiter import Limiter
from cxr_client.testing import FakeServer, Hold, default_answer, failure

BUSY = failure("RESOURCE_EXHAUSTED", "QUEUE_FULL", retry_after_s=0.01)


def image(number: int) -> bytes:
    return bytes([number // 256, number % 256])


def number_of(outcome: Any) -> int:
    assert isinstance(outcome, Prediction)
    return int(outcome.request_id.partition("-")[2])


@pytest.fixture
def echo(fake: FakeServer) -> FakeServer:
    """A server whose answers name the image."""

    def answer(request: pb.PredictRequest) -> Any:
        response: Any = default_answer(request)
        response.request_id = f"image-{request.image[0] * 256 + request.image[1]}"
        return response

    fake.answer("Predict", answer)
    return fake


async def test_every_image_is_answered_once_with_its_own_answer(echo: FakeServer) -> None:
    async with AsyncClient(echo.address) as client:
        images = map(image, range(300))
        outcomes = [each async for each in client.predict_many(images, top_k=3)]
    assert sorted(number_of(outcome) for _, outcome in outcomes) == list(range(300))
    assert all(given == image(number_of(outcome)) for given, outcome in outcomes)
    assert {call.metadata["x-priority"] for call in echo.calls} == {"bulk"}
    assert {call.request.top_k for call in echo.calls} == {3}


async def test_other_calls_are_interactive_unless_the_client_says_otherwise(
    echo: FakeServer,
) -> None:
    async with AsyncClient(echo.address) as client:
        await client.predict(image(1))
    async with AsyncClient(echo.address, priority="bulk") as client:
        await client.predict(image(1))
    assert [call.metadata.get("x-priority") for call in echo.calls] == [None, "bulk"]


async def test_no_more_images_are_taken_than_are_in_flight(echo: FakeServer) -> None:
    taken = received = most_ahead = 0

    def images() -> Iterator[bytes]:
        nonlocal taken
        while True:  # never ends
            taken += 1
            yield image(taken)

    async with AsyncClient(echo.address, max_in_flight=8) as client:
        outcomes = client.predict_many(images())
        async for _ in outcomes:
            received += 1
            most_ahead = max(most_ahead, taken - received)
            if received == 200:
                break
        await outcomes.aclose()
    assert most_ahead <= 9  # those in flight, and the one that is taken next


async def test_images_may_come_from_an_asynchronous_iterator(echo: FakeServer) -> None:
    async def images() -> AsyncIterator[bytes]:
        for number in range(20):
            await asyncio.sleep(0)
            yield image(number)

    async with AsyncClient(echo.address) as client:
        outcomes = [outcome async for _, outcome in client.predict_many(images())]
    assert sorted(map(number_of, outcomes)) == list(range(20))


async def test_an_image_is_yielded_while_the_next_one_is_awaited(echo: FakeServer) -> None:
    answered = asyncio.Event()

    async def images() -> AsyncIterator[bytes]:
        yield image(1)
        async with asyncio.timeout(60):
            await answered.wait()
        yield image(2)

    async with AsyncClient(echo.address) as client:
        numbers = []
        async for _, outcome in client.predict_many(images()):
            numbers.append(number_of(outcome))
            answered.set()
    assert numbers == [1, 2]


async def test_refusals_for_load_are_waited_for_and_fewer_calls_are_sent(echo: FakeServer) -> None:
    lock, running, most = threading.Lock(), 0, 0

    def crowded(context: grpc.ServicerContext) -> None:
        """Refuse every call above three."""
        nonlocal running, most
        with lock:
            running += 1
            refused = running > 3
            most = max(most, running)

        def end() -> None:
            nonlocal running
            with lock:
                running -= 1

        context.add_callback(end)
        if refused:
            BUSY(context)

    echo.script(*[crowded] * 5000, rpc="Predict")
    async with AsyncClient(echo.address, max_in_flight=64) as client:
        images = map(image, range(400))
        outcomes = [outcome async for _, outcome in client.predict_many(images)]
    assert sorted(map(number_of, outcomes)) == list(range(400))
    assert most < 16
    assert len(echo.calls) < 1200


async def test_an_image_or_a_file_that_is_refused_stops_no_other(
    echo: FakeServer, tmp_path: Path
) -> None:
    echo.script(failure("INVALID_ARGUMENT", "IMAGE_UNREADABLE"))
    missing = tmp_path / "missing.png"
    async with AsyncClient(echo.address, max_in_flight=1) as client:
        images = [image(1), missing, image(2)]
        outcomes = [outcome async for _, outcome in client.predict_many(images)]
    assert [type(outcome) for outcome in outcomes] == [ImageError, FileNotFoundError, Prediction]


async def test_a_server_that_restarts_is_waited_for() -> None:
    with FakeServer() as first:
        address = first.address
        async with AsyncClient(address) as client:
            outcomes = client.predict_many(map(image, range(40)))
            seen = [await anext(outcomes) for _ in range(10)]
            first.stop()
            waiting = asyncio.ensure_future(anext(outcomes))
            await asyncio.sleep(0.3)
            with FakeServer(address=address):
                seen.append(await waiting)
                seen += [each async for each in outcomes]
    assert sorted(given for given, _ in seen if isinstance(given, bytes)) == [
        image(number) for number in range(40)
    ]
    assert {type(outcome) for _, outcome in seen} == {Prediction}


async def test_an_outage_longer_than_allowed_ends_it(echo: FakeServer) -> None:
    echo.stop()
    async with AsyncClient(echo.address) as client:
        with pytest.raises(UnavailableError):
            async for _ in client.predict_many([image(1)], outage_s=0.5):
                pass


async def test_a_rejected_token_ends_it(echo: FakeServer) -> None:
    echo.script(*[failure("UNAUTHENTICATED", "UNAUTHENTICATED")] * 9)
    async with AsyncClient(echo.address) as client:
        with pytest.raises(UnauthenticatedError):
            async for _ in client.predict_many(map(image, range(9))):
                pass


async def test_closing_the_client_ends_it(echo: FakeServer) -> None:
    hold = Hold()
    echo.script(hold)
    client = AsyncClient(echo.address, max_in_flight=1)
    waiting = asyncio.ensure_future(anext(client.predict_many(map(image, range(9)))))
    await asyncio.to_thread(hold.wait_entered)
    await client.aclose()
    with pytest.raises(CallCancelledError):
        await waiting


async def test_an_image_that_always_fails_on_the_server_is_given_up(echo: FakeServer) -> None:
    echo.script(*[failure("INTERNAL", "INTERNAL")] * 3)
    async with AsyncClient(echo.address, max_in_flight=1) as client:
        outcomes = [outcome async for _, outcome in client.predict_many(map(image, range(2)))]
    assert [isinstance(outcome, Prediction) for outcome in outcomes] == [False, True]


async def test_a_server_that_hangs_is_an_outage_and_no_failure_of_its_images(
    echo: FakeServer,
) -> None:
    hold = Hold()
    echo.script(*[hold] * 100, rpc="Predict")
    async with AsyncClient(echo.address, timeout_s=0.2) as client:
        with pytest.raises(UnavailableError, match="has answered no call for 1 s"):
            async for _ in client.predict_many(map(image, range(3)), outage_s=1):
                pass
    hold.release()


@pytest.mark.slow
async def test_an_image_that_never_ends_in_time_is_given_up(echo: FakeServer) -> None:
    def answer(request: pb.PredictRequest) -> Any:
        if request.image == image(1):
            time.sleep(0.5)
        return default_answer(request)

    echo.answer("Predict", answer)

    async def images() -> AsyncIterator[bytes]:
        yield image(1)
        while not given_up.is_set():
            await asyncio.sleep(0.05)
            yield image(2)

    given_up = asyncio.Event()
    async with AsyncClient(echo.address, timeout_s=0.2) as client:
        async with asyncio.timeout(60):
            async for given, outcome in client.predict_many(images()):
                if given == image(1):
                    assert isinstance(outcome, DeadlineError)
                    given_up.set()


# --- how many at a time ---


def timing(queue_ms: float) -> Timing:
    return Timing(10.0, queue_ms, 20.0, None, evidence_cached=False)


async def limit_after(limiter: Limiter, queue_ms: float, answers: int) -> int:
    async def call() -> None:
        async with limiter:
            await asyncio.sleep(0)
            limiter.answered(timing(queue_ms))

    for _ in range(answers):
        await asyncio.gather(*(call() for _ in range(limiter.limit)))
    return limiter.limit


async def test_the_number_of_calls_grows_while_none_waits_up_to_its_bound() -> None:
    assert await limit_after(Limiter(100), 0, 40) > 20
    assert await limit_after(Limiter(7), 0, 30) == 7


async def test_the_number_of_calls_falls_while_they_wait_long_and_never_to_none() -> None:
    limiter = Limiter(100)
    high = await limit_after(limiter, 0, 40)
    assert await limit_after(limiter, 50, 30) == high  # waiting is as long as working
    assert await limit_after(limiter, 1000, 5) < high
    assert await limit_after(limiter, 1000, 100) == 1


async def test_refusals_of_calls_sent_together_count_once() -> None:
    limiter = Limiter(100, first=20)
    async with limiter, limiter, limiter:
        for _ in range(3):
            limiter.refused()
        assert limiter.limit == 14
