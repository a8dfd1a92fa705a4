"""Many calls at once: AsyncClient bounds what is in flight; a gather loses none."""

import asyncio
import threading
import traceback
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest
from google.protobuf.message import Message

from clients import PNG, overload
from cxr_client import (
    AsyncClient,
    CallCancelledError,
    Client,
    ImageError,
    OverloadedError,
    RequestTooLargeError,
    RetryConfig,
    UnavailableError,
)
from cxr_client.testing import FakeServer, Hold, default_answer, failure
from images import chest_like, png
from serving import ServerProcess

ONCE = RetryConfig(max_attempts=1)
MIB = 2**20


class Film:
    """A path that counts the images in memory: from being opened until the call has ended."""

    held = most_held = 0

    def __init__(self, path: Path) -> None:
        self._path = str(path)

    def __fspath__(self) -> str:
        type(self).held += 1
        type(self).most_held = max(self.held, self.most_held)
        return self._path

    async def predict(self, client: AsyncClient) -> Any:
        try:
            return await client.predict(self)
        finally:
            type(self).held -= 1


@contextmanager
def counted() -> Iterator[type[Film]]:
    class Counted(Film):
        pass

    yield Counted


@pytest.mark.slow
async def test_a_gather_over_1000_images_loses_none_and_holds_few(
    phantom_server: ServerProcess, tmp_path: Path
) -> None:
    path = tmp_path / "film.png"
    path.write_bytes(png(chest_like(64, 64)))
    with counted() as film:
        async with AsyncClient(phantom_server.address, timeout_s=60) as client:
            answers = await asyncio.gather(*(film(path).predict(client) for _ in range(1000)))
    assert len(answers) == 1000
    assert all(each.findings for each in answers)
    assert 1 < film.most_held <= 32


@pytest.mark.slow
async def test_waiting_for_a_turn_takes_nothing_from_the_deadline(fake: FakeServer) -> None:
    holds = [Hold() for _ in range(3)]
    fake.script(*holds)

    async def release() -> None:
        for hold in holds:
            await asyncio.to_thread(hold.wait_entered)
            await asyncio.sleep(1)
            hold.release()

    async with AsyncClient(fake.address, timeout_s=30, max_in_flight=1) as client:
        releasing = asyncio.create_task(release())
        await asyncio.gather(*(client.predict(PNG) for _ in range(4)))
        await releasing
    # Three seconds have passed; on the wire, a deadline is rounded up.
    assert all(call.time_remaining_s > 29 for call in fake.calls)


@pytest.mark.parametrize("max_in_flight", [1, 3])
async def test_no_more_calls_are_in_flight_than_allowed(max_in_flight: int) -> None:
    lock, now, most = threading.Lock(), 0, 0

    def answer(request: Any) -> Any:
        nonlocal now, most
        with lock:
            now += 1
            most = max(most, now)
        threading.Event().wait(0.01)
        with lock:
            now -= 1
        return default_answer(request)

    with FakeServer() as fake:
        fake.answer("Predict", answer)
        fake.answer("Explain", answer)
        async with AsyncClient(fake.address, max_in_flight=max_in_flight) as client:
            calls = [each(PNG) for _ in range(20) for each in (client.predict, client.explain)]
            await asyncio.gather(*calls)
    assert most == max_in_flight


async def test_health_and_the_model_are_not_held_up(fake: FakeServer) -> None:
    hold = Hold()
    fake.script(hold)
    async with AsyncClient(fake.address, max_in_flight=1) as client:
        calls = [asyncio.create_task(client.predict(PNG)) for _ in range(3)]
        await asyncio.to_thread(hold.wait_entered)
        assert (await client.health()).serving
        assert (await client.describe_model()).findings
        assert (await client.wait_until_ready(60)).serving
        assert not any(call.done() for call in calls)
        hold.release()
        await asyncio.gather(*calls)


async def test_a_waiting_call_can_be_cancelled_and_leaves_its_place(fake: FakeServer) -> None:
    hold = Hold()
    fake.script(hold)
    async with AsyncClient(fake.address, max_in_flight=1) as client:
        first, *waiting = [asyncio.create_task(client.predict(PNG)) for _ in range(50)]
        await asyncio.to_thread(hold.wait_entered)
        for call in waiting[:-1]:
            call.cancel()
        ends = await asyncio.gather(*waiting[:-1], return_exceptions=True)
        assert {type(end) for end in ends} == {asyncio.CancelledError}
        assert not first.done()
        hold.release()
        assert (await first).findings
        assert (await waiting[-1]).findings
    assert len(fake.calls) == 2


async def test_a_cancelled_call_gives_its_place_to_the_next(fake: FakeServer) -> None:
    hold = Hold()
    fake.script(hold)
    async with AsyncClient(fake.address, max_in_flight=1) as client:
        first, second = [asyncio.create_task(client.predict(PNG)) for _ in range(2)]
        await asyncio.to_thread(hold.wait_entered)
        first.cancel()
        assert (await second).findings
        hold.release()


async def test_closing_ends_the_calls_that_wait_or_pause(fake: FakeServer) -> None:
    fake.script(overload(3600))
    client = AsyncClient(fake.address, max_in_flight=1, timeout_s=100_000)
    calls = [asyncio.create_task(client.predict(PNG)) for _ in range(200)]
    async with asyncio.timeout(60):
        while not fake.calls:
            await asyncio.sleep(0.01)
        await client.aclose()
        ends = await asyncio.gather(*calls, return_exceptions=True)
    assert {type(end) for end in ends} == {CallCancelledError}


def held_bytes(error: BaseException) -> int:
    """Return the size of all bytes and messages in the variables of an error's traceback."""
    total = 0
    for frame, _ in traceback.walk_tb(error.__traceback__):
        for value in frame.f_locals.values():
            value = getattr(value, "request", value)
            total += value.ByteSize() if isinstance(value, Message) else 0
            total += len(value) if isinstance(value, bytes) else 0
    return total


async def test_errors_do_not_keep_the_images_of_their_calls(
    fake: FakeServer, tmp_path: Path
) -> None:
    path = tmp_path / "film.png"
    path.write_bytes(bytes(2 * MIB))
    fake.script(failure("INVALID_ARGUMENT", "IMAGE_UNREADABLE"), *[failure("UNAVAILABLE", "X")] * 2)
    retry = RetryConfig(max_attempts=2, initial_backoff_s=0.001)
    async with AsyncClient(fake.address, max_in_flight=1, retry=retry) as client:
        calls = [client.predict(path), client.predict(path)]
        errors = await asyncio.gather(*calls, return_exceptions=True)
    async with AsyncClient(fake.address, max_request_bytes=MIB) as client:
        errors += await asyncio.gather(client.predict(path), return_exceptions=True)
    with Client(fake.address, max_request_bytes=MIB) as client:
        try:
            client.predict(path)
        except RequestTooLargeError as error:
            errors.append(error)
    fake.script(*[failure("INVALID_ARGUMENT", "IMAGE_UNREADABLE")] * 3)
    async with AsyncClient(fake.address) as client:
        errors += [error async for _, error in client.predict_many([path])]
        errors += await asyncio.gather(client.predict(bytes(MIB)), return_exceptions=True)
    with Client(fake.address) as client:
        try:
            client.predict(bytes(MIB))
        except ImageError as error:
            errors.append(error)
    assert [type(error) for error in errors] == [
        ImageError,
        UnavailableError,
        RequestTooLargeError,
        RequestTooLargeError,
        *[ImageError] * 3,
    ]
    assert [held_bytes(error) for error in errors] == [0] * 7
    assert all(error.__context__ is error.__cause__ is None for error in errors)


@pytest.mark.slow
async def test_a_gather_waits_for_a_full_server(fake: FakeServer) -> None:
    fake.script(*[overload(0.01)] * 100)
    async with AsyncClient(fake.address, timeout_s=60) as client:
        answers = await asyncio.gather(*(client.predict(PNG) for _ in range(100)))
    assert len(answers) == 100
    assert len(fake.calls) == 200


async def test_without_retries_a_full_server_refuses(fake: FakeServer) -> None:
    fake.script(overload(0.01))
    async with AsyncClient(fake.address, retry=ONCE) as client:
        with pytest.raises(OverloadedError):
            await client.predict(PNG)


def test_a_client_can_be_used_in_one_event_loop_after_another(fake: FakeServer) -> None:
    client = AsyncClient(fake.address, max_in_flight=2)

    async def use() -> int:
        return len(await asyncio.gather(*(client.predict(PNG) for _ in range(10))))

    assert [asyncio.run(use()) for _ in range(3)] == [10] * 3

    async def close() -> None:
        await client.aclose()
        with pytest.raises(CallCancelledError, match="closed"):
            await client.predict(PNG)

    asyncio.run(close())


async def test_a_second_event_loop_at_the_same_time_is_refused(fake: FakeServer) -> None:
    async with AsyncClient(fake.address) as client:
        await client.predict(PNG)
        with pytest.raises(RuntimeError, match="in use in another event loop; create one in each"):
            await asyncio.to_thread(asyncio.run, client.predict(PNG))
        assert (await client.predict(PNG)).findings
