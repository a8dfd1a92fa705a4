"""The scheduler alone, with an engine whose evidence tells which image it is for."""

import asyncio
import gc
import itertools
import random
import threading
import time
import weakref
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import partial

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from cxr_server.errors import DeadlineExpired, Draining, ImageUnreadable, ModelLoading
from cxr_server.inference import bulk_turns, engine_calls
from cxr_server.inference.decode_threads import DecodeThreads
from cxr_server.inference.engine_calls import NotFinite
from cxr_server.inference.engines import DeviceLost, Inferred, Interrupted, Output
from cxr_server.inference.fair_queue import FairQueue
from cxr_server.inference.scheduler import EngineFailure, Scheduler
from cxr_server.interactive_calls import InteractiveCalls
from cxr_server.observability.stages import Stage, Stages


@dataclass(frozen=True)
class Image:
    number: int

    @property
    def image_chw(self) -> np.ndarray:
        return np.full((1, 2, 2), self.number, np.float32)


class EchoEngine:
    """Evidence = the image's number. Fails on numbers in `poison`, or as `faults` says."""

    name, device, precision = "echo", "test", "float32"

    def __init__(
        self,
        max_batch: int = 1,
        max_in_flight: int = 1,
        work_s: float = 0.0,
        poison: frozenset[int] = frozenset(),
        faults: Callable[[], bool] = lambda: False,
    ) -> None:
        self.max_batch, self.max_in_flight = max_batch, max_in_flight
        self.work_s, self.poison, self.faults = work_s, poison, faults
        self.seen: list[list[int]] = []
        self.running = self.most_running = 0
        self.gate = threading.Event()
        self.gate.set()
        self._lock = threading.Lock()

    def evidence(self, batch_nchw: np.ndarray) -> np.ndarray:
        numbers = [int(image[0, 0, 0]) for image in batch_nchw]
        with self._lock:
            self.seen.append(numbers)
            self.running += 1
            self.most_running = max(self.most_running, self.running)
        try:
            self.gate.wait(60)
            time.sleep(self.work_s)
            if self.poison & set(numbers) or self.faults():
                raise RuntimeError("engine fault")
            return batch_nchw[:, :1, :1, :1] * 1.0
        finally:
            with self._lock:
                self.running -= 1

    def close(self) -> None: ...


class Alone(Scheduler):
    """The scheduler of the only model: the decode threads end with it."""

    def __init__(
        self,
        engine: EchoEngine,
        *,
        decode_threads: int,
        interactive: InteractiveCalls,
        on_failure: Callable[[BaseException], None] | None = None,
    ) -> None:
        self.decoders = DecodeThreads(decode_threads, interactive)
        super().__init__(
            engine, decoders=self.decoders, interactive=interactive, on_failure=on_failure
        )

    async def close(self) -> None:
        await super().close()
        self.decoders.close()


def scheduler(engine: EchoEngine, **options: object) -> Scheduler:
    """A scheduler that goes on with the same engine after a failure, unless told otherwise."""
    options.setdefault("decode_threads", 2)
    options.setdefault("interactive", InteractiveCalls())
    options.setdefault("on_failure", lambda error: made.resume(engine))
    made = Alone(engine, **options)  # type: ignore[arg-type]
    return made


def output_of(_: object, output: Output) -> Output:
    assert threading.current_thread() is not threading.main_thread(), "the event loop's"
    return output


async def answer(run: Scheduler, number: int, **options: object) -> int:
    options.setdefault("stages", Stages())
    image, output = await run.submit(lambda: Image(number), output_of, **options)  # type: ignore[arg-type]
    assert image.number == number
    assert output is not None
    return int(output.evidence_khw[0, 0, 0])


async def until(condition: Callable[[], bool]) -> None:
    async with asyncio.timeout(60):
        while not condition():
            await asyncio.sleep(0.001)


async def one_at(engine: EchoEngine, run: Scheduler) -> asyncio.Future[int]:
    """Send image 0, which the engine holds until its gate is set."""
    engine.gate.clear()
    first = asyncio.ensure_future(answer(run, 0))
    await until(lambda: engine.seen == [[0]])
    return first


@settings(max_examples=60, deadline=None)
@given(
    max_batch=st.integers(1, 5),
    max_in_flight=st.integers(1, 3),
    decode_threads=st.integers(1, 3),
    fault_rate=st.sampled_from([0.0, 0.0, 0.2, 0.6]),
    requests=st.lists(
        st.tuples(
            st.sampled_from(["answer", "answer", "cancel", "expire", "bad image"]),
            st.sampled_from("abc"),
            st.integers(0, 3),
            st.booleans(),
        ),
        min_size=1,
        max_size=30,
    ),
    seed=st.integers(0, 2**16),
)
def test_every_request_gets_its_own_answer_exactly_once_whatever_happens(
    max_batch: int,
    max_in_flight: int,
    decode_threads: int,
    fault_rate: float,
    requests: list[tuple[str, str, int, bool]],
    seed: int,
) -> None:
    chance = random.Random(seed)
    engine = EchoEngine(
        max_batch, max_in_flight, work_s=0.0005, faults=lambda: chance.random() < fault_rate
    )

    async def one(
        run: Scheduler, number: int, kind: str, caller: str, delay_ms: int, bulk: bool
    ) -> str:
        await asyncio.sleep(delay_ms / 1000)

        def prepare() -> Image:
            if kind == "bad image":
                raise ValueError(f"bad {number}")
            return Image(number)

        deadline = time.monotonic() + (0.001 if kind == "expire" else 300)
        task = asyncio.ensure_future(
            run.submit(
                prepare, output_of, stages=Stages(), caller=caller, deadline=deadline, bulk=bulk
            )
        )
        if kind == "cancel":
            await asyncio.sleep(chance.random() / 500)
            task.cancel()
        try:
            image, output = await task
        except asyncio.CancelledError:
            assert kind == "cancel"
            return "cancelled"
        except ValueError as error:
            return str(error)
        except DeadlineExpired:
            assert kind == "expire"
            return "expired"
        except EngineFailure:
            assert fault_rate
            return "failed"
        assert image.number == number
        assert output.evidence_khw.ravel().tolist() == [number]
        return "answered"

    async def main() -> None:
        run = scheduler(engine, decode_threads=decode_threads)
        ends = await asyncio.gather(
            *(one(run, number, *request) for number, request in enumerate(requests))
        )
        assert len(ends) == len(requests)
        await until(lambda: run.busy == 0 and run.queue_depth == 0)
        await run.close()
        for number, ((kind, *_), end) in enumerate(zip(requests, ends, strict=True)):
            tries = sum(batch.count(number) for batch in engine.seen)
            assert tries <= 2
            if kind == "answer" and not fault_rate:
                assert (end, tries) == ("answered", 1)
            if kind == "bad image":
                assert (end, tries) == (f"bad {number}", 0)
        assert engine.most_running <= max_in_flight
        assert max(map(len, engine.seen), default=0) <= max_batch

    asyncio.run(main())


async def test_an_idle_engine_runs_at_once_and_a_busy_one_takes_what_waits() -> None:
    engine = EchoEngine(max_batch=8)
    run = scheduler(engine, decode_threads=8)
    first = await one_at(engine, run)
    others = [asyncio.ensure_future(answer(run, number)) for number in range(1, 6)]
    await until(lambda: run.queue_depth == 5 and run.busy == 1)
    engine.gate.set()
    assert await asyncio.gather(first, *others) == [0, 1, 2, 3, 4, 5]
    assert [len(batch) for batch in engine.seen] == [1, 5]
    await run.close()


async def test_work_goes_on_while_the_event_loop_is_busy() -> None:
    engine = EchoEngine(max_batch=2)
    run = scheduler(engine, decode_threads=1)
    first = await one_at(engine, run)
    others = [asyncio.ensure_future(answer(run, number)) for number in range(1, 6)]
    await until(lambda: run.queue_depth == 5 and run.busy == 1)
    engine.gate.set()
    give_up = time.monotonic() + 30
    while sum(map(len, engine.seen)) < 6 or engine.running:  # never yields to the loop
        assert time.monotonic() < give_up
        time.sleep(0.001)
    assert not any(other.done() for other in others)
    assert await asyncio.gather(first, *others) == [0, 1, 2, 3, 4, 5]
    await run.close()


@pytest.mark.parametrize("why", ["cancelled", "expired"])
async def test_what_nobody_waits_for_is_decoded_but_not_inferred(why: str) -> None:
    engine = EchoEngine()
    run = scheduler(engine, decode_threads=1)
    first = await one_at(engine, run)
    deadline = time.monotonic() + (2 if why == "expired" else 300)
    gone = asyncio.ensure_future(answer(run, 1, deadline=deadline))
    await until(lambda: run.queue_depth == 1 and run.busy == 1)
    after = asyncio.ensure_future(answer(run, 2))
    if why == "cancelled":
        gone.cancel()
        await asyncio.sleep(0.01)
    else:
        await asyncio.sleep(deadline - time.monotonic() + 0.01)
    engine.gate.set()
    assert await asyncio.gather(first, after) == [0, 2]
    with pytest.raises((asyncio.CancelledError, DeadlineExpired)):
        await gone
    assert engine.seen == [[0], [2]]
    await run.close()


async def test_a_batch_holds_only_requests_that_are_still_wanted() -> None:
    engine = EchoEngine(max_batch=3)
    run = scheduler(engine, decode_threads=1)
    first = await one_at(engine, run)
    others = [asyncio.ensure_future(answer(run, number)) for number in (1, 2, 3)]
    await until(lambda: run.queue_depth == 3 and run.busy == 1)
    others[1].cancel()
    await asyncio.sleep(0.01)
    engine.gate.set()
    ends = await asyncio.gather(first, *others, return_exceptions=True)
    assert isinstance(ends.pop(2), asyncio.CancelledError)
    assert ends == [0, 1, 3]
    assert engine.seen == [[0], [1, 3]]
    assert run.engine_work()[0] == {1: 1, 2: 1}
    await run.close()


async def test_interactive_images_overtake_bulk_images_and_share_no_batch_with_them() -> None:
    engine = EchoEngine(max_batch=3)
    run = scheduler(engine, decode_threads=1)
    first = await one_at(engine, run)
    bulk = [asyncio.ensure_future(answer(run, number, bulk=True)) for number in range(1, 8)]
    await until(lambda: run.queue_depth == 7 and run.busy == 1)
    decoded: list[int] = []

    def prepare(number: int) -> Image:
        decoded.append(number)
        return Image(number)

    urgent = [
        asyncio.ensure_future(run.submit(partial(prepare, number), output_of, stages=Stages()))
        for number in (8, 9)
    ]
    await until(lambda: len(decoded) == 2 and not run.decoding)
    engine.gate.set()
    await asyncio.gather(first, *bulk, *urgent)
    assert engine.seen[:2] == [[0], [8, 9]]
    assert [number for batch in engine.seen[2:] for number in batch] == list(range(1, 8))
    await run.close()


async def test_bulk_images_that_wait_for_the_engine_keep_no_other_from_being_decoded() -> None:
    engine, decoded = EchoEngine(), threading.Event()
    run = scheduler(engine, decode_threads=1)
    first = await one_at(engine, run)
    bulk = [asyncio.ensure_future(answer(run, number, bulk=True)) for number in (1, 2)]
    await until(lambda: run.queue_depth == 2 and run.busy == 1)

    def prepare() -> Image:
        decoded.set()
        return Image(3)

    urgent = asyncio.ensure_future(run.submit(prepare, output_of, stages=Stages()))
    assert await asyncio.to_thread(decoded.wait, 60)
    engine.gate.set()
    await asyncio.gather(first, *bulk, urgent)
    assert engine.seen == [[0], [3], [1], [2]]
    await run.close()


async def test_no_bulk_image_begins_while_an_interactive_call_is_in_flight(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(bulk_turns, "TURN_S", 1000.0)
    interactive, engine = InteractiveCalls(), EchoEngine(max_in_flight=2)
    run = scheduler(engine, decode_threads=1, interactive=interactive)
    first = await one_at(engine, run)
    second = asyncio.ensure_future(answer(run, 1))
    await until(lambda: engine.running == 2)
    bulk = [asyncio.ensure_future(answer(run, 2, bulk=True))]
    await until(lambda: run.waiting_to_infer == 1)
    with interactive.in_flight():  # wherever it is
        bulk += [asyncio.ensure_future(answer(run, number, bulk=True)) for number in (3, 4)]
        engine.gate.set()
        assert await asyncio.gather(first, second) == [0, 1]
        for number in range(10, 20):
            assert await answer(run, number) == number
        assert (run.waiting_to_infer, run.waiting_to_decode, run.busy) == (1, 2, 0)
    assert await asyncio.gather(*bulk) == [2, 3, 4]
    await run.close()


async def test_beside_interactive_calls_that_never_pause_bulk_images_begin_one_at_a_time(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(bulk_turns, "TURN_S", 0.01)
    interactive, engine = InteractiveCalls(), EchoEngine(max_batch=4)
    run = scheduler(engine, decode_threads=4, interactive=interactive)
    first = await one_at(engine, run)
    bulk = [asyncio.ensure_future(answer(run, number, bulk=True)) for number in range(1, 9)]
    await until(lambda: run.waiting_to_infer == 4)
    with interactive.in_flight():
        engine.gate.set()
        assert await first == 0
        assert await asyncio.gather(*bulk) == list(range(1, 9))
    assert engine.seen == [[number] for number in range(9)]
    await run.close()


class InterruptibleEngine(EchoEngine):
    """Its interruptible calls wait for the gate, or for an interrupt."""

    def __init__(self) -> None:
        super().__init__()
        self.interrupted = threading.Event()

    def infer(self, images: Sequence[np.ndarray]) -> Inferred:
        return Inferred(self.evidence(np.stack(images)), None)

    def infer_interruptibly(self, images: Sequence[np.ndarray]) -> Inferred:
        self.seen.append([int(image[0, 0, 0]) for image in images])
        self.interrupted.clear()
        assert self.interrupted.wait(60)
        raise Interrupted

    def interrupt(self) -> None:
        self.interrupted.set()


async def test_a_bulk_image_in_the_engine_gives_way_to_an_interactive_call_once() -> None:
    interactive, engine = InteractiveCalls(), InterruptibleEngine()
    run = scheduler(engine, interactive=interactive)
    bulk = asyncio.ensure_future(answer(run, 1, bulk=True))
    await until(lambda: engine.seen == [[1]])
    with interactive.in_flight():
        assert await answer(run, 2) == 2
    engine.gate.clear()
    await until(lambda: engine.running == 1)  # the bulk image, and not interruptibly
    with interactive.in_flight():
        urgent = asyncio.ensure_future(answer(run, 3))
        await until(lambda: run.waiting_to_infer == 1)
        engine.gate.set()
        assert await urgent == 3
    assert await bulk == 1
    assert engine.seen == [[1], [2], [1], [3]]
    await run.close()


async def test_a_bulk_image_that_gives_way_while_the_server_shuts_down_is_refused() -> None:
    interactive, engine = InteractiveCalls(), InterruptibleEngine()
    run = scheduler(engine, interactive=interactive)
    bulk = asyncio.ensure_future(answer(run, 1, bulk=True))
    await until(lambda: engine.seen == [[1]])
    closing = asyncio.ensure_future(run.close())
    await asyncio.sleep(0)
    engine.interrupt()
    with pytest.raises(Draining):
        await bulk
    await closing


async def test_a_thread_of_each_stage_is_kept_free_of_bulk_images_for_the_next_interactive_call(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(bulk_turns, "EXPECTED_S", 1000.0)
    interactive = InteractiveCalls()
    engine, hold = EchoEngine(max_in_flight=2), threading.Event()
    run = scheduler(engine, decode_threads=2, interactive=interactive)

    def prepare(number: int) -> Image:
        hold.wait(60)
        return Image(number)

    with interactive.in_flight():
        assert await answer(run, 0) == 0
    held = [partial(prepare, number) for number in (1, 2, 3)]
    bulk = [
        asyncio.ensure_future(run.submit(each, output_of, stages=Stages(), bulk=True))
        for each in held
    ]
    await until(lambda: run.busy == 1)
    assert await answer(run, 4) == 4  # beside a bulk image that is being decoded
    assert run.queue_depth == 2
    engine.gate.clear()
    hold.set()
    await until(lambda: engine.running == 1 and run.queue_depth == 2)
    urgent = asyncio.ensure_future(answer(run, 5))
    await until(lambda: engine.running == 2)  # beside a bulk image in the engine
    assert engine.seen == [[0], [4], [1], [5]]
    engine.gate.set()
    assert await urgent == 5
    await asyncio.gather(*bulk)
    await run.close()


async def test_with_one_thread_of_each_stage_bulk_images_run_between_interactive_calls(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(bulk_turns, "EXPECTED_S", 1000.0)
    interactive = InteractiveCalls()
    run = scheduler(EchoEngine(), decode_threads=1, interactive=interactive)
    with interactive.in_flight():
        assert await answer(run, 0) == 0
    assert await asyncio.gather(*(answer(run, n, bulk=True) for n in range(5))) == list(range(5))
    await run.close()


async def test_a_bulk_request_can_be_cancelled_wherever_it_waits() -> None:
    engine = EchoEngine()
    run = scheduler(engine, decode_threads=1)
    first = await one_at(engine, run)
    bulk = [asyncio.ensure_future(answer(run, number, bulk=True)) for number in range(1, 5)]
    await until(lambda: run.queue_depth == 4 and run.busy == 1)
    for each in bulk:
        each.cancel()
    await asyncio.sleep(0.01)
    assert run.queue_depth == 0
    engine.gate.set()
    assert await first == 0
    assert engine.seen == [[0]]
    await run.close()


async def test_a_batch_grows_until_the_engine_is_free() -> None:
    engine = EchoEngine(max_batch=2)
    run = scheduler(engine, decode_threads=1)
    first = await one_at(engine, run)
    others = [asyncio.ensure_future(answer(run, 1))]
    await until(lambda: run.queue_depth == 1 and run.busy == 1)
    others.append(asyncio.ensure_future(answer(run, 2)))
    await until(lambda: run.queue_depth == 2 and run.busy == 1)
    engine.gate.set()
    assert await asyncio.gather(first, *others) == [0, 1, 2]
    assert engine.seen == [[0], [1, 2]]
    await run.close()


async def test_a_second_failure_of_an_engine_already_replaced_loses_nothing() -> None:
    broken, whole = EchoEngine(max_in_flight=2, faults=lambda: True), EchoEngine(max_in_flight=2)
    run = scheduler(broken, on_failure=lambda error: run.resume(whole))
    hold = threading.Event()
    broken.gate.clear()
    evidence = broken.evidence

    def late(batch_nchw: np.ndarray) -> np.ndarray:
        if int(batch_nchw[0, 0, 0, 0]) == 1:
            hold.wait(60)
        return evidence(batch_nchw)

    broken.evidence = late  # type: ignore[method-assign]
    tasks = [asyncio.ensure_future(answer(run, number)) for number in (0, 1)]
    await until(lambda: run.busy == 2 and run.queue_depth == 0)
    broken.gate.set()
    assert await tasks[0] == 0
    hold.set()
    async with asyncio.timeout(60):
        assert await tasks[1] == 1
    assert sorted(whole.seen) == [[0], [1]]
    await run.close()


async def test_an_engine_that_has_failed_gets_no_more_images() -> None:
    broken, whole = EchoEngine(faults=lambda: True), EchoEngine()
    failures: list[Exception] = []
    run = scheduler(broken, on_failure=failures.append)
    broken.gate.clear()
    tasks = [asyncio.ensure_future(answer(run, 0))]
    await until(lambda: broken.seen == [[0]])
    tasks.append(asyncio.ensure_future(answer(run, 1)))
    await until(lambda: run.queue_depth == 1 and run.busy == 1)
    broken.gate.set()
    time.sleep(0.05)  # the loop hears of it only later
    await until(lambda: len(failures) == 1)
    await run.idle()
    assert broken.seen == [[0]]
    run.resume(whole)
    assert await asyncio.gather(*tasks) == [0, 1]
    assert sorted(whole.seen) == [[0], [1]]
    await run.close()


async def test_expired_and_cancelled_requests_never_reach_decode_or_engine() -> None:
    engine = EchoEngine()
    run = scheduler(engine, decode_threads=1)
    engine.gate.clear()
    decoded: list[int] = []

    def prepare(number: int) -> Image:
        decoded.append(number)
        return Image(number)

    held = [
        asyncio.ensure_future(run.submit(lambda n=n: prepare(n), output_of, stages=Stages()))
        for n in (0, 1)
    ]
    await until(lambda: decoded == [0, 1] and engine.seen == [[0]])
    gone = asyncio.ensure_future(run.submit(lambda: prepare(2), output_of, stages=Stages()))
    late = asyncio.ensure_future(
        run.submit(lambda: prepare(3), output_of, stages=Stages(), deadline=time.monotonic() + 0.02)
    )
    await until(lambda: run.queue_depth == 3)
    gone.cancel()
    await until(lambda: run.queue_depth == 2)
    await asyncio.sleep(0.03)
    engine.gate.set()
    await asyncio.gather(*held)
    with pytest.raises(DeadlineExpired):
        await late
    assert decoded == [0, 1]
    assert engine.seen == [[0], [1]]
    await run.close()


async def test_a_caller_with_many_waiting_delays_another_by_one_turn_only() -> None:
    engine = EchoEngine()
    run = scheduler(engine, decode_threads=1)
    engine.gate.clear()
    greedy = [asyncio.ensure_future(answer(run, n, caller="greedy")) for n in range(20)]
    await until(lambda: bool(engine.seen) and run.busy == 1)
    modest = asyncio.ensure_future(answer(run, 99, caller="modest"))
    await asyncio.sleep(0)
    engine.gate.set()
    await asyncio.gather(modest, *greedy)
    order = [number for batch in engine.seen for number in batch]
    assert order.index(99) <= 4
    assert sorted(order) == [*range(20), 99]
    await run.close()


async def test_an_image_that_the_engine_fails_on_fails_alone() -> None:
    engine = EchoEngine(max_batch=8, poison=frozenset({3}))
    run = scheduler(engine, decode_threads=8)
    first = await one_at(engine, run)
    others = [asyncio.ensure_future(answer(run, number)) for number in range(1, 6)]
    await until(lambda: run.queue_depth == 5 and run.busy == 1)
    engine.gate.set()
    results = await asyncio.gather(first, *others, return_exceptions=True)
    assert isinstance(results.pop(3), EngineFailure)
    assert results == [0, 1, 2, 4, 5]
    await run.close()


async def test_a_panic_of_decoder_engine_or_conclusion_fails_one_request_and_not_the_loop() -> None:
    class Panic(BaseException):
        """Like pyo3's PanicException, not an Exception."""

    def panic() -> Image:
        raise Panic

    engine = EchoEngine()
    run = scheduler(engine, decode_threads=1)
    with pytest.raises(RuntimeError, match="Panic"):
        await run.submit(panic, output_of, stages=Stages())
    assert await answer(run, 1) == 1
    with pytest.raises(RuntimeError, match="Panic"):
        await run.submit(lambda: Image(1), lambda *_: panic(), stages=Stages())
    assert await answer(run, 1) == 1
    whole, engine.evidence = engine.evidence, lambda _: panic()  # type: ignore[method-assign,assignment]
    with pytest.raises(EngineFailure):
        await answer(run, 2)
    engine.evidence = whole  # type: ignore[method-assign]
    assert await answer(run, 3) == 3
    assert (run.queue_depth, run.busy) == (0, 0)
    await run.close()


async def test_an_engine_with_too_few_answers_has_failed() -> None:
    engine = EchoEngine()
    run = scheduler(engine)
    whole = engine.evidence
    engine.evidence = lambda batch_nchw: whole(batch_nchw)[1:]  # type: ignore[method-assign]
    with pytest.raises(EngineFailure):
        await answer(run, 1)
    engine.evidence = whole  # type: ignore[method-assign]
    assert await answer(run, 2) == 2
    await run.close()


@pytest.mark.parametrize("value", [np.nan, np.inf, -np.inf])
async def test_evidence_that_is_not_finite_is_a_failure_of_its_image_alone(value: float) -> None:
    engine = EchoEngine(max_batch=4)
    failures: list[BaseException] = []
    run = scheduler(engine, on_failure=lambda error: (failures.append(error), run.resume(engine)))
    whole = engine.evidence

    def spoil(batch_nchw: np.ndarray) -> np.ndarray:
        evidence = whole(batch_nchw)
        evidence[evidence == 2] = value
        return evidence

    engine.evidence = spoil  # type: ignore[method-assign]
    first = await one_at(engine, run)
    others = [asyncio.ensure_future(answer(run, number)) for number in (1, 2, 3)]
    await until(lambda: run.queue_depth == 3)
    engine.gate.set()
    ends = await asyncio.gather(first, *others, return_exceptions=True)
    assert isinstance(ends.pop(2), EngineFailure)
    assert ends == [0, 1, 3]
    assert [type(failure) for failure in failures] == [NotFinite, NotFinite]
    await run.close()


async def test_an_image_that_is_refused_is_freed_at_once() -> None:
    class File:
        """An image file."""

    def refuse(image: File) -> Image:
        try:
            raise ValueError(image)
        except ValueError as error:
            raise ImageUnreadable("broken") from error

    run = scheduler(EchoEngine())
    image = File()
    is_freed = weakref.ref(image)
    gc.disable()
    try:
        try:
            await run.submit(partial(refuse, image), output_of, stages=Stages())
        except ImageUnreadable as error:
            error.__traceback__ = None  # as the interceptor does that reports it
        del image
        await until(lambda: is_freed() is None)
    finally:
        gc.enable()
    await run.close()


@pytest.mark.parametrize(
    "embedding_nc", [np.zeros((0, 4)), np.full((1, 4), np.nan), np.full((1, 4), np.inf)]
)
async def test_embeddings_that_lack_or_are_not_finite_are_failures_as_well(
    embedding_nc: np.ndarray,
) -> None:
    engine = EchoEngine()
    run = scheduler(engine)
    engine.infer = lambda batch_nchw: Inferred(  # type: ignore[attr-defined]
        engine.evidence(batch_nchw), embedding_nc
    )
    with pytest.raises(EngineFailure):
        await answer(run, 1)
    del engine.infer  # type: ignore[attr-defined]
    assert await answer(run, 2) == 2
    await run.close()


async def test_a_call_that_does_not_return_is_noticed_and_neither_its_callers_nor_the_end_wait(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(engine_calls, "STUCK_AFTER_S", 0.05)
    engine = EchoEngine()
    run = scheduler(engine, decode_threads=1)
    assert not run.stuck
    held = await one_at(engine, run)
    waiting = asyncio.ensure_future(answer(run, 1))
    await until(lambda: run.stuck)
    run.give_up(ModelLoading("lost"))
    ends = await asyncio.gather(held, waiting, return_exceptions=True)
    assert all(isinstance(end, ModelLoading) for end in ends)
    async with asyncio.timeout(60):
        await run.close()
    with pytest.raises(Draining):
        await answer(run, 2)
    engine.gate.set()
    await until(lambda: not run.stuck and engine.running == 0)


async def test_a_call_is_stuck_only_if_it_is_also_far_longer_than_usual(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(engine_calls, "STUCK_AFTER_S", 0.001)
    monkeypatch.setattr(engine_calls, "STUCK_AFTER_CALLS", 1e6)
    engine = EchoEngine(work_s=0.01)
    run = scheduler(engine, decode_threads=1)
    assert await answer(run, 9) == 9
    engine.seen.clear()
    held = await one_at(engine, run)
    await asyncio.sleep(0.05)
    assert not run.stuck  # a thousand seconds would be
    engine.gate.set()
    assert await held == 0
    await run.close()


async def test_a_lost_device_is_no_fault_of_the_image() -> None:
    engine = EchoEngine()
    failures: list[BaseException] = []
    run = scheduler(engine, on_failure=lambda error: (failures.append(error), run.resume(engine)))

    def lost(_: np.ndarray) -> np.ndarray:
        raise DeviceLost("gone")

    engine.evidence = lost  # type: ignore[method-assign]
    with pytest.raises(ModelLoading) as caught:
        await answer(run, 1)
    assert caught.value.retry_after_ms
    assert all(isinstance(failure, DeviceLost) for failure in failures)
    await run.close()


async def test_requests_wait_through_a_rebuild_of_the_engine() -> None:
    broken, whole = EchoEngine(faults=lambda: True), EchoEngine()
    failures: list[Exception] = []
    run = scheduler(broken, on_failure=failures.append)
    tasks = [asyncio.ensure_future(answer(run, number)) for number in range(4)]
    await until(lambda: len(failures) == 1)
    await asyncio.sleep(0.01)
    assert len(broken.seen) == 1
    assert not any(task.done() for task in tasks)
    run.resume(whole)
    assert await asyncio.gather(*tasks) == [0, 1, 2, 3]
    await run.close()


async def test_the_wait_that_is_advised_grows_with_the_queue_within_bounds() -> None:
    engine = EchoEngine()
    run = scheduler(engine, decode_threads=1)
    before_ms = run.retry_after_ms()
    first = await one_at(engine, run)
    others = [asyncio.ensure_future(answer(run, number)) for number in range(1, 200)]
    await until(lambda: run.queue_depth == 199)
    assert 50 <= before_ms < run.retry_after_ms() <= 5000
    engine.gate.set()
    assert await asyncio.gather(first, *others) == list(range(200))
    await run.close()


async def test_closing_answers_what_waits_and_finishes_what_runs() -> None:
    engine = EchoEngine()
    run = scheduler(engine, decode_threads=1)
    engine.gate.clear()
    tasks = [asyncio.ensure_future(answer(run, number)) for number in range(5)]
    await until(lambda: engine.seen == [[0]] and run.busy == 1)
    closing = asyncio.ensure_future(run.close())
    await asyncio.sleep(0.01)
    engine.gate.set()
    results = await asyncio.gather(*tasks, return_exceptions=True)
    await closing
    assert results[0] == 0
    assert all(isinstance(result, Draining) for result in results[1:])
    with pytest.raises(Draining):
        await answer(run, 9)


async def test_without_anyone_to_rebuild_it_a_failed_engine_answers_unavailable() -> None:
    engine = EchoEngine(faults=lambda: True)
    run = Alone(engine, interactive=InteractiveCalls(), decode_threads=1)
    engine.gate.clear()
    tasks = [asyncio.ensure_future(answer(run, number)) for number in range(4)]
    await until(lambda: run.busy == 1 and run.queue_depth == 3)
    engine.gate.set()
    async with asyncio.timeout(60):
        ends = await asyncio.gather(*tasks, return_exceptions=True)
    assert all(isinstance(end, ModelLoading) for end in ends)
    with pytest.raises(ModelLoading):
        await answer(run, 9)
    await run.close()


async def test_a_request_without_inference_takes_its_turn_and_spares_the_engine() -> None:
    engine = EchoEngine()
    run = scheduler(engine, decode_threads=1)
    stages = Stages()
    assert await run.submit(lambda: "decoded", None, stages=stages) == ("decoded", None)
    assert [span.stage for span in stages.spans] == [Stage.QUEUE, Stage.DECODE]
    with pytest.raises(ZeroDivisionError):
        await run.submit(lambda: 1 / 0, None, stages=Stages())
    with pytest.raises(DeadlineExpired):
        await run.submit(lambda: "late", None, stages=Stages(), deadline=time.monotonic())
    assert engine.seen == []
    await run.close()


async def test_stages_are_recorded_in_order_and_without_gaps() -> None:
    run = scheduler(EchoEngine())
    stages = Stages()
    await answer(run, 1, stages=stages)
    order = [Stage.QUEUE, Stage.DECODE, Stage.QUEUE, Stage.INFERENCE]
    assert [span.stage for span in stages.spans] == order
    for one, following in itertools.pairwise(stages.spans):
        assert one.start_s <= one.end_s == following.start_s
    await run.close()


@pytest.mark.parametrize(
    "starting",
    [
        lambda decoders: DecodeThreads(3, InteractiveCalls()),
        lambda decoders: Scheduler(
            EchoEngine(max_in_flight=3), decoders=decoders, interactive=InteractiveCalls()
        ),
    ],
    ids=["decode", "engine"],
)
async def test_where_a_thread_cannot_start_those_that_did_are_ended(
    starting: Callable[[DecodeThreads], object], monkeypatch: pytest.MonkeyPatch
) -> None:
    decoders = DecodeThreads(1, InteractiveCalls())
    start = threading.Thread.start
    started: list[threading.Thread] = []

    def limited(thread: threading.Thread) -> None:
        if len(started) == 2:
            raise RuntimeError("can't start new thread")
        start(thread)
        started.append(thread)

    monkeypatch.setattr(threading.Thread, "start", limited)
    with pytest.raises(RuntimeError, match="can't start"):
        starting(decoders)
    decoders.close()
    await until(lambda: not any(thread.is_alive() for thread in started))


class Counted:
    """An item that counts how often it is compared."""

    comparisons = 0

    def __eq__(self, other: object) -> bool:
        Counted.comparisons += 1
        return self is other

    def __hash__(self) -> int:
        return id(self)


def test_leaving_the_fair_queue_costs_the_same_however_long_it_is() -> None:
    queue: FairQueue[Counted] = FairQueue()
    items = [Counted() for _ in range(1000)]
    for item in items:
        queue.push("caller", item)
    Counted.comparisons = 0
    for item in items[::-1][:500]:
        assert queue.discard("caller", item)
        assert not queue.discard("caller", item)
    assert Counted.comparisons < 2000  # a search would take some 400,000
    assert [queue.pop() for _ in range(len(queue))] == items[:500]


def test_the_fair_queue_serves_bulk_items_when_no_other_waits_and_their_callers_in_turn() -> None:
    queue: FairQueue[str] = FairQueue()
    for item in ("a1", "a2", "b1"):
        queue.push(item[0], item, bulk=True)
    for item in ("A1", "A2", "B1"):
        queue.push(item[0], item)
    assert [queue.pop() for _ in range(4)] == ["A1", "B1", "A2", "a1"]
    queue.push("A", "A3")
    assert not queue.only_bulk
    assert [queue.pop() for _ in range(2)] == ["A3", "b1"]
    assert queue.only_bulk
    assert queue.discard("a", "a2", bulk=True)
    assert len(queue) == 0


@given(st.lists(st.one_of(st.sampled_from("abc"), st.none(), st.integers(0, 30)), max_size=60))
def test_the_fair_queue_serves_each_caller_in_order_and_loses_nothing(
    steps: list[str | int | None],
) -> None:
    """A letter pushes an item of that caller, None pops, a number discards that item."""
    queue: FairQueue[tuple[str, int]] = FairQueue()
    pushed: list[tuple[str, int]] = []
    popped: list[tuple[str, int]] = []
    discarded: list[tuple[str, int]] = []
    for number, step in enumerate(steps):
        if isinstance(step, str):
            pushed.append((step, number))
            queue.push(step, pushed[-1])
        elif step is None and len(queue):
            popped.append(queue.pop())
        elif step is not None and step < len(pushed):
            item = pushed[step]
            present = item not in popped and item not in discarded
            assert queue.discard(item[0], item) == present
            discarded += [item] * present
        assert len(queue) == len(pushed) - len(popped) - len(discarded)
    while len(queue):
        popped.append(queue.pop())
    assert sorted(popped + discarded) == sorted(pushed)
    for caller in "abc":
        own = [item for item in popped if item[0] == caller]
        assert own == sorted(own)
    with pytest.raises(KeyError):
        queue.pop()


@given(counts=st.lists(st.integers(1, 9), min_size=2, max_size=5))
def test_the_fair_queue_serves_every_waiting_caller_before_one_twice(counts: list[int]) -> None:
    queue: FairQueue[tuple[str, int]] = FairQueue()
    for caller, count in enumerate(counts):
        for number in range(count):
            queue.push(str(caller), (str(caller), number))
    rounds = [queue.pop() for _ in range(sum(counts))]
    expected = [
        (str(caller), number)
        for number in range(max(counts))
        for caller, count in enumerate(counts)
        if number < count
    ]
    assert rounds == expected


class TwoWayEngine(EchoEngine):
    """Keeps which images it was asked for in the least processor time."""

    def __init__(self, max_in_flight: int) -> None:
        super().__init__(max_in_flight=max_in_flight)
        self.for_throughput: list[int] = []

    def infer(self, images: Sequence[np.ndarray]) -> Inferred:
        return Inferred(self.evidence(np.stack(images)), None)

    def infer_for_throughput(self, images: Sequence[np.ndarray]) -> Inferred:
        self.for_throughput += [int(image[0, 0, 0]) for image in images]
        return self.infer(images)


@pytest.mark.parametrize(("cores", "decoding", "expected"), [(2, 1, [7]), (4, 1, []), (4, 2, [7])])
async def test_a_lone_call_of_the_engine_leaves_the_cores_to_images_on_half_of_them(
    cores: int, decoding: int, expected: list[int]
) -> None:
    engine, decode = TwoWayEngine(cores), threading.Event()
    run = scheduler(engine, decode_threads=4)

    def slowly() -> Image:
        decode.wait(60)
        return Image(0)

    others = [
        asyncio.ensure_future(run.submit(slowly, None, stages=Stages())) for _ in range(decoding)
    ]
    await until(lambda: run.decoding == decoding)
    assert await answer(run, 7) == 7
    decode.set()
    await asyncio.gather(*others)
    assert engine.for_throughput == expected
    assert await answer(run, 8) == 8
    assert engine.for_throughput == expected, "alone, an image is for latency"
