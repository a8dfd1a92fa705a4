"""Every reason of the error table can be provoked over the wire, with its status."""

import asyncio
import errno
import os
import re
import signal
import struct
import zlib
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any
from unittest.mock import patch

import grpc
import numpy as np
import pytest

import handmade
from cxr.v1 import chest_xray_pb2 as pb
from cxr.v1.admin_pb2 import SwapModelRequest
from cxr.v1.admin_pb2_grpc import AdminServiceStub
from cxr.v1.chest_xray_pb2_grpc import ChestXrayServiceStub
from cxr_server.access import new_token
from cxr_server.app import App
from cxr_server.imaging.codecs import CODECS
from cxr_server.lifecycle import Phase
from cxr_server.settings import parse
from hostile_codecs import HostileCodec, hostile
from images import chest_like, png
from readme_tables import reasons
from serving import ServerProcess
from trust.outcomes import reason_of

MIB = 2**20
PREDICT = "/cxr.v1.ChestXrayService/Predict"


# --- reasons that a request causes, on a server that is well ---


def png_of_size(width_px: int, height_px: int) -> bytes:
    """A PNG whose header claims this size; nothing else of it is read."""
    body = b"IHDR" + struct.pack(">IIBBBBB", width_px, height_px, 8, 0, 0, 0, 0)
    chunk = struct.pack(">I", 13) + body + struct.pack(">I", zlib.crc32(body))
    return b"\x89PNG\r\n\x1a\n" + chunk + png()[33:]


REQUESTS: dict[str, pb.PredictRequest | pb.ExplainRequest] = {
    "IMAGE_EMPTY": pb.PredictRequest(),
    "IMAGE_UNREADABLE": pb.PredictRequest(image=png()[:-30]),
    "IMAGE_FORMAT_UNSUPPORTED": pb.PredictRequest(image=b"GIF89a" + bytes(40)),
    "IMAGE_TOO_SMALL": pb.PredictRequest(image=png(np.zeros((8, 300), np.uint8))),
    "IMAGE_TOO_MANY_PIXELS": pb.PredictRequest(image=png_of_size(16_000, 16_000)),
    "IMAGE_IS_HEATMAP": pb.PredictRequest(
        image=handmade.png_of(np.zeros((64, 64)), after=[(b"tEXt", b"cxr-serve\0{}")])
    ),
    "IMAGE_REFUSED": pb.PredictRequest(
        image=png(np.full((256, 256), 128, np.uint8)), strict_input=True
    ),
    "UNKNOWN_MODEL": pb.PredictRequest(image=png(), model="nosuch"),
    "UNKNOWN_LABEL": pb.ExplainRequest(image=png(), labels=["Efusion"]),
    "INVALID_FIELD": pb.PredictRequest(image=png(), top_k=0),
    "METHOD_UNAVAILABLE": pb.ExplainRequest(image=png(), method="EXPLANATION_METHOD_LAYER_CAM"),
}


# --- reasons that the server's state causes ---


async def nothing() -> AsyncIterator[bytes]:
    """An upload that never comes."""
    await asyncio.Event().wait()
    yield b""


def predict(channel: grpc.aio.Channel, **metadata: str) -> Any:
    stub = ChestXrayServiceStub(channel)
    pairs = [(key.replace("_", "-"), value) for key, value in metadata.items()]
    return stub.Predict(pb.PredictRequest(image=png()), metadata=pairs)


@asynccontextmanager
async def stalled(app: App, channel: grpc.aio.Channel, **metadata: str) -> AsyncIterator[None]:
    """Hold one admitted call."""
    pairs = [(key.replace("_", "-"), value) for key, value in metadata.items()]
    call = channel.stream_unary(PREDICT)(nothing(), metadata=pairs)
    while not app.admission.calls:
        await asyncio.sleep(0.01)
    yield
    call.cancel()


async def queue_full(app: App, channel: grpc.aio.Channel) -> None:
    app.lifecycle.enter(Phase.SERVING)
    async with stalled(app, channel):
        await predict(channel)


async def memory_full(app: App, channel: grpc.aio.Channel) -> None:
    app.lifecycle.enter(Phase.SERVING)
    async with stalled(app, channel, x_request_bytes=str(MIB)):
        await predict(channel, x_request_bytes=str(MIB))


async def explanation_too_large(app: App, channel: grpc.aio.Channel) -> None:
    await app.load()
    model = app.service.models.get("")
    assert model
    render = pb.RenderOptions(frame=pb.RENDER_FRAME_ORIGINAL, max_side_px=2048)
    image, labels = png(chest_like(1500, 1500)), model.manifest.labels
    explain = ChestXrayServiceStub(channel).Explain
    await explain(pb.ExplainRequest(image=image, labels=labels, render=render))


async def decoder_failed(app: App, channel: grpc.aio.Channel) -> None:
    with patch.dict(CODECS, {"HOSTILE": HostileCodec()}):
        await app.load()
    stub = ChestXrayServiceStub(channel)
    await stub.Predict(pb.PredictRequest(image=hostile("abort")))


async def decoder_unavailable(app: App, channel: grpc.aio.Channel) -> None:
    await app.load()
    model = app.service.models.get("")
    assert model
    for pid in model.resources.processes.pids:
        os.kill(pid, signal.SIGKILL)
    with patch.object(os, "memfd_create", side_effect=OSError(errno.EMFILE, "no descriptors")):
        await predict(channel)


async def swap_failed(app: App, channel: grpc.aio.Channel) -> None:
    await app.load()
    async with grpc.aio.insecure_channel("unix:admin.sock") as admin:
        swap = AdminServiceStub(admin).SwapModel  # type: ignore[no-untyped-call]
        await swap(SwapModelRequest(name="phantom", bundle="nosuch"))


async def model_loading(app: App, channel: grpc.aio.Channel) -> None:
    await predict(channel)


async def draining(app: App, channel: grpc.aio.Channel) -> None:
    app.lifecycle.enter(Phase.DRAINING)
    await predict(channel)


async def deadline_expired(app: App, channel: grpc.aio.Channel) -> None:
    app.lifecycle.enter(Phase.SERVING)
    await channel.stream_unary(PREDICT)(nothing())


async def unauthenticated(app: App, channel: grpc.aio.Channel) -> None:
    await predict(channel, authorization="Bearer wrong")


Provocation = Callable[[App, grpc.aio.Channel], Awaitable[None]]
STATES: dict[str, tuple[Provocation, tuple[str, ...]]] = {
    "QUEUE_FULL": (queue_full, ("--max-in-flight", "1")),
    "MEMORY_FULL": (memory_full, ("--max-in-flight-mib", "1")),
    "EXPLANATION_TOO_LARGE": (explanation_too_large, ("--memory-budget-mib", "768")),
    "IMAGE_DECODER_FAILED": (decoder_failed, ("--decode-processes", "1")),
    "DECODER_UNAVAILABLE": (decoder_unavailable, ("--decode-processes", "1")),
    "SWAP_FAILED": (swap_failed, ("--admin-listen", "unix:admin.sock")),
    "MODEL_LOADING": (model_loading, ()),
    "DRAINING": (draining, ()),
    "DEADLINE_EXPIRED": (deadline_expired, ("--upload-timeout-s", "0.1")),
    "UNAUTHENTICATED": (unauthenticated, ("--tokens-file", "tokens")),
}


def test_every_reason_has_its_provocation() -> None:
    listed = {kind.reason for kind in reasons()} - {"INTERNAL"}
    assert listed == {*REQUESTS, *STATES}


def check(error: grpc.RpcError, reason: str) -> None:
    status = {kind.reason: kind.status for kind in reasons()}[reason]
    assert (reason_of(error), error.code().name) == (reason, status)
    assert dict(error.trailing_metadata())["x-error-reason"] == reason
    # A sentence; the name of a field, with which one may begin, keeps its lower case.
    assert re.match(r"[A-Z]|[a-z_]+ (must|may|is|needs) ", error.details())
    assert error.details().endswith(".")


@pytest.mark.parametrize("reason", REQUESTS)
def test_a_request_ends_with_its_reason(phantom_server: ServerProcess, reason: str) -> None:
    request = REQUESTS[reason]
    with grpc.insecure_channel(phantom_server.address) as channel:
        stub = ChestXrayServiceStub(channel)
        call = stub.Predict if isinstance(request, pb.PredictRequest) else stub.Explain
        with pytest.raises(grpc.RpcError) as caught:
            call(request, timeout=60)
    check(caught.value, reason)


@pytest.mark.parametrize("reason", STATES)
async def test_a_state_of_the_server_ends_calls_with_its_reason(
    reason: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    provoke, flags = STATES[reason]
    monkeypatch.chdir(tmp_path)
    Path("tokens").write_text(new_token("somebody")[1])
    app = App(parse(["--listen", "127.0.0.1:0", "--grace-s", "0", *flags], env={}))
    await app.start()
    async with grpc.aio.insecure_channel(f"127.0.0.1:{app.port}") as channel:
        with pytest.raises(grpc.aio.AioRpcError) as caught:
            await provoke(app, channel)
    await app.drain()
    check(caught.value, reason)


async def test_a_full_server_says_what_it_bounds() -> None:
    app = App(parse(["--listen", "127.0.0.1:0", "--max-in-flight", "1"], env={}))
    await app.start()
    async with grpc.aio.insecure_channel(f"127.0.0.1:{app.port}") as channel:
        with pytest.raises(grpc.aio.AioRpcError) as caught:
            await queue_full(app, channel)
        assert caught.value.details() == "All 1 slots for calls in flight are taken."
    await app.drain()
