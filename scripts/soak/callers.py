"""Callers: every kind of call at random moments, each outcome checked and counted."""

import asyncio
import random
import time
from collections import Counter
from collections.abc import AsyncIterator
from dataclasses import dataclass, field
from io import BytesIO
from typing import Any

import grpc
import numpy as np
from PIL import Image

from cxr.v1 import chest_xray_pb2 as pb
from cxr.v1.chest_xray_pb2_grpc import ChestXrayServiceStub

PREDICT = "/cxr.v1.ChestXrayService/Predict"
KINDS = {"good": 0.70, "bad": 0.10, "slow": 0.08, "cancelled": 0.07, "hasty": 0.05}
"""Share of each kind of caller. A hasty caller has a deadline of HASTY_S."""
GOOD_DEADLINE_S, HASTY_S = 20.0, 0.05
IMAGE_COUNT, IMAGE_SIDE_PX = 24, 512
CHANNELS = 6
TOLERANCE = 1e-4
"""Largest difference of a probability between two results for the same image: the engine's streams
add in different orders."""


@dataclass
class Tally:
    """Outcomes of the calls."""

    offered: Counter[str] = field(default_factory=Counter)
    ends: Counter[str] = field(default_factory=Counter)
    right: list[float] = field(default_factory=list)
    """Time of each correct result, on the clock of `time.monotonic`."""
    mixed_up: int = 0
    failed: list[str] = field(default_factory=list)
    refusal_ms: list[float] = field(default_factory=list)
    answered_ids: set[str] = field(default_factory=set)
    offered_ids: set[str] = field(default_factory=set)
    given_up_ids: set[str] = field(default_factory=set)
    """Calls cancelled by the caller, or by its deadline."""


class Callers:
    """All callers of a run: they share channels, images and a tally."""

    def __init__(self, address: str) -> None:
        self.address = address
        self.tally = Tally()
        self.chance = random.Random(2026)
        self.messages = [
            pb.PredictRequest(image=film(seed), top_k=100).SerializeToString()
            for seed in range(IMAGE_COUNT)
        ]
        self.expected: list[np.ndarray[Any, Any]] = []
        self.broken = [message[: len(message) * 2 // 3] for message in self.messages]
        self.draining = False
        self._numbers = 0

    async def open(self) -> None:
        """Connect, and get the expected result of each image, one call at a time."""
        options = (("grpc.use_local_subchannel_pool", 1),)
        self.channels = [
            grpc.aio.insecure_channel(self.address, options=options) for _ in range(CHANNELS)
        ]
        channel: Any = self.channels[0]
        predict = channel.unary_unary(PREDICT)
        self.expected = [probabilities(await predict(message)) for message in self.messages]
        apart = min(
            float(np.abs(one - other).max())
            for number, one in enumerate(self.expected)
            for other in self.expected[:number]
        )
        if apart < 3 * TOLERANCE:
            raise SystemExit(f"the model gives the same result for different images: {apart}")

    async def is_served(self) -> bool:
        """Whether the server says that it serves."""
        stub = ChestXrayServiceStub(self.channels[0])  # type: ignore[no-untyped-call]
        health = await stub.Health(pb.HealthRequest(), timeout=30)
        return bool(health.status == pb.SERVING_STATUS_SERVING)

    async def close(self) -> None:
        """Close the channels."""
        for channel in self.channels:
            await channel.close()

    async def saturate(self, seconds: float, callers: int = 8) -> float:
        """Return correct results per second of a few callers that call in a closed loop."""
        until = time.monotonic() + seconds

        async def caller() -> None:
            while time.monotonic() < until:
                await self.call("good")

        before, started = len(self.tally.right), time.monotonic()
        await asyncio.gather(*(caller() for _ in range(callers)))
        return (len(self.tally.right) - before) / (time.monotonic() - started)

    async def offer(self, per_s: float, seconds: float) -> set[asyncio.Task[None]]:
        """Call at random moments (open loop). Returns the calls that have not ended."""
        due, until = time.monotonic(), time.monotonic() + seconds
        pending: set[asyncio.Task[None]] = set()
        while due < until:
            await asyncio.sleep(max(0.0, due - time.monotonic()))
            kind = self.chance.choices(list(KINDS), list(KINDS.values()))[0]
            task = asyncio.create_task(self.call(kind))
            pending.add(task)
            task.add_done_callback(pending.discard)
            due += self.chance.expovariate(per_s)
        return pending

    async def call(self, kind: str) -> None:
        """Make one call and check its outcome."""
        self._numbers += 1
        request_id, which = f"soak-{self._numbers}", self.chance.randrange(IMAGE_COUNT)
        message = self.broken[which] if kind == "bad" else self.messages[which]
        metadata = [("x-request-id", request_id), ("x-request-bytes", str(len(message)))]
        timeout_s = HASTY_S if kind == "hasty" else GOOD_DEADLINE_S
        # Methods on bytes, without message types: the stubs of grpc do not cover them.
        channel: Any = self.chance.choice(self.channels)
        self.tally.offered[kind] += 1
        self.tally.offered_ids.add(request_id)
        started = time.monotonic()
        if kind == "slow":
            requests = late(message, self.chance.uniform(0.2, 2.0))
            call = channel.stream_unary(PREDICT)(requests, timeout=timeout_s, metadata=metadata)
        else:
            call = channel.unary_unary(PREDICT)(message, timeout=timeout_s, metadata=metadata)
        if kind == "cancelled":
            asyncio.get_running_loop().call_later(self.chance.uniform(0, 1), call.cancel)
        try:
            self._answered(await call, kind, which, request_id)
        except grpc.aio.AioRpcError as error:
            self._refused(error, kind, request_id, 1000 * (time.monotonic() - started))
        except asyncio.CancelledError:
            self.tally.ends["cancelled"] += 1
            self.tally.given_up_ids.add(request_id)

    def _answered(self, reply: bytes, kind: str, which: int, request_id: str) -> None:
        self.tally.ends["answered"] += 1
        self.tally.answered_ids.add(request_id)
        if kind == "bad":
            self.tally.failed.append("a broken image was answered")
        elif np.abs(probabilities(reply) - self.expected[which]).max() > TOLERANCE:
            self.tally.mixed_up += 1
        else:
            self.tally.right.append(time.monotonic())

    def _refused(
        self, error: grpc.aio.AioRpcError, kind: str, request_id: str, took_ms: float
    ) -> None:
        name = error.code().name
        if name == "RESOURCE_EXHAUSTED":
            self.tally.ends["refused"] += 1
            self.tally.refusal_ms.append(took_ms)
        elif name == "DEADLINE_EXCEEDED":
            self.tally.ends["expired"] += 1
            self.tally.given_up_ids.add(request_id)
        elif kind == "bad" and name == "INVALID_ARGUMENT":
            self.tally.ends["invalid image"] += 1
        # `lost_calls` checks in the server's log whether one of these was accepted. grpc's client
        # reports INTERNAL for a stream that ended while it was writing.
        elif self.draining and name in ("UNAVAILABLE", "CANCELLED", "INTERNAL"):
            self.tally.ends["refused while draining"] += 1
        else:
            self.tally.ends["failed"] += 1
            when = "while draining" if self.draining else f"after {took_ms:.0f} ms"
            self.tally.failed.append(f"{kind} {request_id} {when}: {name}: {error.details()}")


def film(seed: int) -> bytes:
    """Return a PNG that differs from those of other seeds: a dark blob on a bright field."""
    chance = np.random.default_rng(seed)
    rows, columns = np.mgrid[0:IMAGE_SIDE_PX, 0:IMAGE_SIDE_PX] / IMAGE_SIDE_PX
    (y, x), size = chance.uniform(0.2, 0.8, 2), chance.uniform(0.05, 0.3)
    blob = np.exp(-((rows - y) ** 2 + (columns - x) ** 2) / size**2)
    noise = chance.normal(0, 5, rows.shape)
    pixels = np.clip(chance.uniform(90, 220) * (1 - 0.8 * blob) + noise, 0, 255)
    file = BytesIO()
    Image.fromarray(pixels.astype(np.uint8)).save(file, "PNG", compress_level=1)
    return file.getvalue()


def probabilities(reply: bytes) -> np.ndarray[Any, Any]:
    """Return the probabilities of a serialised PredictResponse, sorted by label."""
    findings = pb.PredictResponse.FromString(reply).findings
    return np.array([f.probability for f in sorted(findings, key=lambda f: f.label)])


async def late(message: bytes, delay_s: float) -> AsyncIterator[bytes]:
    """Yield the message after a delay: a slow upload."""
    await asyncio.sleep(delay_s)
    yield message
