"""Decode threads that serve the schedulers of several models."""

import asyncio
import threading
from collections.abc import Callable

import pytest

from cxr_server.errors import Draining
from cxr_server.inference import bulk_turns
from cxr_server.inference.decode_threads import DecodeThreads
from cxr_server.inference.scheduler import Scheduler
from cxr_server.interactive_calls import InteractiveCalls
from cxr_server.observability.stages import Stage, Stages


class NoEngine:
    """These tests decode only."""

    name, device, precision = "none", "test", "float32"
    max_batch = max_in_flight = 1

    def close(self) -> None: ...


class Models:
    """Two models, whose images are decoded once `gate` is set."""

    def __init__(self, decode_threads: int) -> None:
        self.interactive = InteractiveCalls()
        self.decoders = DecodeThreads(decode_threads, self.interactive)
        self.first, self.second = (
            Scheduler(NoEngine(), decoders=self.decoders, interactive=self.interactive)  # type: ignore[arg-type]
            for _ in range(2)
        )
        self.begun: list[str] = []
        self.gate = threading.Event()

    @property
    def waiting(self) -> int:
        return self.first.waiting_to_decode + self.second.waiting_to_decode

    def send(
        self, run: Scheduler, name: str, *, bulk: bool = False, stages: Stages | None = None
    ) -> asyncio.Task[object]:
        def prepare() -> str:
            self.begun.append(name)
            assert self.gate.wait(60)
            return name

        work = run.submit(prepare, None, stages=stages or Stages(), bulk=bulk)
        return asyncio.ensure_future(work)

    async def close(self) -> None:
        self.gate.set()
        await self.first.close()
        await self.second.close()
        self.decoders.close()


async def until(condition: Callable[[], bool]) -> None:
    async with asyncio.timeout(60):
        while not condition():
            await asyncio.sleep(0.001)


async def test_bulk_images_of_all_models_leave_one_thread_free_for_the_next_interactive_call(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(bulk_turns, "EXPECTED_S", 1000.0)
    models = Models(decode_threads=2)
    with models.interactive.in_flight():
        pass
    bulk = [models.send(run, "bulk", bulk=True) for run in (models.first, models.second) * 2]
    await until(lambda: models.begun == ["bulk"])
    urgent = models.send(models.second, "urgent")
    await until(lambda: len(models.begun) == 2)
    assert models.begun == ["bulk", "urgent"]
    assert models.waiting == 3
    models.gate.set()
    await asyncio.gather(urgent, *bulk)
    await models.close()


async def test_images_of_all_models_beyond_the_threads_wait_in_the_queues() -> None:
    models = Models(decode_threads=2)
    stages = [Stages() for _ in range(4)]
    held = [models.send(models.first, "held", stages=each) for each in stages[:2]]
    await until(lambda: len(models.begun) == 2)
    later = [models.send(models.second, "later", stages=each) for each in stages[2:]]
    await until(lambda: models.waiting == 2)
    assert models.decoders.busy == 2
    assert models.begun == ["held"] * 2
    models.gate.set()
    await asyncio.gather(*held, *later)
    await until(lambda: models.decoders.busy == 0)
    first_end_s = min(each.spans[1].end_s for each in stages[:2])
    for each in stages[2:]:
        queue, decode = each.spans
        assert (queue.stage, decode.stage) == (Stage.QUEUE, Stage.DECODE)
        assert decode.start_s >= first_end_s
    await models.close()


@pytest.mark.parametrize("bulk", [False, True])
async def test_models_take_turns(bulk: bool) -> None:
    models = Models(decode_threads=1)
    sent = [models.send(models.first, "first", bulk=bulk) for _ in range(5)]
    sent += [models.send(models.second, "second", bulk=bulk) for _ in range(2)]
    await until(lambda: models.waiting == 6)
    models.gate.set()
    await asyncio.gather(*sent)
    assert models.begun == ["first", "second"] * 2 + ["first"] * 3
    await models.close()


async def test_interactive_images_overtake_bulk_images_of_another_model() -> None:
    models = Models(decode_threads=1)
    sent = [models.send(models.first, "bulk", bulk=True) for _ in range(3)]
    await until(lambda: models.begun == ["bulk"])
    sent += [models.send(models.second, "urgent") for _ in range(2)]
    await until(lambda: models.waiting == 4)
    models.gate.set()
    await asyncio.gather(*sent)
    assert models.begun == ["bulk", "urgent", "urgent", "bulk", "bulk"]
    await models.close()


async def test_interactive_images_of_a_model_cost_its_bulk_images_no_turn() -> None:
    models = Models(decode_threads=1)
    sent = [models.send(models.first, "urgent")]
    await until(lambda: models.begun == ["urgent"])
    sent += [models.send(models.first, "first", bulk=True) for _ in range(2)]
    sent += [models.send(models.second, "second", bulk=True) for _ in range(2)]
    models.gate.set()
    await asyncio.gather(*sent)
    assert models.begun == ["urgent", *["first", "second"] * 2]
    await models.close()


async def test_a_model_that_is_closed_finishes_its_images_and_leaves_the_others_theirs() -> None:
    models = Models(decode_threads=1)
    begun = models.send(models.first, "begun")
    await until(lambda: models.begun == ["begun"])
    waiting, other = models.send(models.first, "waiting"), models.send(models.second, "other")
    await until(lambda: models.waiting == 2)
    closing = asyncio.ensure_future(models.first.close())
    with pytest.raises(Draining):
        await waiting
    assert not closing.done()
    models.gate.set()
    await closing
    assert await begun == ("begun", None)
    assert await other == ("other", None)
    assert models.begun == ["begun", "other"]
    await models.close()
