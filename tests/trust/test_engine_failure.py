"""A failed engine is rebuilt while calls wait; if that fails, the process ends with an error."""

import asyncio
import threading
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import replace

import grpc
import numpy as np
import pytest
from grpc_health.v1 import health_pb2, health_pb2_grpc

from cxr.v1 import chest_xray_pb2 as pb
from cxr.v1.chest_xray_pb2_grpc import ChestXrayServiceStub
from cxr_server import model
from cxr_server.app import App, serve
from cxr_server.inference.engines import Engine
from cxr_server.inference.engines.registry import ENGINES, EngineUnavailable
from cxr_server.settings import parse
from images import chest_like, png
from trust.outcomes import reason_of

FLAGS = (
    "--engine",
    "openvino",
    "--listen",
    "127.0.0.1:0",
    "--cache-entries",
    "0",
    "--grace-s",
    "5",
)
SERVING = health_pb2.HealthCheckResponse.SERVING
NOT_SERVING = health_pb2.HealthCheckResponse.NOT_SERVING


class Engines:
    """Opens engines that fail on demand."""

    def __init__(self) -> None:
        self.made: list[Fragile] = []
        self.can_be_made = asyncio.Event()
        self.can_be_made.set()
        self.broken = False
        self.refused = 0
        self._spec = ENGINES["openvino"]
        self._loop = asyncio.get_running_loop()

    def make(self, *args: object) -> "Fragile":
        asyncio.run_coroutine_threadsafe(self.can_be_made.wait(), self._loop).result(60)
        if self.broken:
            self.refused += 1
            raise EngineUnavailable("no device")
        self.made.append(Fragile(self._spec.open(*args)))  # type: ignore[arg-type]
        return self.made[-1]


class Fragile:
    """The real engine until `broken`; then every call fails, as with a lost device."""

    def __init__(self, whole: Engine) -> None:
        self._whole = whole
        self.broken = self.closed = False
        self.free = threading.Event()
        self.free.set()

    def __getattr__(self, name: str) -> object:
        return getattr(self._whole, name)

    def evidence(self, batch_nchw: np.ndarray) -> np.ndarray:
        assert self.free.wait(60)
        if self.broken:
            raise RuntimeError("device lost")
        return self._whole.evidence(batch_nchw)

    def close(self) -> None:
        self.closed = True
        self._whole.close()


@pytest.fixture
async def engines(monkeypatch: pytest.MonkeyPatch) -> Engines:
    engines = Engines()
    fragile = replace(ENGINES["openvino"], open=engines.make)
    monkeypatch.setitem(ENGINES, "openvino", fragile)
    monkeypatch.setattr(model, "REBUILD_PAUSE_S", 0.01)
    return engines


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
        assert app.metrics.registry.get_sample_value("cxr_engine_failures_total") == 1
    assert engines.made[1].closed


async def test_a_model_that_cannot_be_replaced_ends_the_process_with_an_error(
    engines: Engines, capsys: pytest.CaptureFixture[str]
) -> None:
    ending = asyncio.create_task(serve(parse(["--drain-pause-s", "30", *FLAGS], env={})))
    async with asyncio.timeout(60):
        while not (banner := capsys.readouterr().out):
            await asyncio.sleep(0.01)
    async with grpc.aio.insecure_channel(banner.split(" on ")[1].split()[0]) as channel:
        stub = ChestXrayServiceStub(channel)
        engines.made[0].broken = engines.broken = True
        engines.made[0].free.clear()
        calls = [stub.Predict(pb.PredictRequest(image=png())) for _ in range(4)]
        await admitted(stub, len(calls))
        engines.made[0].free.set()
        ends = await asyncio.gather(*calls, return_exceptions=True)
    for end in ends:
        assert isinstance(end, grpc.aio.AioRpcError)
        assert end.code() is grpc.StatusCode.UNAVAILABLE
    async with asyncio.timeout(60):
        assert await ending == 1
    assert engines.refused == model.REBUILD_TRIES


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
