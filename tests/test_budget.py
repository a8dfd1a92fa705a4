"""Bytes that calls share: in order, whole, and given back whatever happens."""

import asyncio
import threading
import time
from collections.abc import Callable

import pytest

from cxr_server import budget as budget_module
from cxr_server.budget import ByteBudget, ThreadBudget
from cxr_server.errors import DeadlineExpired


async def settled(condition: Callable[[], bool]) -> None:
    async with asyncio.timeout(60):
        while not condition():
            await asyncio.sleep(0.001)


async def test_bytes_are_given_in_order_and_a_small_share_does_not_overtake() -> None:
    budget, order = ByteBudget(10), []

    async def take(name: str, wanted_bytes: int) -> None:
        share = await budget.take(wanted_bytes)
        order.append(name)
        await asyncio.sleep(0)
        share.release()

    first = await budget.take(6)
    waiting = [
        asyncio.ensure_future(take(name, size)) for name, size in (("large", 8), ("small", 1))
    ]
    await asyncio.sleep(0.05)
    assert order == []
    assert budget.held_bytes == 6
    first.release()
    await asyncio.gather(*waiting)
    assert order == ["large", "small"]
    assert budget.held_bytes == 0


async def test_what_a_share_shrinks_by_is_given_on_and_releasing_twice_is_once() -> None:
    budget = ByteBudget(10)
    share = await budget.take(10)
    waiting = asyncio.ensure_future(budget.take(7))
    share.shrink(3)
    other = await asyncio.wait_for(waiting, 60)
    share.shrink(9)  # holds less already
    assert budget.held_bytes == 10
    share.release()
    share.release()
    assert budget.held_bytes == 7
    other.release()
    assert budget.held_bytes == 0


async def test_a_limit_that_falls_below_what_a_call_waits_for_holds_up_nobody() -> None:
    budget = ByteBudget(10)
    first = await budget.take(6)
    large, small = (asyncio.ensure_future(budget.take(size)) for size in (10, 1))
    await asyncio.sleep(0)
    budget.limit_bytes = 9
    first.release()
    (await asyncio.wait_for(large, 60)).release()
    (await asyncio.wait_for(small, 60)).release()
    assert budget.held_bytes == 0


async def test_bulk_holds_half_of_the_bytes_and_waits_behind_the_others() -> None:
    budget = ByteBudget(10)
    bulk = await budget.take(4, bulk=True)
    second = asyncio.ensure_future(budget.take(2, bulk=True))
    await asyncio.sleep(0.05)
    assert not second.done()
    other = await budget.take(6)  # at once, although another one waits
    other.release()
    bulk.release()
    assert (await second).held_bytes == 2
    assert budget.held_bytes == 2


async def test_a_bulk_call_that_has_waited_for_its_turn_is_next_but_one_at_a_time(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(budget_module, "TURN_S", 0.0)
    budget, order = ByteBudget(10), []

    async def take(name: str) -> None:
        share = await budget.take(5, bulk=name.startswith("bulk"))
        order.append(name)
        await gates[name].wait()
        share.release()

    names = ("a", "b", "c", "bulk", "d", "bulk too")
    gates = {name: asyncio.Event() for name in names}
    calls = [asyncio.ensure_future(take(name)) for name in names]
    await settled(lambda: order == ["a", "b"])
    for name, next_one in (("a", "bulk"), ("b", "c"), ("c", "d"), ("bulk", "bulk too")):
        gates[name].set()
        await settled(lambda: order[-1:] == [next_one])  # noqa: B023 -- called here
    assert order == ["a", "b", "bulk", "c", "d", "bulk too"]
    for gate in gates.values():
        gate.set()
    await asyncio.gather(*calls)
    assert budget.held_bytes == 0


async def test_a_bulk_call_whose_turn_it_is_holds_up_nobody_while_it_does_not_fit(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(budget_module, "TURN_S", 0.0)
    budget = ByteBudget(10)
    slow, fast = await budget.take(5), await budget.take(5)
    bulk = asyncio.ensure_future(budget.take(6, bulk=True))
    other = asyncio.ensure_future(budget.take(5))
    await asyncio.sleep(0)
    fast.release()
    share = await asyncio.wait_for(other, 60)
    assert not bulk.done()
    share.release()
    slow.release()
    assert (await asyncio.wait_for(bulk, 60)).held_bytes == 6


async def test_one_bulk_share_may_be_of_any_size() -> None:
    budget = ByteBudget(10)
    share = await asyncio.wait_for(budget.take(10, bulk=True), 60)
    share.release()
    assert budget.held_bytes == 0


async def test_a_wait_ends_with_the_deadline_and_lets_the_next_one_through() -> None:
    budget = ByteBudget(10)
    held = await budget.take(6)
    late = asyncio.ensure_future(budget.take(8, deadline=time.monotonic() + 0.05))
    after = asyncio.ensure_future(budget.take(2))
    with pytest.raises(DeadlineExpired):
        await late
    await asyncio.wait_for(after, 60)
    held.release()
    assert budget.held_bytes == 2


async def test_a_caller_that_leaves_keeps_no_bytes_even_if_they_were_given_to_it() -> None:
    budget = ByteBudget(10)
    held = await budget.take(10)
    waiting, granted = (asyncio.ensure_future(budget.take(10)) for _ in range(2))
    await asyncio.sleep(0)
    waiting.cancel()
    await asyncio.sleep(0)
    held.release()  # grants, and the grant is not seen before the cancellation
    granted.cancel()
    for task in (waiting, granted):
        with pytest.raises(asyncio.CancelledError):
            await task
    assert budget.held_bytes == 0


def test_threads_wait_for_each_other_and_small_ones_do_not_overtake() -> None:
    budget, order, gate = ThreadBudget(10), [], threading.Event()

    def hold(name: str, wanted_bytes: int, in_line: threading.Event) -> None:
        with budget.hold(wanted_bytes, in_line.set):
            order.append(name)
            assert gate.wait(60)

    threads = []
    for name, size in (("first", 6), ("large", 8)):
        in_line = threading.Event()
        threads.append(threading.Thread(target=hold, args=(name, size, in_line)))
        threads[-1].start()
        assert in_line.wait(60)
    threads.append(threading.Thread(target=hold, args=("small", 1, threading.Event())))
    threads[-1].start()
    gate.set()
    for thread in threads:
        thread.join(60)
    assert order == ["first", "large", "small"]
    assert budget.held_bytes == 0


def test_a_thread_stops_waiting_when_nobody_waits_for_it() -> None:
    budget, gone = ThreadBudget(10), threading.Event()

    def check() -> None:
        if gone.is_set():
            raise DeadlineExpired("gone")

    def wait() -> None:
        with pytest.raises(DeadlineExpired), budget.hold(10, check):
            raise AssertionError("there is no room")

    with budget.hold(1, check):
        thread = threading.Thread(target=wait)
        thread.start()
        gone.set()
        thread.join(60)
        assert not thread.is_alive()
    assert budget.held_bytes == 0
