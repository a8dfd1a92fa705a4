"""What a bulk run costs an interactive caller, and the caller the run, in alternating windows.

`make bench-bulk`: a server process with a network of the published models' size, one caller and
`cxr predict --output` over a folder, all on this machine. The run is stopped (SIGSTOP) in the
windows of the caller alone. Nothing is cached.
"""

import argparse
import itertools
import os
import signal
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
SETTLE_S = 2.0
"""Time for the run to reach its rate, and for its calls in flight to be answered."""
FILMS, NAMES = 20, 50_000
"""Files, and names of them in the folder: a run answers each name once."""


@dataclass(slots=True)
class Found:
    """What one kind of window has shown, a value for each round."""

    median_ms: list[float] = field(default_factory=list)
    p95_ms: list[float] = field(default_factory=list)
    images_per_s: list[float] = field(default_factory=list)


@dataclass(slots=True)
class Run:
    """`cxr predict --output`, which can be stopped and goes on where it was."""

    process: "subprocess.Popen[bytes]"
    journal: Path

    def go_on(self, wanted: bool) -> None:
        """Let it go on, or stop it; return when it does."""
        self.process.send_signal(signal.SIGCONT if wanted else signal.SIGSTOP)
        time.sleep(SETTLE_S)

    def rows(self) -> int:
        """Return the number of rows so far."""
        if self.process.poll() is not None:
            raise RuntimeError("the run has ended")
        return self.journal.read_bytes().count(b"\n")


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
        running = {}
        for system in systems:
            server = stack.enter_context(Running(uncached(system), system.bundle(arguments.small)))
            journal = folder / f"{system.name}.jsonl"
            running[system.name] = server, stack.enter_context(bulk_run(films, server, journal))
        for number in range(arguments.rounds):
            for name in list(running)[:: -1 if number % 2 else 1]:
                server, run = running[name]
                with grpc.insecure_channel(server.address) as channel:
                    stub = ChestXrayServiceStub(channel)  # type: ignore[no-untyped-call]
                    for beside in (False, True):
                        run.go_on(beside)
                        for how, pause_s in PAUSES_S.items():
                            each = found.setdefault((name, how, f"beside {beside}"), Found())
                            window(stub, files, pause_s, run, arguments.seconds, each)
                before, start_s = run.rows(), time.monotonic()
                time.sleep(arguments.seconds)
                rate = (run.rows() - before) / (time.monotonic() - start_s)
                found.setdefault((name, "", "run"), Found()).images_per_s.append(rate)
                run.go_on(False)
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


@contextmanager
def bulk_run(films: Path, server: Running, journal: Path) -> Iterator[Run]:
    """Start a run, and stop it once it has rows."""
    command = [*CXR, "predict", "--server", server.address]
    command += [str(films), "--output", str(journal), "--quiet"]
    process = subprocess.Popen(command, env=environment())
    try:
        run = Run(process, journal)
        while not journal.exists() or run.rows() < 2:
            time.sleep(0.1)
        run.go_on(True)  # it finds how many calls the server takes
        run.go_on(False)
        yield run
    finally:
        process.send_signal(signal.SIGCONT)
        end(process)


def window(
    stub: ChestXrayServiceStub,
    files: list[bytes],
    pause_s: float,
    run: Run,
    seconds: float,
    found: Found,
) -> None:
    """Call for a while, and note latencies and the rate of the run."""
    latencies_ms: list[float] = []
    before, start_s = run.rows(), time.monotonic()
    for number in itertools.count():
        request = pb.PredictRequest(image=numbered(files[number % len(files)], number))
        called_s = time.monotonic()
        stub.Predict(request)
        latencies_ms.append(1000 * (time.monotonic() - called_s))
        time.sleep(pause_s)
        if time.monotonic() >= start_s + seconds:
            break
    found.images_per_s.append((run.rows() - before) / (time.monotonic() - start_s))
    median_ms, p95_ms = np.quantile(latencies_ms, (0.5, 0.95))
    found.median_ms.append(float(median_ms))
    found.p95_ms.append(float(p95_ms))


def table(found: dict[tuple[str, str, str], Found], names: list[str]) -> list[str]:
    """Return both tables in Markdown: medians over the rounds, and quartiles of their ratios."""
    lines = ["| Server | Caller | | Alone, ms | Beside a run, ms | Ratio (quartiles) | Images/s |"]
    lines += ["|---|---|---|---|---|---|---|"]
    for name, how in itertools.product(names, PAUSES_S):
        alone, beside = (found[name, how, f"beside {each}"] for each in (False, True))
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
        low, rate, high = np.quantile(found[name, "", "run"].images_per_s, (0.25, 0.5, 0.75))
        lines.append(f"\n{name}, the run alone: {rate:.1f} images/s ({low:.1f} to {high:.1f})")
    return lines


if __name__ == "__main__":
    main()
