"""One time limit for many blocks: each ends at its own time, on asyncio's loop and on uvloop."""

import asyncio
import time
from collections.abc import Callable, Coroutine
from typing import Any

import pytest
import uvloop

from cxr_server.rpc.interceptors.time_limit import TimeLimit

LOOPS = (asyncio.new_event_loop, uvloop.new_event_loop)


@pytest.fixture(params=LOOPS, ids=("asyncio", "uvloop"))
def run(request: pytest.FixtureRequest) -> Callable[[Coroutine[Any, Any, Any]], Any]:
    def on_loop(work: Coroutine[Any, Any, Any]) -> Any:
        with asyncio.Runner(loop_factory=request.param) as runner:
            return runner.run(asyncio.wait_for(work, 60))

    return on_loop


async def outcome(limit: TimeLimit, seconds: float) -> str:
    try:
        with limit.block():
            await asyncio.sleep(seconds)
    except TimeoutError:
        return "too long"
    await asyncio.sleep(0)  # a block that was left is not ended any more
    return "in time"


def test_a_block_that_takes_longer_is_ended_and_its_task_goes_on(run: Callable[..., Any]) -> None:
    async def two() -> list[str]:
        limit = TimeLimit(0.05)
        return [await outcome(limit, 30), await outcome(limit, 0)]

    assert run(two()) == ["too long", "in time"]


def test_each_block_has_its_whole_time_while_one_timer_serves_all(run: Callable[..., Any]) -> None:
    async def staggered() -> list[str]:
        limit, tasks = TimeLimit(0.5), []

        async def whole(seconds: float) -> str:
            begun_s = time.monotonic()
            ended = await outcome(limit, seconds)
            return ended if ended == "in time" or time.monotonic() - begun_s > 0.45 else "too early"

        for number in range(8):  # the sixth begins about when the first ends
            tasks.append(asyncio.create_task(whole(0 if number % 2 else 30)))
            await asyncio.sleep(0.1)
        return await asyncio.gather(*tasks)

    assert run(staggered()) == ["too long", "in time"] * 4


def test_a_timer_is_started_for_the_first_block_and_not_for_those_beside_it(
    run: Callable[..., Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    async def started() -> int:
        loop, limit, timers = asyncio.get_running_loop(), TimeLimit(30), []

        class Counting:
            time = loop.time

            def call_later(self, *arguments: Any) -> None:
                timers.append(arguments)

        monkeypatch.setattr(asyncio, "get_running_loop", Counting)
        for _ in range(5):
            with limit.block(), limit.block():
                pass
        monkeypatch.undo()
        return len(timers)

    assert run(started()) == 1


def test_a_block_cancelled_by_others_is_cancelled_also_when_its_time_is_up(
    run: Callable[..., Any],
) -> None:
    async def cancelled(also_expired: bool) -> bool:
        limit = TimeLimit(0.02 if also_expired else 30)
        task = asyncio.create_task(outcome(limit, 30))
        await asyncio.sleep(0)
        if also_expired:
            for block in list(limit._ends_s):
                block.expire()
        task.cancel()
        await asyncio.wait([task])
        return task.cancelled()

    async def both() -> list[bool]:
        return [await cancelled(False), await cancelled(True)]

    assert run(both()) == [True, True]


def test_errors_of_a_block_come_through(run: Callable[..., Any]) -> None:
    async def failing() -> None:
        with TimeLimit(30).block():
            raise ValueError("of the block")

    with pytest.raises(ValueError, match="of the block"):
        run(failing())
