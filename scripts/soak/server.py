"""Server: the process under test, its memory and its log."""

import asyncio
import json
import re
import subprocess
import sys
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path
from typing import Any

from scripts.soak.cgroup import Cgroup

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
        with log.open("wb") as file:
            self.process = subprocess.Popen(
                [sys.executable, "-m", "cxr_server", "serve", *flags],
                stdout=subprocess.PIPE,
                stderr=file,
                text=True,
                preexec_fn=self.cgroup.enter,
            )
        assert self.process.stdout
        banner = self.process.stdout.readline()
        if not banner:
            raise SystemExit(f"the server did not start: {log.read_text()}")
        print(banner.strip())
        self.address = json.loads(banner)["address"]

    def pss_mib(self) -> float:
        """Return the proportional set size of the process and all that it started, MiB."""
        return sum(_pss_kib(process) for process in _tree(self.process.pid)) / 1024

    def calls(self) -> Iterator[dict[str, Any]]:
        """Yield the log lines of calls."""
        for line in self.log.read_text().splitlines():
            with suppress(ValueError):
                event = json.loads(line)
                if event.get("event") == "call":
                    yield event


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


def _pss_kib(process: int) -> int:
    with suppress(OSError):  # it has ended
        found = re.search(r"^Pss:\s+(\d+)", Path(f"/proc/{process}/smaps_rollup").read_text(), re.M)
        return int(found[1]) if found else 0
    return 0
