"""Callers: a process with several callers, each of which sends its next image when answered.

`python -m benchmarks.callers` reads one task a line from standard input, as JSON, and prints
one result a line. It stays up between tasks, so that its own start never counts. A window opens
after a warm-up, and closes after its length or, where answers come slowly, with the fewest that are
wanted: that counts a little in favour of slow servers.
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


Call = Callable[[bytes, str], Awaitable[int]]
"""(image file, method) -> bytes of the answer."""


async def measure(task: Task, call: Call) -> dict[str, Any]:
    """Run the callers for the window and return rate, latencies and failures."""
    kind = BY_NAME[task.kind]
    files = [encoded(kind, seed) for seed in range(kind.films)]
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
            number = next(_numbers)
            file = numbered(files[number % len(files)], number)
            try:
                if task.method == "explain_again":
                    await call(file, "predict")
                started = time.monotonic()
                await call(file, task.method.removesuffix("_again"))
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
    from cxr.v1 import chest_xray_pb2_grpc as pb_grpc

    options = [("grpc.max_receive_message_length", -1), ("grpc.max_send_message_length", -1)]
    async with grpc.aio.insecure_channel(task.address, options=options) as channel:
        stub = pb_grpc.ChestXrayServiceStub(channel)  # type: ignore[no-untyped-call]

        async def call(file: bytes, method: str) -> int:
            metadata = (("x-request-bytes", str(len(file))),)
            if method == "predict":
                answer = await stub.Predict(
                    pb.PredictRequest(image=file), timeout=TIMEOUT_S, metadata=metadata
                )
            else:
                answer = await stub.Explain(
                    pb.ExplainRequest(image=file), timeout=TIMEOUT_S, metadata=metadata
                )
            return int(answer.ByteSize())

        return await measure(task, call)


async def over_http(task: Task) -> dict[str, Any]:
    """Call the usual ways: base64 in JSON."""
    import aiohttp

    async with aiohttp.ClientSession(timeout=aiohttp.ClientTimeout(total=TIMEOUT_S)) as session:

        async def call(file: bytes, method: str) -> int:
            body = {"image": base64.b64encode(file).decode()}
            async with session.post(f"http://{task.address}/{method}", json=body) as response:
                response.raise_for_status()
                await response.json()
                return int(response.content_length or 0)

        return await measure(task, call)


async def over_triton(task: Task) -> dict[str, Any]:
    """Call Triton over gRPC: image bytes as a tensor of bytes."""
    import tritonclient.grpc.aio as triton

    client = triton.InferenceServerClient(task.address)

    async def call(file: bytes, method: str) -> int:
        data = triton.InferInput("image", [1, 1], "BYTES")
        data.set_data_from_numpy(np.array([[file]], dtype=np.object_))
        answer = await client.infer("cxr", [data], client_timeout=TIMEOUT_S)
        return int(answer.as_numpy("scores").nbytes)

    try:
        return await measure(task, call)
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
