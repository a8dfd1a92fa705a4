"""Soak: four times the load that a server can bear, with every kind of caller, for minutes.

    start -> warm up -> saturate (what can it bear?) -> overload -> SIGTERM under load -> report

`make soak` runs it on a full-size DenseNet-121 of random weights. SOAK_SECONDS (300) is the
time under load. The exit status says whether the claims hold; `--untimed` leaves out those
that depend on the machine. Callers and server share the machine, so what callers cost is
taken from the server.
"""

import argparse
import asyncio
import json
import math
import os
import random
import re
import signal
import statistics
import subprocess
import sys
import tempfile
import time
from collections import Counter
from collections.abc import AsyncIterator, Iterator
from contextlib import suppress
from dataclasses import dataclass, field
from io import BytesIO
from pathlib import Path
from typing import Any

import grpc
import numpy as np
from PIL import Image

from cxr.v1 import chest_xray_pb2 as pb
from cxr.v1.chest_xray_pb2_grpc import ChestXrayServiceStub

PREDICT = "/cxr.v1.ChestXrayService/Predict"
OVERLOAD = 4.0
KINDS = {"good": 0.70, "bad": 0.10, "slow": 0.08, "cancelled": 0.07, "hasty": 0.05}
"""Share of each kind of caller: a hasty one has a deadline of HASTY_S."""
GOOD_DEADLINE_S, HASTY_S = 20.0, 0.05
IMAGE_COUNT, IMAGE_SIDE_PX = 24, 512
CHANNELS = 6
TOLERANCE = 1e-4
"""Most difference of a probability between two answers for one image: the engine's streams
add up in different orders."""
MIN_GOODPUT_SHARE, MAX_REFUSAL_MS, MAX_HEALTH_P99_MS, MAX_GROWTH = 0.9, 50.0, 100.0, 0.10

BUILD_MODEL = """
import sys, pathlib, random_models as made
made.write_random_bundle(
    pathlib.Path(sys.argv[1]), made.random_densenet(made.FULL, len(made.FULL_LABELS)),
    made.FULL_LABELS,
)
"""


@dataclass
class Tally:
    """What became of the calls."""

    offered: Counter[str] = field(default_factory=Counter)
    ends: Counter[str] = field(default_factory=Counter)
    right: list[float] = field(default_factory=list)
    """When each right answer came, on the clock of `time.monotonic`."""
    mixed_up: int = 0
    failed: list[str] = field(default_factory=list)
    refusal_ms: list[float] = field(default_factory=list)
    answered_ids: set[str] = field(default_factory=set)
    offered_ids: set[str] = field(default_factory=set)
    given_up_ids: set[str] = field(default_factory=set)
    """Calls that their own caller ended."""


class Server:
    """A server process, its address, memory and log."""

    def __init__(self, model: str, log: Path) -> None:
        self.log = log
        flags = ["--model", model, "--listen", "127.0.0.1:0", "--cache-entries", "0"]
        with log.open("wb") as file:
            self.process = subprocess.Popen(
                [sys.executable, "-m", "cxr_server", "serve", *flags, "--log-format", "json"],
                stdout=subprocess.PIPE,
                stderr=file,
                text=True,
            )
        assert self.process.stdout
        banner = self.process.stdout.readline()
        if not banner:
            raise SystemExit(f"the server did not start: {log.read_text()}")
        print(banner.strip())
        self.address = banner.split(" on ")[1].split()[0]

    def rss_mib(self) -> float:
        """Resident memory."""
        status = Path(f"/proc/{self.process.pid}/status").read_text()
        found = re.search(r"VmRSS:\s+(\d+)", status)
        return int(found[1]) / 1024 if found else math.nan

    def calls(self) -> Iterator[dict[str, Any]]:
        """The log's lines that tell of calls."""
        for line in self.log.read_text().splitlines():
            with suppress(ValueError):
                event = json.loads(line)
                if event.get("event") == "call":
                    yield event


class Soak:
    """The callers: they share some channels, a set of images and a tally."""

    def __init__(self, server: Server) -> None:
        self.server = server
        self.tally = Tally()
        self.chance = random.Random(2026)
        self.messages = [
            pb.PredictRequest(image=film(seed), top_k=100).SerializeToString()
            for seed in range(IMAGE_COUNT)
        ]
        self.expected: list[np.ndarray[Any, Any]] = []
        self.broken = [message[: len(message) * 2 // 3] for message in self.messages]
        self.leaving = False
        self._numbers = 0

    async def open(self) -> None:
        """Connect, and ask for the right answers, one at a time."""
        options = (("grpc.use_local_subchannel_pool", 1),)
        self.channels = [
            grpc.aio.insecure_channel(self.server.address, options=options) for _ in range(CHANNELS)
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
            raise SystemExit(f"the model cannot tell the images apart: {apart}")

    async def close(self) -> None:
        """Hang up."""
        for channel in self.channels:
            await channel.close()

    async def saturate(self, seconds: float, callers: int = 8) -> float:
        """Right answers a second with a few callers who ask again and again."""
        until = time.monotonic() + seconds

        async def caller() -> None:
            while time.monotonic() < until:
                await self.call("good")

        before, started = len(self.tally.right), time.monotonic()
        await asyncio.gather(*(caller() for _ in range(callers)))
        return (len(self.tally.right) - before) / (time.monotonic() - started)

    async def offer(self, per_s: float, seconds: float) -> set[asyncio.Task[None]]:
        """Call at random moments, whatever becomes of the calls. Returns those under way."""
        due, until = time.monotonic(), time.monotonic() + seconds
        under_way: set[asyncio.Task[None]] = set()
        while due < until:
            await asyncio.sleep(max(0.0, due - time.monotonic()))
            kind = self.chance.choices(list(KINDS), list(KINDS.values()))[0]
            task = asyncio.create_task(self.call(kind))
            under_way.add(task)
            task.add_done_callback(under_way.discard)
            due += self.chance.expovariate(per_s)
        return under_way

    async def call(self, kind: str) -> None:
        """Make one call and judge how it ends."""
        self._numbers += 1
        request_id, which = f"soak-{self._numbers}", self.chance.randrange(IMAGE_COUNT)
        message = self.broken[which] if kind == "bad" else self.messages[which]
        metadata = [("x-request-id", request_id), ("x-request-bytes", str(len(message)))]
        timeout_s = HASTY_S if kind == "hasty" else GOOD_DEADLINE_S
        # Raw methods: their stubs cannot tell the types of messages.
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
            self.tally.ends["found broken"] += 1
        # Whether one of these was accepted, and so lost, the server's log tells. INTERNAL is the
        # word of grpc's own client for a stream that ended while it was being written.
        elif self.leaving and name in ("UNAVAILABLE", "CANCELLED", "INTERNAL"):
            self.tally.ends["turned away at the end"] += 1
        else:
            self.tally.ends["failed"] += 1
            when = "at the end" if self.leaving else f"after {took_ms:.0f} ms"
            self.tally.failed.append(f"{kind} {request_id} {when}: {name}: {error.details()}")


def film(seed: int) -> bytes:
    """A PNG unlike those of other seeds: a bright field with a dark blob somewhere."""
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
    """The probabilities of a reply, by label."""
    findings = pb.PredictResponse.FromString(reply).findings
    return np.array([f.probability for f in sorted(findings, key=lambda f: f.label)])


async def weigh(server: Server, rss_mib: list[float]) -> None:
    """Note the server's memory, four times a second."""
    while True:
        rss_mib.append(server.rss_mib())
        await asyncio.sleep(0.25)


async def late(message: bytes, delay_s: float) -> AsyncIterator[bytes]:
    """An upload that takes its time."""
    await asyncio.sleep(delay_s)
    yield message


def probe(address: str) -> None:
    """Ask for the health ten times a second until stdin ends; print the times in ms."""
    times: list[float] = []
    os.set_blocking(0, False)
    with grpc.insecure_channel(address) as channel:
        stub = ChestXrayServiceStub(channel)  # type: ignore[no-untyped-call]
        while sys.stdin.buffer.read(1) != b"":
            started = time.monotonic()
            stub.Health(pb.HealthRequest(), timeout=30)
            times.append(1000 * (time.monotonic() - started))
            time.sleep(0.1)
    json.dump(times, sys.stdout)


async def run(model: str, seconds: float, untimed: bool) -> int:
    """Soak one server. Returns the exit status."""
    log = Path(tempfile.mkstemp(prefix="cxr-soak-", suffix=".log")[1])
    server = Server(model, log)
    soak = Soak(server)
    await soak.open()
    await soak.saturate(max(2.0, seconds / 20))  # warm up
    capacity = await soak.saturate(max(3.0, seconds / 10))
    print(f"saturated: {capacity:.1f} right answers/s")
    prober = subprocess.Popen(
        [sys.executable, __file__, "--probe", server.address],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
    )
    soak.tally = Tally()
    rss_mib: list[float] = []
    weighing = asyncio.create_task(weigh(server, rss_mib))
    started = time.monotonic()
    await soak.offer(OVERLOAD * capacity, seconds / 10)  # memory for a full queue is warm-up
    warm = len(rss_mib)
    under_way = await soak.offer(OVERLOAD * capacity, seconds * 9 / 10)
    ended = time.monotonic()
    weighing.cancel()
    # It goes up and down by some 10 MiB with the calls that are held: medians of stretches.
    tenth = max(1, (len(rss_mib) - warm) // 10)
    before_after = (
        statistics.median(rss_mib[warm : warm + tenth]),
        statistics.median(rss_mib[-tenth:]),
    )
    goodput = sum(when <= ended for when in soak.tally.right) / (ended - started)
    health_ms = sorted(json.loads(await asyncio.to_thread(lambda: prober.communicate()[0])))
    soak.leaving = True
    server.process.send_signal(signal.SIGTERM)
    under_way |= await soak.offer(OVERLOAD * capacity, 1.0)
    await asyncio.gather(*under_way)
    status = await asyncio.to_thread(server.process.wait, 60)
    assert server.process.stdout
    server.process.stdout.close()
    await soak.close()
    return report(
        soak,
        lost=lost_calls(soak.tally, server),
        capacity=capacity,
        goodput=goodput,
        health_ms=health_ms,
        rss_mib=before_after,
        status=status,
        untimed=untimed,
    )


def lost_calls(tally: Tally, server: Server) -> list[str]:
    """Calls that the server had accepted and that their callers never saw answered."""
    lost = []
    for event in server.calls():
        request_id, code = event["request_id"], event["code"]
        if request_id not in tally.offered_ids - tally.given_up_ids:
            continue
        if code == "OK" and request_id not in tally.answered_ids:
            lost.append(f"{request_id}: answered, not received")
        if code in ("UNAVAILABLE", "CANCELLED") and event["request_bytes"]:
            lost.append(f"{request_id}: {code} after it was received")
    return lost


def report(
    soak: Soak,
    *,
    lost: list[str],
    capacity: float,
    goodput: float,
    health_ms: list[float],
    rss_mib: tuple[float, float],
    status: int,
    untimed: bool,
) -> int:
    """Print what happened and which claims hold. Returns 0 when all do."""
    tally = soak.tally
    ends, refusal_ms = tally.ends, statistics.median(tally.refusal_ms or [math.nan])
    p99_ms = health_ms[min(len(health_ms) - 1, int(0.99 * len(health_ms)))] if health_ms else 0.0
    growth = rss_mib[1] / rss_mib[0] - 1
    print(f"offered:  {tally.offered.total()} calls, {dict(tally.offered)}")
    accepted = tally.offered.total() - ends["refused"] - ends["turned away at the end"]
    print(f"accepted: {accepted}, refused: {ends['refused']}, expired: {ends['expired']}, "
          f"failed: {len(tally.failed)}")  # fmt: skip
    print(f"ends:     {dict(ends)}")
    for text in [*tally.failed[:5], *lost[:5]]:
        print(f"          {text}")
    claims = [
        ("no answer was mixed up", tally.mixed_up == 0, f"{tally.mixed_up}"),
        ("no call failed", not tally.failed, f"{len(tally.failed)}"),
        ("no accepted call was lost at SIGTERM", not lost, f"{len(lost)}"),
        ("clean exit on SIGTERM", status == 0, f"status {status}"),
        ("every kind of call was offered", len(tally.offered) == len(KINDS), ""),
    ]
    timed = [
        (f"goodput at least {MIN_GOODPUT_SHARE} x saturated",
         goodput >= MIN_GOODPUT_SHARE * capacity,
         f"{goodput:.1f}/s = {goodput / capacity:.2f} x {capacity:.1f}/s"),
        (f"median time to a refusal at most {MAX_REFUSAL_MS:.0f} ms",
         refusal_ms <= MAX_REFUSAL_MS, f"{refusal_ms:.1f} ms"),
        (f"Health p99 at most {MAX_HEALTH_P99_MS:.0f} ms", p99_ms <= MAX_HEALTH_P99_MS,
         f"{p99_ms:.1f} ms of {len(health_ms)} calls"),
        (f"memory within {MAX_GROWTH:.0%} of that after warm-up", growth <= MAX_GROWTH,
         f"{rss_mib[0]:.0f} -> {rss_mib[1]:.0f} MiB ({growth:+.1%})"),
    ]  # fmt: skip
    for text, holds, value in [*claims, *timed]:
        print(f"{'ok  ' if holds else 'FAIL'} {text}: {value}")
    return 0 if all(holds for _, holds, _ in (claims if untimed else claims + timed)) else 1


def main() -> int:
    """Run the command line."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--model", default="", help="bundle to serve (default: random weights)")
    parser.add_argument("--seconds", type=float, default=float(os.getenv("SOAK_SECONDS", "300")))
    parser.add_argument("--untimed", action="store_true", help="judge no time and no memory")
    parser.add_argument("--probe", help=argparse.SUPPRESS)
    args = parser.parse_args()
    if args.probe:
        probe(args.probe)
        return 0
    with tempfile.TemporaryDirectory() as folder:
        model = args.model
        if not model:
            model = str(Path(folder) / "random-densenet121")
            tests = Path(__file__).parents[1] / "tests"
            env = {**os.environ, "PYTHONPATH": str(tests)}
            subprocess.run([sys.executable, "-c", BUILD_MODEL, model], check=True, env=env)
        return asyncio.run(run(model, args.seconds, args.untimed))


if __name__ == "__main__":
    sys.exit(main())
