"""Many callers: servers under load from several processes of callers, and the CPU time of both."""

import statistics
from collections import Counter
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack
from dataclasses import asdict
from typing import Any

from benchmarks.callers import Task
from benchmarks.processes import Worker, processor_s, threads_s
from benchmarks.systems import Running


def start_all(stack: ExitStack, servers: Sequence[Running]) -> None:
    """Start servers at the same time; `stack` ends them. Raises RuntimeError."""
    with ThreadPoolExecutor(len(servers)) as pool:
        started = [pool.submit(each.__enter__) for each in servers]
    for each, future in zip(servers, started, strict=True):
        if future.exception() is None:
            stack.push(each.__exit__)
    for future in started:
        future.result()


def measure(
    servers: Sequence[Running], extra: Sequence[Worker], *, callers: int, **task: Any
) -> dict[str, Any]:
    """Load the servers from their own processes of callers and the extra ones.

    Args:
        servers: The started servers, which share the callers evenly.
        extra: Further processes of callers.
        callers: Concurrent calls in all.
        task: The other fields of `benchmarks.callers.Task`.

    Returns:
        Rate, latency, failures, and the CPU time for each call: of the servers by thread, and of
        the callers.
    """
    pairs = [(each, each.callers) for each in servers]
    pairs += [(servers[n % len(servers)], worker) for n, worker in enumerate(extra)]
    pairs = pairs[:callers]
    shares = [callers // len(pairs) + (n < callers % len(pairs)) for n in range(len(pairs))]
    caller_pids = [worker.process.pid for _, worker in pairs]

    def ask(pair: tuple[Running, Worker], share: int) -> dict[str, Any]:
        whole = Task(protocol="grpc", address=pair[0].address, callers=share, **task)
        return pair[1].ask(asdict(whole))

    before = [threads_s(each.server.pid) for each in servers]
    callers_before_s = processor_s(*caller_pids)
    with ThreadPoolExecutor(len(pairs)) as pool:
        results = list(pool.map(ask, pairs, shares))
    callers_s = processor_s(*caller_pids) - callers_before_s
    total = max(1, sum(result["total"] for result in results))
    spent_s = Counter[str]()
    for each, old_s in zip(servers, before, strict=True):
        for thread, ran_s in threads_s(each.server.pid).items():
            spent_s[thread] += ran_s - old_s.get(thread, 0.0)  # type: ignore[assignment]
    failures = Counter[str]()
    for result in results:
        failures.update(result.get("failures", {}))
    p50_ms = [result["p50_ms"] for result in results if result["p50_ms"] is not None]
    p95_ms = [result["p95_ms"] for result in results if result["p95_ms"] is not None]
    threads_ms = {name: 1000 * ran_s / total for name, ran_s in spent_s.items()}
    return {
        "per_s": sum(result["per_s"] for result in results),
        "p50_ms": statistics.median(p50_ms) if p50_ms else None,
        "p95_ms": max(p95_ms, default=None),
        "total": total,
        "failures": dict(failures),
        "server_cpu_ms": sum(threads_ms.values()),
        "callers_cpu_ms": 1000 * callers_s / total,
        "threads_ms": {name: ms for name, ms in threads_ms.items() if ms > 0.02},
    }
