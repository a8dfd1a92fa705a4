"""Event loop: its processor time for a call, and how many calls a second one process ends at.

`make bench-loop`: the server with an engine that costs nothing (`null_engine`), which leaves
receiving, decoding, answering and accounting, called from one or more processes. Each cell is
measured in short windows, one in every round, and the table has the medians. Compare two states
with `--against FOLDER`, whose windows alternate with this checkout's.

`--elsewhere-ms 6 --flags "--decode-processes 16"` simulates the front end of 16 cores: decoding
takes 6 ms, and no processor time here.
"""

import argparse
import statistics
import sys
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack
from dataclasses import asdict, replace
from pathlib import Path
from typing import Any

from benchmarks import null_engine
from benchmarks.callers import Task
from benchmarks.processes import Worker, processor_s, threads_s
from benchmarks.systems import COMPILED, OURS, Running, System, other_checkout

KINDS = ("224 JPEG", "224 PNG", "1024 PNG")
CALLERS = (1, 4, 16, 64, 256)
Cell = tuple[str, str, str, int]
"""System, method, kind of image and number of callers."""


def main() -> int:
    """Measure, and print the table."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--seconds", type=float, default=1.5, help="length of a window")
    parser.add_argument("--callers", type=int, nargs="+", default=CALLERS)
    parser.add_argument("--kinds", nargs="+", default=KINDS)
    parser.add_argument("--methods", nargs="+", default=["predict"])
    parser.add_argument("--processes", type=int, default=1, help="processes of callers")
    parser.add_argument("--against", type=Path, help="also measure another checkout (its .venv)")
    parser.add_argument("--flags", default="", help="further flags of the servers")
    parser.add_argument(
        "--elsewhere-ms", type=float, default=0.0, help="decode as if other cores did it, so long"
    )
    args = parser.parse_args()
    chosen = [OURS, *([other_checkout(args.against)] if args.against else [])]
    found: dict[Cell, list[dict[str, float]]] = {}
    with ExitStack() as stack:
        servers = [
            stack.enter_context(Running(_system(each, args), each.bundle(small=True)))
            for each in chosen
        ]
        workers = [servers[0].callers]
        for _ in range(args.processes - 1):
            workers.append(Worker("benchmarks.callers", bundle=servers[0].bundle))
            stack.callback(workers[-1].end)
        for number in range(args.rounds):
            for kind in args.kinds:
                for method in args.methods:
                    for callers in args.callers:
                        for server in servers[:: -1 if number % 2 else 1]:
                            cell = server.name, method, kind, callers
                            window = measure(
                                server,
                                workers[:callers],
                                kind=kind,
                                method=method,
                                callers=callers,
                                seconds=args.seconds,
                            )
                            found.setdefault(cell, []).append(window)
                            print(f"  {cell}: {window['calls/s']:.0f}", file=sys.stderr)
    print("\n".join(table(found)))
    return 0


def _system(system: System, args: argparse.Namespace) -> System:
    """Return the server with the null engine of this checkout, for many calls at once."""

    def command(port: int, bundle: Path) -> list[str]:
        return [
            *("-P", null_engine.__file__, str(args.elsewhere_ms), "serve", "--model", str(bundle)),
            *("--listen", f"127.0.0.1:{port}", "--cache-dir", str(COMPILED)),
            *("--max-in-flight", "512", "--log-format", "json", *args.flags.split()),
        ]

    return replace(system, command=command)


def measure(
    server: Running, workers: list[Worker], *, callers: int, **task: Any
) -> dict[str, float]:
    """Call a server from several processes. Returns rate, latency and CPU time a call, in ms."""
    count = len(workers)
    shares = [callers // count + (number < callers % count) for number in range(count)]

    def ask(worker: Worker, share: int) -> dict[str, Any]:
        whole = Task(protocol="grpc", address=server.address, callers=share, **task)
        return worker.ask(asdict(whole))

    pids = [worker.process.pid for worker in workers]
    before, asked_s = threads_s(server.server.pid), processor_s(*pids)
    with ThreadPoolExecutor(len(workers)) as pool:
        results = list(pool.map(ask, workers, shares))
    after = threads_s(server.server.pid)
    if failures := [each["failures"] for each in results if "failures" in each]:
        raise RuntimeError(f"calls failed: {failures}")
    total = sum(result["total"] for result in results)
    spent_s = {name: ran_s - before.get(name, 0.0) for name, ran_s in after.items()}
    spent_s["callers"] = processor_s(*pids) - asked_s
    return {
        "calls/s": sum(result["per_s"] for result in results),
        "p50 ms": statistics.median(result["p50_ms"] for result in results),
        **{name: 1000 * seconds / total for name, seconds in spent_s.items()},
    }


def table(found: dict[Cell, list[dict[str, float]]]) -> list[str]:
    """Return the medians of each cell as a table in Markdown."""
    names = dict.fromkeys(name for windows in found.values() for each in windows for name in each)
    shown = [
        name for name in names if name not in ("drawing", "saliency", "native output", "give-back")
    ]
    lines = [
        "| | callers | " + " | ".join(shown) + " |",
        "|---|---|" + "---|" * len(shown),
    ]
    for (system, method, kind, callers), windows in found.items():
        columns = {name: [each.get(name, 0.0) for each in windows] for name in shown}
        numbers = (
            f"{statistics.median(values):.{0 if name == 'calls/s' else 2}f}"
            for name, values in columns.items()
        )
        lines.append(f"| {system}, {method}, {kind} | {callers} | " + " | ".join(numbers) + " |")
    return lines


if __name__ == "__main__":
    sys.exit(main())
