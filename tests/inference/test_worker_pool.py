"""Threads for work that needs no turn of the scheduler."""

import asyncio
import gc
import threading
import time
import weakref
from collections.abc import Callable, Iterator

import pytest

from cxr_server.errors import DeadlineExpired, Draining, QueueFull
from cxr_server.inference import bulk_turns
from cxr_server.inference.worker_pool import WorkerPool
from cxr_server.interactive_calls import InteractiveCalls


class Slow:
    """Steps that each wait for the gate, and are counted when they begin."""

    def __init__(self) -> None:
        self.begun = 0
        self.gate = threading.Event()

    def steps(self, count: int) -> Iterator[int]:
        for number in range(count):
            self.begun += 1
            assert self.gate.wait(60)
            yield number


async def until(condition: Callable[[], bool]) -> None:
    async with asyncio.timeout(60):
        while not condition():
            await asyncio.sleep(0.001)


@pytest.fixture
async def slow() -> Slow:
    return Slow()


async def test_steps_run_in_order_in_a_thread() -> None:
    pool = WorkerPool("test", 1, 1, InteractiveCalls())
    here = threading.get_ident()
    results = await pool.run((number, threading.get_ident()) for number in range(3))
    assert [number for number, _ in results] == [0, 1, 2]
    assert {thread for _, thread in results} != {here}
    pool.close()


@pytest.mark.parametrize("error", [IndexError, RuntimeError])
async def test_an_error_of_a_step_reaches_the_caller(error: type[Exception]) -> None:
    def steps() -> Iterator[int]:
        yield 1
        raise error

    pool = WorkerPool("test", 1, 1, InteractiveCalls())
    with pytest.raises(error):
        await pool.run(steps())
    pool.close()


async def test_bulk_jobs_run_when_no_other_job_waits(slow: Slow) -> None:
    pool, order = WorkerPool("test", 1, 9, InteractiveCalls()), []

    def noted(name: str) -> Iterator[None]:
        yield order.append(name)

    held = asyncio.ensure_future(pool.run(slow.steps(1)))
    await until(lambda: slow.begun == 1)
    jobs = [
        asyncio.ensure_future(pool.run(noted(name), bulk=name.islower()))
        for name in ("a", "b", "C", "D")
    ]
    await asyncio.sleep(0.01)
    slow.gate.set()
    await asyncio.gather(held, *jobs)
    assert order == ["C", "D", "a", "b"]
    pool.close()


async def test_no_bulk_job_begins_while_an_interactive_call_is_in_flight(
    slow: Slow, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(bulk_turns, "TURN_S", 1000.0)
    slow.gate.set()
    interactive = InteractiveCalls()
    pool = WorkerPool("test", 2, 9, interactive)
    with interactive.in_flight():  # wherever it is
        bulk = [asyncio.ensure_future(pool.run(slow.steps(1), bulk=True)) for _ in range(3)]
        for _ in range(5):
            assert await pool.run("a") == ["a"]
        assert slow.begun == 0
    pool.close()  # what waits is done
    assert await asyncio.gather(*bulk) == [[0], [0], [0]]


async def test_a_thread_is_kept_free_of_bulk_jobs_for_the_next_interactive_call(
    slow: Slow, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(bulk_turns, "EXPECTED_S", 1000.0)
    interactive = InteractiveCalls()
    pool = WorkerPool("test", 2, 9, interactive)
    with interactive.in_flight():
        pass
    bulk = [asyncio.ensure_future(pool.run(slow.steps(1), bulk=True)) for _ in range(3)]
    await until(lambda: slow.begun == 1)
    assert await pool.run("b") == ["b"]
    assert slow.begun == 1
    slow.gate.set()
    assert await asyncio.gather(*bulk) == [[0], [0], [0]]
    pool.close()


async def test_a_full_pool_refuses_at_once_and_says_when_to_come_back(slow: Slow) -> None:
    pool = WorkerPool("test", 1, 2, InteractiveCalls())
    held = [asyncio.ensure_future(pool.run(slow.steps(1))) for _ in range(2)]
    await until(lambda: slow.begun == 1)
    with pytest.raises(QueueFull) as refusal:
        await pool.run(slow.steps(1))
    assert refusal.value.retry_after_ms
    slow.gate.set()
    assert await asyncio.gather(*held) == [[0], [0]]
    assert await pool.run(slow.steps(1)) == [0]
    pool.close()


@pytest.mark.parametrize(("max_jobs", "most_bulk"), [(1, 1), (3, 1), (8, 4)])
async def test_bulk_jobs_take_half_of_the_places_and_leave_the_others_to_interactive_ones(
    slow: Slow, max_jobs: int, most_bulk: int
) -> None:
    pool = WorkerPool("test", 1, max_jobs, InteractiveCalls())
    held = [asyncio.ensure_future(pool.run(slow.steps(1), bulk=True)) for _ in range(most_bulk)]
    await until(lambda: slow.begun == 1)
    with pytest.raises(QueueFull):
        await pool.run(slow.steps(1), bulk=True)
    others = max_jobs - most_bulk
    held += [asyncio.ensure_future(pool.run(slow.steps(1))) for _ in range(others)]
    await asyncio.sleep(0)
    with pytest.raises(QueueFull):
        await pool.run(slow.steps(1))
    slow.gate.set()
    assert await asyncio.gather(*held) == [[0]] * max_jobs
    pool.close()


async def test_a_deadline_is_checked_before_each_step(slow: Slow) -> None:
    pool = WorkerPool("test", 1, 2, InteractiveCalls())
    deadline = time.monotonic() + 0.05
    job = asyncio.ensure_future(pool.run(slow.steps(5), deadline=deadline))
    await until(lambda: slow.begun == 1)
    await until(lambda: time.monotonic() > deadline)
    slow.gate.set()
    with pytest.raises(DeadlineExpired):
        await job
    with pytest.raises(DeadlineExpired):
        await pool.run(slow.steps(5), deadline=deadline)
    assert slow.begun == 1
    pool.close()


async def test_cancelled_work_is_skipped_and_frees_its_place(slow: Slow) -> None:
    pool = WorkerPool("test", 1, 2, InteractiveCalls())
    running, waiting = (asyncio.ensure_future(pool.run(slow.steps(5))) for _ in range(2))
    await until(lambda: slow.begun == 1)
    running.cancel()
    waiting.cancel()
    for job in (running, waiting):
        with pytest.raises(asyncio.CancelledError):
            await job
    after = asyncio.ensure_future(pool.run(iter("ab")))
    slow.gate.set()
    assert await after == ["a", "b"]
    assert slow.begun == 1
    pool.close()


@pytest.mark.parametrize("bulk", [False, True])
async def test_a_job_of_a_caller_that_has_gone_waits_no_longer(slow: Slow, bulk: bool) -> None:
    pool = WorkerPool("test", 1, 4, InteractiveCalls())
    running = asyncio.ensure_future(pool.run(slow.steps(1)))
    await until(lambda: slow.begun == 1)
    waiting, gone = (asyncio.ensure_future(pool.run("a", bulk=bulk)) for _ in range(2))
    await asyncio.sleep(0)
    assert pool.waiting == 2
    gone.cancel()
    await asyncio.gather(gone, return_exceptions=True)
    assert pool.waiting == 1
    slow.gate.set()
    assert await asyncio.gather(running, waiting) == [[0], ["a"]]
    pool.close()


async def test_queued_work_of_a_caller_that_has_gone_is_freed_at_once(slow: Slow) -> None:
    class Image:
        """Stands for the pixels that a map is drawn on."""

    def steps(image: Image) -> Iterator[Image]:
        yield image

    pool = WorkerPool("test", 1, 2, InteractiveCalls())
    running = asyncio.ensure_future(pool.run(slow.steps(1)))
    await until(lambda: slow.begun == 1)
    image = Image()
    freed = weakref.ref(image)
    waiting = asyncio.ensure_future(pool.run(steps(image)))
    await asyncio.sleep(0)
    waiting.cancel()
    await asyncio.gather(waiting, return_exceptions=True)
    del image, waiting
    gc.collect()
    assert freed() is None
    slow.gate.set()
    assert await running == [0]
    pool.close()


async def test_an_error_ends_its_own_job_only() -> None:
    def broken() -> Iterator[int]:
        yield 1
        raise ZeroDivisionError

    pool = WorkerPool("test", 1, 2, InteractiveCalls())
    with pytest.raises(ZeroDivisionError):
        await pool.run(broken())
    assert await pool.run([1]) == [1]
    pool.close()


async def test_a_panic_ends_its_own_job_and_no_thread() -> None:
    class Panic(BaseException):
        """Like pyo3's PanicException, not an Exception."""

    def broken() -> Iterator[int]:
        yield 1
        raise Panic

    pool = WorkerPool("test", 1, 1, InteractiveCalls())
    with pytest.raises(RuntimeError, match="Panic"):
        await pool.run(broken())
    assert await pool.run([1]) == [1]
    pool.close()


async def test_closing_does_not_wait_for_a_step_that_takes_minutes(slow: Slow) -> None:
    pool = WorkerPool("test", 1, 2, InteractiveCalls())
    job = asyncio.ensure_future(pool.run(slow.steps(2)))
    await until(lambda: slow.begun == 1)
    pool.close()
    assert not slow.gate.is_set()
    with pytest.raises(Draining):
        await pool.run([1])
    slow.gate.set()
    await asyncio.gather(job, return_exceptions=True)
