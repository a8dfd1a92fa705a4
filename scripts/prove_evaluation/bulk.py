"""Bulk: a run that is killed twice, and whose server is killed and started again; one that is not.

Nothing may be lost, nothing written twice, and both runs have the same answers.
"""

import json
import os
import re
import subprocess
import sys
import time
from collections import Counter
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from cxr_client.runs import Run

PYTHON = sys.executable
CXR = (PYTHON, "-c", "import sys; from cxr_client.cli import main; sys.exit(main())")
_POLL_S = 0.01


@dataclass(frozen=True, slots=True)
class Ended:
    """What a process took. `status` is negative where a signal ended it."""

    status: int
    wall_s: float
    cpu_s: float
    peak_mib: float


class Child:
    """A process, and the most memory that it has taken."""

    def __init__(self, *command: str) -> None:
        self._began_s = time.monotonic()
        self._process = subprocess.Popen(
            command, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL
        )
        self._peak_mib = 0.0
        self._ended: Ended | None = None

    @property
    def ended(self) -> Ended | None:
        """What it took; None as long as it runs."""
        # Of the process alone: what wait4 says of memory includes that of its parent at the fork.
        with suppress(OSError):
            text = Path(f"/proc/{self._process.pid}/status").read_text()
            found = re.search(r"VmHWM:\s+(\d+) kB", text)
            self._peak_mib = max(self._peak_mib, int(found[1]) / 1024 if found else 0)
        if self._ended is None:
            pid, status, usage = os.wait4(self._process.pid, os.WNOHANG)
            if pid:
                self._process.returncode = os.waitstatus_to_exitcode(status)
                wall_s = time.monotonic() - self._began_s
                cpu_s = usage.ru_utime + usage.ru_stime
                self._ended = Ended(self._process.returncode, wall_s, cpu_s, self._peak_mib)
        return self._ended

    def wait(self) -> Ended:
        """Wait for its end."""
        while self.ended is None:
            time.sleep(_POLL_S)
        return self.ended

    def kill(self) -> Ended:
        """Send SIGKILL, as a crash would."""
        self._process.kill()
        return self.wait()


def cxr(*words: object) -> Ended:
    """Run a command of `cxr` to its end.

    Raises:
        SystemExit: It did not succeed.
    """
    ended = Child(*CXR, *map(str, words)).wait()
    if ended.status:
        raise SystemExit(f"cxr {words[0]} ended with the status {ended.status}")
    return ended


class Server:
    """`cxr-server serve` with the phantom, which can be killed and started at the same address."""

    def __init__(self, log: Path) -> None:
        self._log = log
        self.address = "127.0.0.1:0"
        self.start()

    def start(self) -> None:
        """Start it, and wait until it serves.

        Raises:
            SystemExit: It does not.
        """
        words = ["serve", "--model", "phantom", "--listen", self.address, "--log-format", "json"]
        with self._log.open("ab") as log:
            self._process = subprocess.Popen(
                [PYTHON, "-m", "cxr_server", *words], stdout=subprocess.PIPE, stderr=log, text=True
            )
        assert self._process.stdout is not None
        banner = self._process.stdout.readline()
        if not banner:
            raise SystemExit(f"the server did not start: {self._log}")
        self.address = json.loads(banner)["address"]

    def kill(self) -> None:
        """Send SIGKILL, as a crash would."""
        self._process.kill()
        self._process.wait()
        assert self._process.stdout is not None
        self._process.stdout.close()


@contextmanager
def serving(log: Path) -> Iterator[Server]:
    """Run a server as long as the block lasts."""
    server = Server(log)
    try:
        yield server
    finally:
        server.kill()


def interrupted(server: Server, films: Path, output: Path, count: int) -> list[Ended]:
    """Run over the films with two kills of the run and one of the server; return what each took."""
    words = [films, "--server", server.address, *_options(output)]
    journal = output.with_name(f"{output.name}.jsonl")
    lives: list[Ended] = []
    for share in (0.25, 0.55):
        run = _start(words, resume=bool(lives))
        _wait_for(journal, share * count, run)
        lives.append(run.kill())
    run = _start(words, resume=True)
    _wait_for(journal, 0.75 * count, run)
    server.kill()
    time.sleep(1)
    server.start()
    return [*lives, run.wait()]


def uninterrupted(server: Server, films: Path, output: Path) -> Ended:
    """Run over the films at one go."""
    return _start([films, "--server", server.address, *_options(output)], resume=False).wait()


def _options(output: Path) -> list[object]:
    maps = ["--heatmaps", output.with_suffix(".maps"), "--heatmap-label", "Effusion"]
    return ["--output", output, "--evidence", "--embeddings", *maps, "--outage", 120, "--quiet"]


def _start(words: Sequence[object], *, resume: bool) -> Child:
    return Child(*CXR, "predict", *map(str, words), *["--resume"] * resume)


def _wait_for(journal: Path, lines: float, run: Child) -> None:
    while not journal.exists() or journal.read_bytes().count(b"\n") < lines:
        if run.ended:
            raise SystemExit(f"the run ended with {run.ended.status} before it was killed")
        time.sleep(_POLL_S)


def faults(journal: Path, table: Path, films: Path, maps: Path) -> dict[str, int]:
    """Count what is lost, twice, or left behind in a run."""
    import pyarrow.parquet as parquet

    rows = list(Run.read(journal).rows())
    written = Counter(row["file"] for row in rows)
    wanted = {str(path) for path in films.rglob("*.png")}
    images = [row for row in rows if row["kind"] == "image"]
    vectors = np.load(Run.read(journal).embeddings_path, mmap_mode="r")
    named = sorted(row.get("embedding", -1) for row in images)
    tabled = set(parquet.read_table(table, columns=["file"])["file"].to_pylist())
    return {
        "files without a row": len(wanted - set(written)),
        "rows without a file": len(set(written) - wanted),
        "files with two rows": sum(count > 1 for count in written.values()),
        "films that failed": sum("broken" not in row["file"] for row in rows) - len(images),
        "embeddings lost or named twice": int(named != list(range(len(vectors)))),
        "files missing in the table": len(wanted ^ tabled),
        "heat maps missing": sum(not (maps / str(row["heatmap"])).is_file() for row in images),
        "heat maps beyond": len(list(maps.rglob("*.jpg"))) - len(images),
        "unfinished files left": sum(
            len(list(folder.rglob(".cxr-*"))) for folder in (maps, journal.parent)
        ),
    }


def greatest_difference(a: Path, b: Path) -> float:
    """Return the greatest difference of a probability between two runs of the same files."""

    def scores(path: Path) -> dict[tuple[str, str], float]:
        return {
            (row["file"], finding["label"]): finding["probability"]
            for row in Run.read(path).rows()
            if row["kind"] == "image"
            for finding in row["findings"]
        }

    first, second = scores(a), scores(b)
    if first.keys() != second.keys():
        return float("nan")
    return max(abs(first[key] - second[key]) for key in first)
