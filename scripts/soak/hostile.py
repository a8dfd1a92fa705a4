"""Hostile callers: explanations that nobody waits for, and answers that nobody reads."""

import asyncio
import random
import time
from collections import Counter
from io import BytesIO
from typing import Any

import grpc
import numpy as np
from PIL import Image
from scripts.soak.callers import Callers

from cxr.v1 import chest_xray_pb2 as pb
from cxr.v1.chest_xray_pb2_grpc import ChestXrayServiceStub

EXPLAIN = "/cxr.v1.ChestXrayService/Explain"
READERS, ABANDONERS = 16, 6
IMAGE_SIDE_PX = 2048
EXPECTED_ENDS = {"RESOURCE_EXHAUSTED", "DEADLINE_EXCEEDED"}


class HostileCallers:
    """Callers that ask for many large pictures, each on a connection of its own."""

    def __init__(self, callers: Callers) -> None:
        self.ends: Counter[str] = Counter()
        self.failed: list[str] = []
        self._callers = callers
        self._chance = random.Random(2027)

    async def run(self, seconds: float) -> None:
        """Call in closed loops for a time."""
        until = time.monotonic() + seconds
        channel = self._callers.channels[0]
        stub = ChestXrayServiceStub(channel)  # type: ignore[no-untyped-call]
        described = await stub.DescribeModel(pb.DescribeModelRequest())
        labels = [finding.label for finding in described.findings]
        most = described.limits.max_drawn_pixels // IMAGE_SIDE_PX**2
        request = pb.ExplainRequest(
            image=_noise(),
            labels=labels[:most],
            render=pb.RenderOptions(frame=pb.RENDER_FRAME_ORIGINAL, max_side_px=IMAGE_SIDE_PX),
        )
        message = request.SerializeToString()
        await asyncio.gather(
            *(self._loop(self._unread, message, until) for _ in range(READERS)),
            *(self._loop(self._abandoned, message, until) for _ in range(ABANDONERS)),
        )

    async def _loop(self, call: Any, message: bytes, until: float) -> None:
        options = (("grpc.use_local_subchannel_pool", 1),)
        async with grpc.aio.insecure_channel(self._callers.address, options=options) as channel:
            while time.monotonic() < until:
                try:
                    await call(channel, message, until)
                except grpc.aio.AioRpcError as error:
                    name = error.code().name
                    self.ends[f"{call.__name__.strip('_')}: {name}"] += 1
                    if name not in EXPECTED_ENDS:
                        self.failed.append(f"{call.__name__}: {name}: {error.details()}")
                    await asyncio.sleep(self._chance.uniform(0.1, 0.5))

    async def _unread(self, channel: Any, message: bytes, until: float) -> None:
        """Ask, and do not read the answer for some seconds."""
        call = channel.unary_stream(EXPLAIN)(message)  # one answer, read only when asked for
        await asyncio.wait({asyncio.ensure_future(call.code())}, timeout=self._patience_s(until))
        if call.done():
            raise _error(call, await call.code(), await call.details())
        call.cancel()
        self.ends["unread: held"] += 1

    async def _abandoned(self, channel: Any, message: bytes, until: float) -> None:
        """Ask with a deadline that passes while the pictures are drawn, or cancel then."""
        call = channel.unary_unary(EXPLAIN)(message, timeout=self._chance.uniform(0.5, 3))
        if self._chance.random() < 0.5:
            asyncio.get_running_loop().call_later(self._chance.uniform(0.2, 2), call.cancel)
        try:
            await call
        except asyncio.CancelledError:
            self.ends["abandoned: cancelled"] += 1
            return
        self.ends["abandoned: answered"] += 1

    def _patience_s(self, until: float) -> float:
        return min(self._chance.uniform(3, 15), max(0.1, until - time.monotonic()))


def _error(call: Any, code: grpc.StatusCode, details: str) -> grpc.aio.AioRpcError:
    return grpc.aio.AioRpcError(code, grpc.aio.Metadata(), grpc.aio.Metadata(), details)


def _noise() -> bytes:
    pixels = np.random.default_rng(7).integers(0, 256, (IMAGE_SIDE_PX,) * 2, dtype=np.uint8)
    file = BytesIO()
    Image.fromarray(pixels).save(file, "PNG", compress_level=1)
    return file.getvalue()
