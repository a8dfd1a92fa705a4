"""Server: the process under test, its memory, its log, and a reader of the log that may stop."""

import asyncio
import json
import os
import re
import subprocess
import sys
import threading
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path
from typing import Any

from scripts.soak.cgroup import Cgroup

TICKS_PER_S = os.sysconf("SC_CLK_TCK")
MEMORY_MIB = 2048
"""The limit in docker-compose.yml and deploy/kubernetes.yaml."""


class Server:
    """A server process in a memory cgroup if there may be one; its address, memory and log."""

    def __init__(self, model: str, log: Path) -> None:
        self.log = log
        self.cgroup = Cgroup(MEMORY_MIB)
        flags = ["--model", model, "--listen", "127.0.0.1:0", "--cache-entries", "0"]
        flags += ["--log-format", "json", "--log-level", "debug"]  # Health is logged at debug
        if not self.cgroup.folder:
            flags += ["--memory-budget-mib", str(MEMORY_MIB * 9 // 10)]
        self.process = subprocess.Popen(
            [sys.executable, "-m", "cxr_server", "serve", *flags],
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
            preexec_fn=self.cgroup.enter,
        )
        self.log_is_read = threading.Event()
        self.log_is_read.set()
        self._log_reader = threading.Thread(target=self._read_log, daemon=True)
        self._log_reader.start()
        assert self.process.stdout
        banner = self.process.stdout.readline()
        if not banner:
            self._log_reader.join()
            raise SystemExit(f"the server did not start: {log.read_text()}")
        print(banner.strip())
        self.address = json.loads(banner)["address"]

    def pss_mib(self) -> float:
        """Return the proportional set size of the process and all that it started, MiB."""
        return sum(_pss_kib(process) for process in _tree(self.process.pid)) / 1024

    def cpu_s(self) -> float:
        """Return the processor time of the process and all that it started, seconds."""
        return sum(_cpu_ticks(process) for process in _tree(self.process.pid)) / TICKS_PER_S

    async def end(self) -> int:
        """Wait until the process has ended by itself. Returns its exit status."""
        status = await asyncio.to_thread(self.process.wait, 60)
        await asyncio.to_thread(self._log_reader.join)
        assert self.process.stdout
        self.process.stdout.close()
        self.cgroup.remove()
        return status

    def events(self, name: str) -> Iterator[dict[str, Any]]:
        """Yield the log lines of an event."""
        for line in self.log.read_text().splitlines():
            with suppress(ValueError):
                event = json.loads(line)
                if event.get("event") == name:
                    yield event

    def dropped_lines(self) -> int:
        """Return how many lines the log says are missing from it."""
        return sum(int(event["count"]) for event in self.events("log lines dropped"))

    def _read_log(self) -> None:
        assert self.process.stderr
        with self.log.open("w") as file, self.process.stderr as lines:
            for line in lines:
                file.write(line)
                self.log_is_read.wait()


async def sample_memory(server: Server, pss_mib: list[float]) -> None:
    """Append the server's memory four times a second; kill it above `MEMORY_MIB`."""
    while True:
        pss_mib.append(server.pss_mib())
        if pss_mib[-1] > MEMORY_MIB:
            server.process.kill()
            raise SystemExit(f"FAIL the server took {pss_mib[-1]:.0f} MiB of {MEMORY_MIB}")
        await asyncio.sleep(0.25)


def _tree(process: int) -> Iterator[int]:
    yield process
    with suppress(OSError):
        for file in Path(f"/proc/{process}/task").glob("*/children"):
            for child in file.read_text().split():
                yield from _tree(int(child))


def _cpu_ticks(process: int) -> int:
    with suppress(OSError):  # it has ended
        fields = Path(f"/proc/{process}/stat").read_text().rpartition(")")[2].split()
        return int(fields[11]) + int(fields[12])  # user and system time
    return 0


def _pss_kib(process: int) -> int:
    with suppress(OSError):  # it has ended
        found = re.search(r"^Pss:\s+(\d+)", Path(f"/proc/{process}/smaps_rollup").read_text(), re.M)
        return int(found[1]) if found else 0
    return 0
