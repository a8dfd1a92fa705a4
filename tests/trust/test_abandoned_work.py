"""Work ends when its caller has gone, and delays neither other callers nor the shutdown."""

import asyncio
import sys
import threading
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from pathlib import Path

import grpc
import pytest

from cxr.v1 import chest_xray_pb2 as pb
from cxr.v1.chest_xray_pb2_grpc import ChestXrayServiceStub
from cxr_server.app import App
from cxr_server.explanation.render import Renderer
from cxr_server.inference.cache import EvidenceCache
from cxr_server.settings import parse
from images import chest_like, png
from serving import ServerProcess

SMALL = png(chest_like())
LARGE = png(chest_like(seed=1)) + bytes(2**21)
"""So large that it is hashed in a thread."""
CALLERS = 6
STUCK_SERVER = """
import threading
import numpy as np
from cxr_server.__main__ import main
from cxr_server.inference.engines.registry import ENGINES, EngineSpec

class Stuck:
    name, device, precision, max_batch, max_in_flight = "stuck", "abacus", "float32", 1, 1
    saliency_methods = ("SCORE_CAM",)

    def evidence(self, batch_nchw):
        return np.ones((len(batch_nchw), 6, 7, 7), np.float32)

    def saliency(self, image_chw, row, method, check):
        print("a map has begun", flush=True)
        threading.Event().wait()

    def close(self): ...

ENGINES["stuck"] = EngineSpec(
    name="stuck", packages=(), requirement="", bundle_file="weights.safetensors",
    devices=("abacus",), open=lambda *_: Stuck(),
)
raise SystemExit(main())
"""


@asynccontextmanager
async def serving(*flags: str) -> AsyncIterator[tuple[App, ChestXrayServiceStub]]:
    app = App(parse(["--listen", "127.0.0.1:0", *flags], env={}))
    await app.start()
    try:
        await app.load()
        async with grpc.aio.insecure_channel(f"127.0.0.1:{app.port}") as channel:
            yield app, ChestXrayServiceStub(channel)
    finally:
        await app.drain()


async def until(condition: Callable[[], bool]) -> None:
    async with asyncio.timeout(60):
        while not condition():
            await asyncio.sleep(0.005)


async def test_abandoned_explanations_draw_no_further_map_and_delay_no_predict(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    drawn, gate, real = [], threading.Event(), Renderer.render

    def render(*arguments: object, **named: object) -> bytes:
        drawn.append(1)
        assert gate.wait(60)
        return real(*arguments, **named)  # type: ignore[arg-type]

    async with serving("--decode-threads", "1", "--decode-processes", "0") as (app, stub):
        described = await stub.DescribeModel(pb.DescribeModelRequest())
        labels = [finding.label for finding in described.findings]
        monkeypatch.setattr(Renderer, "render", render)
        request = pb.ExplainRequest(image=SMALL, labels=labels)
        calls = [stub.Explain(request) for _ in range(CALLERS)]
        await until(lambda: bool(drawn) and app.admission.calls == CALLERS)
        for call in calls:
            call.cancel()
        await until(lambda: app.admission.calls == 0)
        # The first map is still being drawn, in the only thread for that.
        assert (await stub.Predict(pb.PredictRequest(image=LARGE), timeout=60)).findings
        assert len(drawn) == 1
        gate.set()
        whole = pb.RenderOptions(frame=pb.RENDER_FRAME_ORIGINAL)
        last = pb.ExplainRequest(image=LARGE, labels=labels[:1], render=whole)
        assert (await stub.Explain(last, timeout=60)).explanations[0].heatmap
    assert len(drawn) == 2  # the first one, and the last caller's


async def test_an_image_whose_caller_has_gone_is_not_hashed(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    hashed, gate, real = [], threading.Event(), EvidenceCache.key_of

    def key_of(cache: EvidenceCache, image: bytes) -> bytes:
        if image == LARGE:
            hashed.append(1)
            assert gate.wait(60)
        return real(cache, image)

    async with serving("--decode-threads", "1", "--decode-processes", "0") as (app, stub):
        monkeypatch.setattr(EvidenceCache, "key_of", key_of)
        calls = [stub.Predict(pb.PredictRequest(image=LARGE)) for _ in range(CALLERS)]
        await until(lambda: bool(hashed) and app.admission.calls == CALLERS)
        for call in calls:
            call.cancel()
        await until(lambda: app.admission.calls == 0)
        gate.set()  # for the one that has begun, in the only thread that decodes
        assert (await stub.Predict(pb.PredictRequest(image=SMALL), timeout=60)).findings
    assert len(hashed) == 1


@pytest.mark.slow
async def test_a_shutdown_does_not_wait_for_a_map_that_runs_for_ever(unprobed_bundle: Path) -> None:
    flags = ("--engine", "stuck", "--grace-s", "0.5")
    program = (sys.executable, "-c", STUCK_SERVER)
    with ServerProcess(*flags, model=str(unprobed_bundle), program=program) as server:
        async with grpc.aio.insecure_channel(server.address) as channel:
            stub = ChestXrayServiceStub(channel)
            request = pb.ExplainRequest(image=SMALL, method=pb.EXPLANATION_METHOD_SCORE_CAM)
            call = stub.Explain(request)
            assert server.process.stdout
            begun = await asyncio.to_thread(server.process.stdout.readline)
            assert begun == "a map has begun\n"
            assert await asyncio.to_thread(server.stop, timeout_s=60) == 0
            with pytest.raises(grpc.aio.AioRpcError):
                await call
        assert "Traceback" not in server.log
