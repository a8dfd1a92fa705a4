"""A swap whose caller goes away, that meets a failed engine or a shutdown: nothing is half done."""

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import grpc
import pytest

from cxr.v1 import admin_pb2
from cxr.v1 import chest_xray_pb2 as pb
from cxr.v1.admin_pb2_grpc import AdminServiceStub
from cxr.v1.chest_xray_pb2_grpc import ChestXrayServiceStub
from cxr_server.app import App
from cxr_server.lifecycle import Phase
from cxr_server.settings import parse
from images import chest_like, png
from trust.fragile_engines import Engines
from trust.outcomes import reason_of

PREDICT = pb.PredictRequest(image=png(chest_like(64, 64)))
SWAP = admin_pb2.SwapModelRequest(name="phantom", bundle="phantom")


@asynccontextmanager
async def serving(folder: Path) -> AsyncIterator[tuple[App, Any, Any]]:
    """An app, and stubs on its service and admin ports."""
    admin = f"unix:{folder}/admin"
    flags = ("--listen", "127.0.0.1:0", "--admin-listen", admin, "--engine", "openvino")
    app = App(parse([*flags, "--decode-processes", "0", "--cache-entries", "0"], env={}))
    await app.start()
    await app.load()
    async with (
        grpc.aio.insecure_channel(f"127.0.0.1:{app.port}") as channel,
        grpc.aio.insecure_channel(admin) as operator,
    ):
        yield (
            app,
            ChestXrayServiceStub(channel),  # type: ignore[no-untyped-call]
            AdminServiceStub(operator),  # type: ignore[no-untyped-call]
        )
    await app.drain()


async def until(condition: Any) -> None:
    async with asyncio.timeout(60):
        while not condition():
            await asyncio.sleep(0.01)


async def test_a_swap_whose_caller_goes_away_closes_the_old_model_after_its_last_call(
    engines: Engines, tmp_path: Path
) -> None:
    async with serving(tmp_path) as (app, stub, admin):
        old = engines.made[0]
        old.free.clear()
        old.called.clear()
        held = asyncio.ensure_future(stub.Predict(PREDICT))
        await asyncio.to_thread(old.called.wait, 60)
        served = app.service.models.get("")
        swap = admin.SwapModel(SWAP)
        await until(lambda: app.service.models.get("") is not served)
        swap.cancel()
        second = admin.SwapModel(SWAP)  # waits for the calls of the first model, too
        assert (await stub.Predict(PREDICT)).findings
        assert not old.closed
        assert len(engines.made) == 2
        old.free.set()
        assert (await held).findings
        await second
        assert [engine.closed for engine in engines.made] == [True, True, False]
        assert (await stub.Predict(PREDICT)).findings


async def test_a_swap_whose_caller_goes_away_while_it_loads_changes_nothing(
    engines: Engines, tmp_path: Path
) -> None:
    async with serving(tmp_path) as (app, stub, admin):
        served = app.service.models.get("")
        engines.can_be_made.clear()
        swap = admin.SwapModel(SWAP)
        await until(lambda: engines.asked == 2)
        swap.cancel()
        engines.can_be_made.set()
        await until(lambda: len(engines.made) == 2 and engines.made[1].closed)
        assert app.service.models.get("") is served
        assert (await stub.Predict(PREDICT)).findings
        await admin.SwapModel(SWAP)


async def test_swapping_a_model_whose_engine_is_being_replaced_ends_the_outage(
    engines: Engines, tmp_path: Path
) -> None:
    async with serving(tmp_path) as (app, stub, admin):
        engines.made[0].broken, engines.broken = True, True
        call = stub.Predict(PREDICT)
        call_failed = asyncio.ensure_future(call)
        await until(lambda: app.lifecycle.phase is Phase.FAILED)
        call.cancel()
        await asyncio.wait({call_failed})
        engines.broken = False
        await admin.SwapModel(SWAP)
        assert app.lifecycle.phase is Phase.SERVING
        assert (await stub.Predict(PREDICT)).findings
        # All but the one that answers are closed: the one that the swap has overtaken, too.
        await until(lambda: sum(not engine.closed for engine in engines.made) == 1)


async def test_no_model_is_swapped_while_the_server_shuts_down(
    engines: Engines, tmp_path: Path
) -> None:
    async with serving(tmp_path) as (app, _, admin):
        engines.can_be_made.clear()
        loading = admin.SwapModel(SWAP)
        await until(lambda: engines.asked == 2)
        app.lifecycle.enter(Phase.LAME_DUCK)
        engines.can_be_made.set()
        for swap in (loading, admin.SwapModel(SWAP)):
            with pytest.raises(grpc.aio.AioRpcError) as caught:
                await swap
            assert reason_of(caught.value) == "DRAINING"
        assert [engine.closed for engine in engines.made] == [False, True]
