"""A failed engine is rebuilt while calls wait; if that cannot help, the process ends at once."""

import asyncio
import json
import re
import subprocess
import sys
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from dataclasses import replace

import grpc
import numpy as np
import pytest
from grpc_health.v1 import health_pb2, health_pb2_grpc

from cxr.v1 import chest_xray_pb2 as pb
from cxr.v1.chest_xray_pb2_grpc import ChestXrayServiceStub
from cxr_server.app import App, serve
from cxr_server.inference import engine_calls, supervisor
from cxr_server.inference.engines import DeviceLost
from cxr_server.inference.engines.registry import ENGINES, EngineUnavailable
from cxr_server.settings import parse
from images import chest_like, png
from trust.fragile_engines import Engines, Fragile
from trust.outcomes import reason_of, retry_after_s

FLAGS = (
    "--engine",
    "openvino",
    "--listen",
    "127.0.0.1:0",
    "--cache-entries",
    "0",
    "--grace-s",
    "5",
    "--decode-processes",  # starting some takes longer than most tests
    "0",
)
Change = Callable[[np.ndarray], np.ndarray]
SERVING = health_pb2.HealthCheckResponse.SERVING
NOT_SERVING = health_pb2.HealthCheckResponse.NOT_SERVING


@asynccontextmanager
async def serving(*flags: str) -> AsyncIterator[tuple[App, grpc.aio.Channel]]:
    app = App(parse([*FLAGS, *flags], env={}))
    await app.start()
    await app.load()
    async with grpc.aio.insecure_channel(f"127.0.0.1:{app.port}") as channel:
        yield app, channel
    await app.drain()


async def admitted(stub: ChestXrayServiceStub, count: int) -> None:
    async with asyncio.timeout(60):
        while (await stub.Health(pb.HealthRequest())).in_flight_count != count:
            await asyncio.sleep(0.01)


@asynccontextmanager
async def ended(
    capfd: pytest.CaptureFixture[str],
) -> AsyncIterator[tuple[ChestXrayServiceStub, asyncio.Task[int]]]:
    """A server that ends by itself, and its exit status."""
    ending = asyncio.create_task(serve(parse(["--drain-pause-s", "30", *FLAGS], env={})))
    async with asyncio.timeout(60):
        printed = ""
        while not (banner := re.search(r"serving phantom on (\S+)", printed)):
            await asyncio.sleep(0.01)
            printed += capfd.readouterr().out
        async with grpc.aio.insecure_channel(banner[1]) as channel:
            yield ChestXrayServiceStub(channel), ending


async def all_unavailable(stub: ChestXrayServiceStub, engine: Fragile, count: int = 4) -> None:
    """Hold calls until they wait for the engine; they must end as worth repeating elsewhere."""
    engine.free.clear()
    calls = [stub.Predict(pb.PredictRequest(image=png())) for _ in range(count)]
    await admitted(stub, count)
    engine.free.set()
    for end in await asyncio.gather(*calls, return_exceptions=True):
        assert isinstance(end, grpc.aio.AioRpcError)
        assert end.code() is grpc.StatusCode.UNAVAILABLE
        assert retry_after_s(end) > 0


async def test_calls_wait_while_the_engine_is_replaced_and_are_answered_right(
    engines: Engines,
) -> None:
    requests = [pb.PredictRequest(image=png(chest_like(64, 64, seed=n))) for n in range(6)]
    async with serving() as (app, channel):
        stub = ChestXrayServiceStub(channel)
        before = [(await stub.Predict(request)).findings for request in requests]
        watch = health_pb2_grpc.HealthStub(channel).Watch(health_pb2.HealthCheckRequest())
        assert (await watch.read()).status == SERVING
        engines.can_be_made.clear()
        engines.made[0].broken = True
        engines.made[0].free.clear()
        asking = [asyncio.ensure_future(stub.Predict(request)) for request in requests]
        await admitted(stub, len(requests))
        engines.made[0].free.set()
        assert (await watch.read()).status == NOT_SERVING
        health = await stub.Health(pb.HealthRequest())
        assert health.status == pb.SERVING_STATUS_FAILED
        with pytest.raises(grpc.aio.AioRpcError) as caught:  # a new call is refused at once
            await stub.Predict(requests[0])
        assert caught.value.code() is grpc.StatusCode.UNAVAILABLE
        assert reason_of(caught.value) == "MODEL_LOADING"
        assert not any(call.done() for call in asking)
        engines.can_be_made.set()
        answers = await asyncio.gather(*asking)
        assert [answer.findings for answer in answers] == before
        assert (await watch.read()).status == SERVING
        assert (await stub.Predict(requests[0])).findings == before[0]
        assert len(engines.made) == 2
        assert engines.made[0].closed
        _, model = next(iter(app.service.models))
        assert model.engine_failures == 1
        assert model.engine_rebuilds == {"rebuilt": 1, "failed": 0}
    assert engines.made[1].closed


async def test_a_model_that_cannot_be_replaced_ends_the_process_with_an_error(
    engines: Engines, capfd: pytest.CaptureFixture[str]
) -> None:
    async with ended(capfd) as (stub, ending):
        engines.made[0].broken = engines.broken = True
        await all_unavailable(stub, engines.made[0])
        assert await ending == 1
    assert engines.refused == supervisor.REBUILD_TRIES


async def test_an_engine_that_fails_on_its_first_image_is_never_served(
    engines: Engines, monkeypatch: pytest.MonkeyPatch
) -> None:
    def broken(*args: object) -> Fragile:
        engine = engines.make(*args)
        engine.broken = True
        return engine

    monkeypatch.setitem(ENGINES, "openvino", replace(ENGINES["openvino"], open=broken))
    app = App(parse(list(FLAGS), env={}))
    await app.start()
    with pytest.raises(EngineUnavailable, match="warming up"):
        await asyncio.wait_for(app.load(), 60)
    async with grpc.aio.insecure_channel(f"127.0.0.1:{app.port}") as channel:
        check = health_pb2_grpc.HealthStub(channel).Check
        assert (await check(health_pb2.HealthCheckRequest())).status == NOT_SERVING
    await app.drain()


async def test_after_the_last_try_to_replace_an_engine_nothing_is_waited_for(
    engines: Engines, capfd: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(supervisor, "REBUILD_TRIES", 1)
    monkeypatch.setattr(supervisor, "REBUILD_PAUSE_S", 3600)
    async with ended(capfd) as (stub, ending):
        engines.made[0].broken = engines.broken = True
        await all_unavailable(stub, engines.made[0])
        assert await ending == 1


async def test_a_lost_device_ends_the_process_without_a_try_to_replace_the_engine(
    engines: Engines, capfd: pytest.CaptureFixture[str]
) -> None:
    async with ended(capfd) as (stub, ending):
        engines.made[0].error = DeviceLost("cuda:0 is lost")
        engines.made[0].broken = True
        await all_unavailable(stub, engines.made[0])
        assert await ending == 1
    assert (len(engines.made), engines.refused) == (1, 0)


async def test_an_engine_call_that_never_returns_ends_the_process(
    engines: Engines, capfd: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(engine_calls, "STUCK_AFTER_S", 0.2)
    monkeypatch.setattr(engine_calls, "STUCK_AFTER_CALLS", 0)
    async with ended(capfd) as (stub, ending):
        engines.made[0].free.clear()
        with pytest.raises(grpc.aio.AioRpcError) as caught:
            await stub.Predict(pb.PredictRequest(image=png()))
        assert caught.value.code() is grpc.StatusCode.UNAVAILABLE
        assert retry_after_s(caught.value) > 0
        assert await ending == 1
        engines.made[0].free.set()
    assert len(engines.made) == 1
    assert not engines.made[0].closed, "a call was still running"


async def test_a_call_that_seems_stuck_after_a_pause_of_the_process_is_answered(
    engines: Engines, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(supervisor, "STUCK_CHECKS", 10**9)
    async with serving() as (app, channel):
        monkeypatch.setattr(engine_calls, "STUCK_AFTER_S", 0)
        monkeypatch.setattr(engine_calls, "STUCK_AFTER_CALLS", 0)
        stub = ChestXrayServiceStub(channel)
        engines.made[0].free.clear()
        engines.made[0].called.clear()
        call = asyncio.ensure_future(stub.Predict(pb.PredictRequest(image=png())))
        assert await asyncio.to_thread(engines.made[0].called.wait, 60)
        await asyncio.sleep(0.1)  # ten looks at it
        engines.made[0].free.set()
        assert (await call).findings
        assert not app.lifecycle.given_up.is_set()


async def test_shutting_down_does_not_wait_for_an_engine_call_that_never_returns(
    engines: Engines, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(supervisor, "WATCH_INTERVAL_S", 3600)
    async with serving("--grace-s", "0.1") as (_, channel):
        engines.made[0].free.clear()
        engines.made[0].called.clear()
        call = ChestXrayServiceStub(channel).Predict(pb.PredictRequest(image=png()))
        assert await asyncio.to_thread(engines.made[0].called.wait, 60)
        monkeypatch.setattr(engine_calls, "STUCK_AFTER_S", 0.2)
        monkeypatch.setattr(engine_calls, "STUCK_AFTER_CALLS", 0)
    assert call.done()
    assert not engines.made[0].closed, "a call was still running"
    engines.made[0].free.set()


async def test_an_image_without_a_finite_answer_fails_alone_and_the_engine_is_kept(
    engines: Engines,
) -> None:
    poison = chest_like(224, 224)
    poison[100:125, 100:125] = 0
    images = [png(poison), *(png(chest_like(64, 64, seed=n)) for n in range(3))]
    async with serving() as (app, channel):
        stub = ChestXrayServiceStub(channel)
        engines.made[0].free.clear()
        calls = [stub.Predict(pb.PredictRequest(image=image)) for image in images]
        await admitted(stub, len(images))
        engines.made[0].free.set()
        refused, *answers = await asyncio.gather(*calls, return_exceptions=True)
        assert isinstance(refused, grpc.aio.AioRpcError)
        assert refused.code() is grpc.StatusCode.INTERNAL
        for answer in answers:
            assert np.isfinite([finding.score for finding in answer.findings]).all()
        assert (await stub.Health(pb.HealthRequest())).status == pb.SERVING_STATUS_SERVING
        assert [model.engine_failures for _, model in app.service.models] == [2]
    assert len(engines.made) == 1


async def test_an_engine_that_no_longer_gives_finite_answers_is_replaced(engines: Engines) -> None:
    request = pb.PredictRequest(image=png())
    async with serving() as (_, channel):
        stub = ChestXrayServiceStub(channel)
        before = (await stub.Predict(request)).findings
        engines.made[0].error = None
        engines.made[0].broken = True
        assert (await stub.Predict(request)).findings == before
    assert len(engines.made) == 2


def of(value: float) -> Change:
    return lambda evidence: np.full_like(evidence, value)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (of(np.nan), "gives evidence that is not finite"),
        (of(np.inf), "gives evidence that is not finite"),
        (lambda evidence: evidence + 0.05, r"differs by 1\.\de-02, allowed are 1e-03"),
    ],
    ids=["nan", "inf", "off by 0.01"],
)
async def test_an_engine_that_gives_other_scores_than_the_bundle_states_is_never_served(
    engines: Engines, monkeypatch: pytest.MonkeyPatch, change: Change, message: str
) -> None:
    def wrong(*args: object) -> Fragile:
        engine = engines.make(*args)
        right = engine.evidence
        engine.evidence = lambda batch: change(right(batch))  # type: ignore[method-assign]
        return engine

    monkeypatch.setitem(ENGINES, "openvino", replace(ENGINES["openvino"], open=wrong))
    app = App(parse(list(FLAGS), env={}))
    await app.start()
    with pytest.raises(EngineUnavailable, match=f"openvino on CPU in float32 .*{message}"):
        await asyncio.wait_for(app.load(), 60)
    async with grpc.aio.insecure_channel(f"127.0.0.1:{app.port}") as channel:
        assert not (await ChestXrayServiceStub(channel).Health(pb.HealthRequest())).engine
    await app.drain()
    assert engines.made[0].closed


HANGING_REBUILD = """
import sys, threading
from dataclasses import replace
from cxr_server.__main__ import main
from cxr_server.inference import supervisor
from cxr_server.inference.engines.registry import ENGINES

supervisor.REBUILD_LIMIT_S = 0.5
spec = ENGINES["openvino"]
made = []

def start(bundle, options):
    if made:
        threading.Event().wait()  # as a driver does that has lost its card
    made.append(spec.open(bundle, options))
    whole = made[0].infer

    def once(batch):
        if len(made) > 2:
            raise RuntimeError("fault")
        made.append(None)
        return whole(batch)

    made[0].infer = once
    return made[0]

ENGINES["openvino"] = replace(spec, open=start)
sys.exit(main(sys.argv[1:]))
"""


@pytest.mark.slow
def test_a_replacement_that_never_starts_ends_the_process() -> None:
    flags = ["serve", "--listen", "127.0.0.1:0", "--engine", "openvino", "--grace-s", "1"]
    command = [sys.executable, "-c", HANGING_REBUILD, *flags]
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as process:
        assert process.stdout
        address = json.loads(process.stdout.readline())["address"]
        with grpc.insecure_channel(address) as channel, pytest.raises(grpc.RpcError) as caught:
            ChestXrayServiceStub(channel).Predict(pb.PredictRequest(image=png()), timeout=60)
        assert caught.value.code() is grpc.StatusCode.UNAVAILABLE
        try:
            assert process.wait(60) == 1
        finally:
            process.kill()
