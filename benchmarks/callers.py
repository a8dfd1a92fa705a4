"""Callers: a process with concurrent callers in a closed loop.

`python -m benchmarks.callers` reads one task per line from standard input, as JSON, and prints one
result per line. It runs between tasks, so that its own start is never measured. After a warm-up,
each caller counts responses from the end of one to the end of another, for at least the length of a
window and its share of the minimum count. All callers keep calling until the last one has counted.
Requests are built before the window, since the callers share the machine with the server.
"""

import asyncio
import base64
import itertools
import json
import sys
import time
from collections.abc import Awaitable, Callable
from dataclasses import dataclass, field
from typing import Any

import numpy as np

from benchmarks.radiographs import BY_NAME, encoded, numbered

TIMEOUT_S = 120.0
LEAST = 6
"""Default minimum number of responses in a window."""
MOST_S = 30.0
"""Maximum length of a window, seconds."""
BUILT_PER_S, BUILT_BYTES = 30, 2**28
"""Requests built before a window: per second of the window, and the limit in bytes."""
REFUSED_S = 0.2
"""Pause of a caller after a failed call, seconds."""
_numbers = itertools.count(time.time_ns())


@dataclass(frozen=True, slots=True, kw_only=True)
class Task:
    """One measurement.

    Attributes:
        protocol: "grpc", "bare", "http" or "triton".
        address: host:port.
        method: "predict", "explain", or "explain_again" (Explain right after Predict on the
            same bytes; only the Explain is timed).
        kind: Name of the kind of image.
        callers: Number of concurrent callers.
        seconds: Length of the window.
        warm_up_s: Length of the warm-up.
        least: Minimum number of responses in a window, of all callers.
        most_s: Maximum length of a window.
    """

    protocol: str
    address: str
    method: str
    kind: str
    callers: int
    seconds: float
    warm_up_s: float = 0.6
    least: int = LEAST
    most_s: float = MOST_S


Build = Callable[[bytes], Any]
"""Image file -> request."""
Call = Callable[[Any, str], Awaitable[object]]
"""(request, method) -> response."""


async def measure(task: Task, build: Build, call: Call) -> dict[str, Any]:
    """Run the callers for the window.

    Return rate, latencies, failures and the callers' own processor time for an image.
    """
    kind = BY_NAME[task.kind]
    files = [encoded(kind, seed) for seed in range(kind.films)]

    def request() -> Any:
        number = next(_numbers)
        return build(numbered(files[number % len(files)], number))

    wanted = task.callers + round(BUILT_PER_S * (task.warm_up_s + task.seconds))
    built = [request() for _ in range(min(wanted, BUILT_BYTES // len(files[0])))]
    least = -(-task.least // task.callers)
    counts = counts_of(task.callers, task.warm_up_s, task.seconds, least, task.most_s)
    failures: dict[str, int] = {}
    total = 0

    async def caller(count: Count) -> None:
        nonlocal total
        while not all(each.closed for each in counts):
            sent = built.pop() if built else request()
            answered = True
            try:
                if task.method == "explain_again":
                    await call(sent, "predict")
                started = time.monotonic()
                await call(sent, task.method.removesuffix("_again"))
            except Exception as error:
                name = _name(error)
                failures[name] = failures.get(name, 0) + 1
                await asyncio.sleep(REFUSED_S)
                answered = False
            ended = time.monotonic()
            total += answered
            count.note(ended, ended - started if answered else None)

    begun_s = time.process_time()
    await asyncio.gather(*(caller(count) for count in counts))
    caller_ms = 1000 * (time.process_time() - begun_s) / max(total, 1)
    found = summary(counts) | {"total": total, "caller_ms": caller_ms}
    return found | ({"failures": failures} if failures else {})


@dataclass(slots=True)
class Count:
    """The responses of one caller, from the end of one to the end of another."""

    opened: float
    seconds: float
    least: int
    most_s: float
    since: float | None = None
    window_s: float = 0.0
    latencies_ms: list[float] = field(default_factory=list)
    closed: bool = False

    def note(self, ended: float, latency_s: float | None) -> None:
        """Record a response, or a failure, which has no latency."""
        if self.closed:
            return
        if self.since is None:
            self.since = ended if ended >= self.opened else None
            return
        if latency_s is not None:
            self.latencies_ms.append(1000 * latency_s)
        self.window_s = ended - self.since
        enough = len(self.latencies_ms) >= self.least
        self.closed = self.window_s >= (self.seconds if enough else self.most_s)


def counts_of(
    callers: int, warm_up_s: float, seconds: float, least: int, most_s: float = MOST_S
) -> list[Count]:
    """Return a count for each caller, which starts after the warm-up."""
    opened = time.monotonic() + warm_up_s
    return [Count(opened, seconds, least, most_s) for _ in range(callers)]


def summary(counts: list[Count]) -> dict[str, Any]:
    """Return the rate of all callers together and quantiles of the latency.

    The rate is not the sum of the callers' rates, which is biased: the rate of a caller with few
    responses is more often too high than too low.
    """
    latencies_ms = [each for count in counts for each in count.latencies_ms]
    p50_ms, p95_ms = (
        map(float, np.percentile(latencies_ms, (50, 95))) if latencies_ms else (None, None)
    )
    window_s = float(np.mean([count.window_s for count in counts]))
    return {
        "per_s": len(latencies_ms) / window_s,
        "p50_ms": p50_ms,
        "p95_ms": p95_ms,
        "count": len(latencies_ms),
        "window_s": window_s,
    }


def _name(error: Exception) -> str:
    code = getattr(error, "code", None)
    return code().name if callable(code) and hasattr(code(), "name") else type(error).__name__


async def over_grpc(task: Task) -> dict[str, Any]:
    """Call this server through its stubs."""
    import grpc

    from cxr.v1 import chest_xray_pb2 as pb

    options = [("grpc.max_receive_message_length", -1), ("grpc.max_send_message_length", -1)]
    async with grpc.aio.insecure_channel(task.address, options=options) as channel:
        methods: dict[str, Any] = {
            name: channel.unary_unary(
                f"/cxr.v1.ChestXrayService/{name.title()}", response_deserializer=read
            )
            for name, read in (
                ("predict", pb.PredictResponse.FromString),
                ("explain", pb.ExplainResponse.FromString),
            )
        }

        async def call(sent: bytes, method: str) -> object:
            metadata = (("x-request-bytes", str(len(sent))),)
            return await methods[method](sent, timeout=TIMEOUT_S, metadata=metadata)

        # A message with nothing but an image is valid for both methods.
        return await measure(
            task, lambda file: pb.PredictRequest(image=file).SerializeToString(), call
        )


async def over_bare(task: Task) -> dict[str, Any]:
    """Call the bare server: the image file is the request."""
    import grpc

    options = [("grpc.max_send_message_length", -1)]
    async with grpc.aio.insecure_channel(task.address, options=options) as channel:
        methods: dict[str, Any] = {
            name: channel.unary_unary(f"/bare.Bare/{name.title()}")
            for name in ("predict", "explain")
        }

        async def call(sent: bytes, method: str) -> object:
            return await methods[method](sent, timeout=TIMEOUT_S)

        return await measure(task, lambda file: file, call)


async def over_http(task: Task) -> dict[str, Any]:
    """Call over HTTP: base64 in JSON."""
    import aiohttp

    headers = {"Content-Type": "application/json"}
    async with aiohttp.ClientSession(timeout=aiohttp.ClientTimeout(total=TIMEOUT_S)) as session:

        async def call(sent: bytes, method: str) -> object:
            url = f"http://{task.address}/{method}"
            async with session.post(url, data=sent, headers=headers) as response:
                response.raise_for_status()
                return await response.json()

        def build(file: bytes) -> bytes:
            return json.dumps({"image": base64.b64encode(file).decode()}).encode()

        return await measure(task, build, call)


async def over_triton(task: Task) -> dict[str, Any]:
    """Call Triton over gRPC: image bytes as a tensor of bytes."""
    import tritonclient.grpc.aio as triton

    client = triton.InferenceServerClient(task.address)

    def build(file: bytes) -> Any:
        data = triton.InferInput("image", [1, 1], "BYTES")
        data.set_data_from_numpy(np.array([[file]], dtype=np.object_))
        return data

    async def call(sent: Any, method: str) -> object:
        answer = await client.infer("cxr", [sent], client_timeout=TIMEOUT_S)
        return answer.as_numpy("scores")

    try:
        return await measure(task, build, call)
    finally:
        await client.close()


PROTOCOLS = {"grpc": over_grpc, "bare": over_bare, "http": over_http, "triton": over_triton}


def main() -> None:
    """Run tasks until the input ends."""
    for line in sys.stdin:
        task = Task(**json.loads(line))
        print(json.dumps(asyncio.run(PROTOCOLS[task.protocol](task))), flush=True)


if __name__ == "__main__":
    main()
