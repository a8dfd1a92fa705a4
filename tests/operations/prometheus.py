"""A real Prometheus that scrapes a server every second, and what can be asked of it."""

import json
import subprocess
import time
import urllib.error
import urllib.parse
import urllib.request
from pathlib import Path
from types import TracebackType
from typing import Any

from operations.tools import program
from trust.ports import free_port

ROOT = Path(__file__).parents[2]
RULES = ROOT / "deploy" / "prometheus" / "rules.yml"
TIMEOUT_S = 60


class Prometheus:
    """Scrapes `target` under the job `cxr-serve`, with our rules. Use as a context manager."""

    def __init__(self, target: str, folder: Path) -> None:
        self.address = f"127.0.0.1:{free_port()}"
        config = {
            "global": {"scrape_interval": "1s", "evaluation_interval": "1s"},
            "rule_files": [str(RULES)],
            "scrape_configs": [
                {"job_name": "cxr-serve", "static_configs": [{"targets": [target]}]}
            ],
        }
        path = folder / "prometheus.yml"
        path.write_text(json.dumps(config))  # JSON is YAML
        data = ("--storage.tsdb.path", str(folder / "data"))
        where = ("--web.listen-address", self.address)
        self._command = [program("prometheus"), "--config.file", str(path), *data, *where]

    def __enter__(self) -> "Prometheus":
        quiet = {"stdout": subprocess.DEVNULL, "stderr": subprocess.DEVNULL}
        self._process = subprocess.Popen(self._command, **quiet)  # type: ignore[call-overload]
        until = time.monotonic() + TIMEOUT_S
        while self._series("query", query="up") == []:
            assert time.monotonic() < until, "Prometheus has not scraped the server"
            time.sleep(0.2)
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        self._process.terminate()
        self._process.wait(TIMEOUT_S)

    def get(self, path: str, **parameters: str) -> Any:
        """What a page of the API answers. Raises HTTPError for an expression that is wrong."""
        url = f"http://{self.address}/api/v1/{path}?{urllib.parse.urlencode(parameters)}"
        with urllib.request.urlopen(url, timeout=30) as response:
            return json.load(response)["data"]

    def values(self, expr: str, start_s: float) -> list[float]:
        """The values of all series of an expression since a time, those that are NaN left out."""
        times = {"start": str(start_s), "end": str(time.time()), "step": "1"}
        series = self._series("query_range", query=expr, **times)
        numbers = [float(value) for each in series for _, value in each["values"]]
        return [number for number in numbers if number == number]

    def _series(self, path: str, **parameters: str) -> list[dict[str, Any]]:
        try:
            found: list[dict[str, Any]] = self.get(path, **parameters)["result"]
        except (urllib.error.URLError, ConnectionError) as error:
            if isinstance(error, urllib.error.HTTPError) and error.code == 400:
                raise AssertionError(f"{parameters}: {error.read().decode()}") from None
            return []  # it is starting
        return found
