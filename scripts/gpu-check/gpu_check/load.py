"""Load: servers under load from several caller processes, with what the machine spends."""

import os
import statistics
import subprocess
import threading
from collections.abc import Sequence
from contextlib import suppress
from dataclasses import replace
from pathlib import Path
from types import TracebackType
from typing import Any

from benchmarks.processes import Worker
from benchmarks.systems import COMPILED, LOGS, OURS, Running

from benchmarks import many_callers
from gpu_check.common import CPU, DEVICE

FLAGS = (
    *("--engine", "torch", "--device", DEVICE, "--log-format", "json"),
    *("--cache-dir", str(COMPILED)),
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


def measure(
    servers: Sequence[Running], extra: Sequence[Worker], *, callers: int, **task: Any
) -> dict[str, Any]:
    """Load the servers as `many_callers.measure`, and add the card's load."""
    with CardSampler() as card:
        found = many_callers.measure(servers, extra, callers=callers, **task)
    rounded: dict[str, Any] = {
        key: round(value, 2) if isinstance(value, float) else value for key, value in found.items()
    }
    rounded["threads_ms"] = {name: round(ms, 2) for name, ms in found["threads_ms"].items()}
    return rounded | {"card": card.summary()}


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


def workers(bundle: Path, count: int) -> list[Worker]:
    """Start processes of callers."""
    os.environ.setdefault("GRPC_VERBOSITY", "ERROR")
    return [Worker("benchmarks.callers", bundle=bundle) for _ in range(count)]
