"""Callers: a process with several callers, each of which sends its next image when answered.

`python -m benchmarks.callers` reads one task a line from standard input, as JSON, and prints
one result a line. It stays up between tasks, so that its own start never counts. A window opens
after a warm-up, and closes after its length or, where answers come slowly, with the fewest that are
wanted: that counts a little in favour of slow servers. Requests are built beforehand, since callers
share the machine with the server that is measured.
"""

import asyncio
import base64
import itertools
import json
import sys
import time
from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from typing import Any

import numpy as np

from benchmarks.radiographs import BY_NAME, encoded, numbered

TIMEOUT_S = 120.0
LEAST = 6
"""Fewest answers in a window, unless a task says otherwise."""
BUILT_PER_S, BUILT_BYTES = 30, 2**28
"""How many requests are built before a window, for each of its seconds and at most."""
REFUSED_S = 0.2
"""How long a caller waits that was turned away."""
_numbers = itertools.count(time.time_ns())


@dataclass(frozen=True, slots=True, kw_only=True)
class Task:
    """One measurement.

    Attributes:
        protocol: "grpc", "http" or "triton".
        address: host:port.
        method: "predict", "explain", or "explain_again" (Explain right after Predict on the
            same bytes; only the Explain is timed).
        kind: Name of the kind of image.
        callers: How many call at once.
        seconds: Length of the window.
        warm_up_s: How long answers are not counted at first.
        least: Fewest answers in a window.
        most_s: Greatest length of a window, however few the answers.
    """

    protocol: str
    address: str
    method: str
    kind: str
    callers: int
    seconds: float
    warm_up_s: float = 0.6
    least: int = LEAST
    most_s: float = 30.0


Build = Callable[[bytes], Any]
"""Image file -> what is sent."""
Call = Callable[[Any, str], Awaitable[object]]
"""(what is sent, method) -> the answer."""


async def measure(task: Task, build: Build, call: Call) -> dict[str, Any]:
    """Run the callers for the window and return rate, latencies and failures."""
    kind = BY_NAME[task.kind]
    files = [encoded(kind, seed) for seed in range(kind.films)]

    def request() -> Any:
        number = next(_numbers)
        return build(numbered(files[number % len(files)], number))

    wanted = task.callers + round(BUILT_PER_S * (task.warm_up_s + task.seconds))
    built = [request() for _ in range(min(wanted, BUILT_BYTES // len(files[0])))]
    answers: list[tuple[float, float]] = []
    failures: dict[str, int] = {}
    total = 0
    begun = time.monotonic()
    opened = begun + task.warm_up_s
    closed = opened + task.most_s

    def over(now: float) -> bool:
        enough = len(answers) >= task.least
        return now > opened + (task.seconds if enough else task.most_s)

    async def caller() -> None:
        nonlocal total, closed
        while not over(time.monotonic()):
            sent = built.pop() if built else request()
            try:
                if task.method == "explain_again":
                    await call(sent, "predict")
                started = time.monotonic()
                await call(sent, task.method.removesuffix("_again"))
            except Exception as error:
                name = _name(error)
                failures[name] = failures.get(name, 0) + 1
                await asyncio.sleep(REFUSED_S)
                continue
            ended = time.monotonic()
            total += 1
            if ended >= opened and not over(ended):
                answers.append((started, ended))
                if len(answers) == task.least:
                    closed = max(opened + task.seconds, ended)

    await asyncio.gather(*(caller() for _ in range(task.callers)))
    return summary(answers, closed - opened, failures) | {"total": total}


def summary(
    answers: list[tuple[float, float]], window_s: float, failures: dict[str, int]
) -> dict[str, Any]:
    """Rate within the window, and quantiles of the latency."""
    latencies_ms = [1000 * (end - start) for start, end in answers]
    p50_ms, p95_ms = map(float, np.percentile(latencies_ms, (50, 95))) if answers else (None, None)
    return {
        "per_s": len(answers) / window_s,
        "p50_ms": p50_ms,
        "p95_ms": p95_ms,
        "count": len(answers),
        "window_s": window_s,
        **_f(failures),
    }


def _f(failures: dict[str, int]) -> dict[str, Any]:
    return {"failures": failures} if failures else {}


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

        # An image and nothing else: the same message for both methods.
        return await measure(
            task, lambda file: pb.PredictRequest(image=file).SerializeToString(), call
        )


async def over_http(task: Task) -> dict[str, Any]:
    """Call the usual ways: base64 in JSON."""
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


PROTOCOLS = {"grpc": over_grpc, "http": over_http, "triton": over_triton}


def main() -> None:
    """Carry out tasks until the input ends."""
    for line in sys.stdin:
        task = Task(**json.loads(line))
        print(json.dumps(asyncio.run(PROTOCOLS[task.protocol](task))), flush=True)


if __name__ == "__main__":
    main()
