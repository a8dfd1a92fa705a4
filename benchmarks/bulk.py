"""What a bulk run costs an interactive caller, and the caller the run, in alternating windows.

`make bench-bulk`: a server process with a network of the published models' size, one caller and
`cxr predict --output` over a folder, all on this machine. Nothing is cached.
"""

import argparse
import itertools
import os
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, field, replace
from pathlib import Path

import grpc
import numpy as np

from benchmarks.processes import end, environment
from benchmarks.radiographs import BY_NAME, encoded, numbered
from benchmarks.systems import OURS, Running, System, other_checkout
from cxr.v1 import chest_xray_pb2 as pb
from cxr.v1.chest_xray_pb2_grpc import ChestXrayServiceStub

PAUSES_S = {"back to back": 0.0, "0.5 s after each answer": 0.5}
"""How the caller calls."""
CXR = (sys.executable, "-c", "import sys; from cxr_client.cli import main; sys.exit(main())")
SETTLE_S = 3.0
"""Time in which a run finds how many calls the server answers at once."""
ALONE, BESIDE, RUN = "caller alone", "caller beside the run", "run alone"
FILMS, NAMES = 20, 5_000
"""Files, and names of them in the folder: a run answers each name once."""


@dataclass(slots=True)
class Found:
    """What one kind of window has shown, a value for each round."""

    median_ms: list[float] = field(default_factory=list)
    p95_ms: list[float] = field(default_factory=list)
    images_per_s: list[float] = field(default_factory=list)


@dataclass(slots=True)
class Run:
    """`cxr predict --output`."""

    process: "subprocess.Popen[bytes]"
    journal: Path

    def rows(self) -> int:
        """Return the number of rows so far."""
        if self.process.poll() is not None:
            raise RuntimeError("the run has ended")
        return self.journal.read_bytes().count(b"\n") if self.journal.exists() else 0


def main() -> None:
    """Print the table."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--rounds", type=int, default=12)
    parser.add_argument("--seconds", type=float, default=8.0, help="length of a window")
    parser.add_argument("--kind", choices=BY_NAME, default="1024 PNG", help="image files")
    parser.add_argument("--small", action="store_true", help="with the phantom's network")
    parser.add_argument("--against", type=Path, help="another checkout, whose server comes too")
    arguments = parser.parse_args()
    kind = BY_NAME[arguments.kind]
    files = [encoded(kind, seed) for seed in range(kind.films)]
    systems = [OURS, *([other_checkout(arguments.against)] if arguments.against else [])]
    found: dict[tuple[str, str, str], Found] = {}
    with ExitStack() as stack:
        folder = Path(stack.enter_context(tempfile.TemporaryDirectory()))
        films = films_of(files, folder, kind.file_format.lower())
        running = {
            each.name: stack.enter_context(Running(uncached(each), each.bundle(arguments.small)))
            for each in systems
        }
        for number in range(arguments.rounds):
            for name in list(running)[:: -1 if number % 2 else 1]:
                round_of(name, running[name], films, files, arguments.seconds, found)
    print("\n".join(table(found, list(running))))


def uncached(system: System) -> System:
    """Return a server that remembers no evidence."""
    return replace(
        system, command=lambda port, bundle: [*OURS.command(port, bundle), "--cache-entries", "0"]
    )


def films_of(files: list[bytes], folder: Path, suffix: str) -> Path:
    """Write a folder of image files under many names."""
    (films := folder / "films").mkdir()
    for number in range(FILMS):
        (folder / str(number)).write_bytes(numbered(files[number % len(files)], number))
    for number in range(NAMES):
        os.link(folder / str(number % FILMS), films / f"{number}.{suffix}")
    return films


def round_of(
    name: str,
    server: Running,
    films: Path,
    files: list[bytes],
    seconds: float,
    found: dict[tuple[str, str, str], Found],
) -> None:
    """Measure the caller alone, beside a run, and the run alone."""
    with grpc.insecure_channel(server.address) as channel:
        stub = ChestXrayServiceStub(channel)  # type: ignore[no-untyped-call]

        def windows(what: str, run: Run | None) -> None:
            for how, pause_s in PAUSES_S.items():
                each = found.setdefault((name, how, what), Found())
                window(stub, files, pause_s, run, seconds, each)

        windows(ALONE, None)
        with bulk_run(films, server) as run:
            windows(BESIDE, run)
            time.sleep(SETTLE_S)
            before, start_s = run.rows(), time.monotonic()
            time.sleep(seconds)
            rate = (run.rows() - before) / (time.monotonic() - start_s)
            found.setdefault((name, "", RUN), Found()).images_per_s.append(rate)


@contextmanager
def bulk_run(films: Path, server: Running) -> Iterator[Run]:
    """Start a run, and return once it has found its rate."""
    with tempfile.TemporaryDirectory() as folder:
        journal = Path(folder) / "run.jsonl"
        command = [*CXR, "predict", "--server", server.address]
        command += [str(films), "--output", str(journal), "--quiet"]
        process = subprocess.Popen(command, env=environment(), stderr=subprocess.DEVNULL)
        try:
            run = Run(process, journal)
            while run.rows() < 2:  # the first one is the header
                time.sleep(0.1)
            time.sleep(SETTLE_S)
            yield run
        finally:
            end(process)


def window(
    stub: ChestXrayServiceStub,
    files: list[bytes],
    pause_s: float,
    run: Run | None,
    seconds: float,
    found: Found,
) -> None:
    """Call for a while, and note latencies and the rate of the run."""
    latencies_ms: list[float] = []
    before, start_s = run.rows() if run else 0, time.monotonic()
    for number in itertools.count():
        request = pb.PredictRequest(image=numbered(files[number % len(files)], number))
        called_s = time.monotonic()
        stub.Predict(request)
        latencies_ms.append(1000 * (time.monotonic() - called_s))
        time.sleep(pause_s)
        if time.monotonic() >= start_s + seconds:
            break
    if run:
        found.images_per_s.append((run.rows() - before) / (time.monotonic() - start_s))
    median_ms, p95_ms = np.quantile(latencies_ms, (0.5, 0.95))
    found.median_ms.append(float(median_ms))
    found.p95_ms.append(float(p95_ms))


def table(found: dict[tuple[str, str, str], Found], names: list[str]) -> list[str]:
    """Return both tables in Markdown: medians over the rounds, and quartiles of their ratios."""
    lines = ["| Server | Caller | | Alone, ms | Beside a run, ms | Ratio (quartiles) | Images/s |"]
    lines += ["|---|---|---|---|---|---|---|"]
    for name, how in itertools.product(names, PAUSES_S):
        alone, beside = (found[name, how, each] for each in (ALONE, BESIDE))
        for what, before_ms, now_ms in (
            ("median", alone.median_ms, beside.median_ms),
            ("95 %", alone.p95_ms, beside.p95_ms),
        ):
            low, ratio, high = np.quantile(np.divide(now_ms, before_ms), (0.25, 0.5, 0.75))
            lines.append(
                f"| {name} | {how} | {what} | {np.median(before_ms):.1f} | {np.median(now_ms):.1f} "
                f"| {ratio:.2f} ({low:.2f} to {high:.2f}) | {np.median(beside.images_per_s):.1f} |"
            )
    for name in names:
        low, rate, high = np.quantile(found[name, "", RUN].images_per_s, (0.25, 0.5, 0.75))
        lines.append(f"\n{name}, the run alone: {rate:.1f} images/s ({low:.1f} to {high:.1f})")
    return lines


if __name__ == "__main__":
    main()
