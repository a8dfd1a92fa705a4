"""Load: servers under load from several caller processes, with what the machine spends."""

import os
import statistics
import subprocess
import threading
from collections import Counter
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack, suppress
from dataclasses import asdict, replace
from pathlib import Path
from types import TracebackType
from typing import Any

from benchmarks.callers import Task
from benchmarks.processes import Worker, tree
from benchmarks.systems import COMPILED, LOGS, OURS, Running

from gpu_check.common import CPU, DEVICE

FLAGS = (
    *("--engine", "torch", "--device", DEVICE, "--log-format", "json"),
    *("--max-in-flight", "1024", "--max-in-flight-mib", "1024", "--cache-dir", str(COMPILED)),
)
VARIANT = Path(__file__).with_name("variant.py")


def server(bundle: Path, name: str, *flags: str, variant: str = "none") -> Running:
    """Return a server to start, as it is or with an engine of `variant.py`."""

    def command(port: int, bundle: Path) -> list[str]:
        words = ("serve", "--model", str(bundle), "--listen", f"127.0.0.1:{port}", *FLAGS, *flags)
        return [str(VARIANT), variant, *words]

    return Running(replace(OURS, name=f"gpu-check {name}", command=command), bundle)


def log_of(running: Running) -> str:
    """Return the server's log so far."""
    path = LOGS / f"{running.name.replace(' ', '-')}.log"
    return path.read_text(errors="replace")


def start_all(stack: ExitStack, servers: Sequence[Running]) -> None:
    """Start servers at the same time; `stack` ends them."""
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
    """Load the servers from their own callers' processes and the extra ones.

    Args:
        servers: The started servers, which share the callers evenly.
        extra: Further processes of callers.
        callers: Concurrent calls in all.
        task: The other fields of `benchmarks.callers.Task`.

    Returns:
        Rate, latency, processor time for each call by thread, and the card's load.
    """
    pairs = [(each, each.callers) for each in servers]
    pairs += [(servers[n % len(servers)], worker) for n, worker in enumerate(extra)]
    pairs = pairs[:callers]
    shares = [callers // len(pairs) + (n < callers % len(pairs)) for n in range(len(pairs))]

    def ask(pair: tuple[Running, Worker], share: int) -> dict[str, Any]:
        whole = Task(protocol="grpc", address=pair[0].address, callers=share, **task)
        return pair[1].ask(asdict(whole))

    before = [thread_times_ms(each.server.pid) for each in servers]
    with CardSampler() as card, ThreadPoolExecutor(len(pairs)) as pool:
        results = list(pool.map(ask, pairs, shares))
    total = max(1, sum(result["total"] for result in results))
    by_thread: dict[str, float] = {}
    for each, old in zip(servers, before, strict=True):
        for (thread, name), spent_ms in thread_times_ms(each.server.pid).items():
            key = "loop" if thread == each.server.pid else name.rstrip("0123456789-_")
            spent_ms -= old.get((thread, name), 0.0)
            by_thread[key] = by_thread.get(key, 0.0) + spent_ms / total
    failures = Counter[str]()
    for result in results:
        failures.update(result.get("failures", {}))
    return {
        "per_s": round(sum(result["per_s"] for result in results), 1),
        "p50_ms": _median(result["p50_ms"] for result in results),
        "p95_ms": round(max(result["p95_ms"] or 0.0 for result in results), 1),
        "calls": total,
        "failures": dict(failures),
        "server_cpu_ms": round(sum(by_thread.values()), 2),
        "by_thread_ms": {k: round(v, 2) for k, v in by_thread.items() if v > 0.02},
        "card": card.summary(),
    }


def thread_times_ms(pid: int) -> dict[tuple[int, str], float]:
    """Return the processor time of each thread so far, by id and name.

    Of a process and its descendants, such as those that decode.
    """
    found = {}
    for process in tree(pid):
        with suppress(OSError):  # a process or thread that has ended meanwhile
            for folder in Path(f"/proc/{process.pid}/task").iterdir():
                run_ns = int((folder / "schedstat").read_text().split()[0])
                found[int(folder.name), (folder / "comm").read_text().strip()] = run_ns / 1e6
    return found


def card_memory_mib() -> str | None:
    """Return the card's used memory, MiB; None on a CPU."""
    if CPU:
        return None
    query = ("nvidia-smi", "--query-gpu=memory.used", "--format=csv,noheader,nounits")
    return subprocess.run(query, capture_output=True, text=True).stdout.strip()


class CardSampler:
    """Samples the card's load with nvidia-smi while a block runs; nothing on a CPU."""

    FIELDS = ("utilization.gpu", "utilization.memory", "memory.used", "power.draw", "clocks.sm")

    def __enter__(self) -> "CardSampler":
        """Start sampling."""
        self._rows: list[list[float]] = []
        self._process: subprocess.Popen[str] | None = None
        if not CPU:
            query = f"--query-gpu={','.join(self.FIELDS)}"
            command = ["nvidia-smi", query, "--format=csv,noheader,nounits", "-lms", "200"]
            self._process = subprocess.Popen(command, stdout=subprocess.PIPE, text=True)
            threading.Thread(target=self._read, args=(self._process,), daemon=True).start()
        return self

    def _read(self, process: "subprocess.Popen[str]") -> None:
        assert process.stdout
        for line in process.stdout:
            with suppress(ValueError):  # "[N/A]"
                self._rows.append([float(each) for each in line.split(",")])

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        """End sampling."""
        if self._process:
            self._process.terminate()
            self._process.wait()

    def summary(self) -> dict[str, float] | None:
        """Return the mean of each field, or None without samples."""
        if not self._rows:
            return None
        columns = zip(*self._rows, strict=True)
        return {
            field: round(statistics.mean(column))
            for field, column in zip(self.FIELDS, columns, strict=True)
        }


def _median(values: Any) -> float | None:
    known = [value for value in values if value is not None]
    return round(statistics.median(known), 1) if known else None


def workers(bundle: Path, count: int) -> list[Worker]:
    """Start processes of callers."""
    os.environ.setdefault("GRPC_VERBOSITY", "ERROR")
    return [Worker("benchmarks.callers", bundle=bundle) for _ in range(count)]
