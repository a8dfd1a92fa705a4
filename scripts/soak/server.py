"""Server: the process under test, its memory and its log."""

import asyncio
import json
import math
import re
import subprocess
import sys
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path
from typing import Any


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
        """Return the resident memory, MiB."""
        status = Path(f"/proc/{self.process.pid}/status").read_text()
        found = re.search(r"VmRSS:\s+(\d+)", status)
        return int(found[1]) / 1024 if found else math.nan

    def calls(self) -> Iterator[dict[str, Any]]:
        """Yield the log lines of calls."""
        for line in self.log.read_text().splitlines():
            with suppress(ValueError):
                event = json.loads(line)
                if event.get("event") == "call":
                    yield event


async def sample_memory(server: Server, rss_mib: list[float]) -> None:
    """Append the server's memory four times a second, until cancelled."""
    while True:
        rss_mib.append(server.rss_mib())
        await asyncio.sleep(0.25)
