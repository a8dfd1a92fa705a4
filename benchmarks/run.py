"""Run: measure every system on the same images, interleaved. `make bench`.

Each round starts every server and times the start. Each cell is then measured in short windows,
on the engine alone and on one server after the other, for several turns. All systems therefore see
the same noise from other processes of the machine; the order alternates from turn to turn. Cells in
which this server is close to the engine get more turns. Ratios are taken between windows of the
same turn. The report prints medians over all windows.

`--against FOLDER` adds the server of another checkout, to compare a change with the state before.
"""

import argparse
import json
import os
import platform
import signal
import sys
import time
from contextlib import ExitStack
from dataclasses import asdict, dataclass
from datetime import UTC, datetime
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Any

from benchmarks import outside_engine, radiographs, report, systems
from benchmarks.processes import foreign_s
from benchmarks.radiographs import Kind, encoded
from benchmarks.report import TRITON, TUNED
from benchmarks.systems import BASELINE, LITSERVE, OURS, EngineAlone, Measured, Running, System

RESULTS = Path(__file__).parent / "results"
SHOWN = Path(__file__).parent.parent / "docs" / "bench.png"
PACKAGES = (
    *("grpcio", "protobuf", "numpy", "pillow", "imagecodecs", "simplejpeg", "openvino"),
    *("torch", "torchxrayvision", "grad-cam", "fastapi", "uvicorn", "litserve"),
)
CLOSELY = 5
"""Factor on the number of turns where this server is close to the engine."""
LOAD_S = 15.0
"""Duration of the memory measurement under load, seconds."""


@dataclass(frozen=True, slots=True)
class Cell:
    """A method on a kind of image, called by a number of concurrent callers."""

    kind: str
    method: str
    callers: int


@dataclass(frozen=True, slots=True)
class Wanted:
    """A cell to be measured.

    Attributes:
        cell: The cell.
        everyone: Measure on every system, not on this server alone.
        closely: Take more turns of this server and the engine, which are close to each other.
    """

    cell: Cell
    everyone: bool = False
    closely: bool = False


def cells(kinds: tuple[Kind, Kind, Kind, Kind], most_callers: int) -> list[Wanted]:
    """Return what is to be measured."""
    png, _, _, deep = kinds
    found = []
    for kind in kinds:
        for method in ("predict", "explain"):
            for callers in (1, 4, 16):
                everyone = callers == 4 or (callers == 1 and kind is not deep)
                closely = kind is png and (callers == 4 or (callers, method) == (1, "predict"))
                found.append(Wanted(Cell(kind.name, method, callers), everyone, closely))
                if (kind, method, callers) == (png, "predict", 4):
                    many = Cell(kind.name, method, most_callers)
                    found.append(Wanted(many, closely=True))
        found.append(Wanted(Cell(kind.name, "explain_again", 1)))
    return found


def main() -> int:
    """Measure, print the table, write JSON and the plot."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--rounds", type=int, default=2)
    parser.add_argument("--turns", type=int, default=3, help="windows of a cell in a round")
    parser.add_argument("--seconds", type=float, default=1.5, help="length of a window")
    parser.add_argument("--warm-up", type=float, default=0.6, help="what comes before it")
    parser.add_argument("--smoke", action="store_true", help="tiny: shows that everything runs")
    parser.add_argument("--only", nargs="+", help="names of the systems to measure")
    parser.add_argument("--against", type=Path, help="also measure another checkout (its .venv)")
    parser.add_argument("--brief", action="store_true", help="1 and 4 callers on PNG alone")
    parser.add_argument("--peers-python", help="interpreter with nvidia-pytriton: adds Triton")
    parser.add_argument("--json", type=Path, help="where to write the numbers")
    parser.add_argument("--plot", type=Path, help="where to draw the plot")
    parser.add_argument("--show", type=Path, help="measure nothing: print this file's table again")
    args = parser.parse_args()
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(143))  # so that the servers are ended
    if args.show:
        results = json.loads(args.show.read_text(encoding="utf-8"))
    else:
        results = measured(args)
        stamp = datetime.now(UTC).strftime("%Y%m%dT%H%M%SZ")
        path = args.json or RESULTS / f"{'smoke-' if args.smoke else ''}{stamp}.json"
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(json.dumps(results, indent=1) + "\n", encoding="utf-8")
        print(f"numbers: {path}", file=sys.stderr)
    print(report.text(results))
    in_part = args.smoke or args.show or args.brief or args.only or args.against
    if args.plot or not in_part:  # the plot of the documents shows a whole run
        from benchmarks import plot

        plot.draw(results, args.plot or SHOWN)
    return 0


def measured(args: argparse.Namespace) -> dict[str, Any]:
    """Take all measurements."""
    chosen: list[System] = [OURS, BASELINE, LITSERVE]
    if args.against:
        chosen.insert(1, systems.other_checkout(args.against))
    if args.peers_python:
        chosen.append(systems.triton(TRITON, "reference", args.peers_python))
        chosen.append(systems.triton(TUNED, "ours", args.peers_python))
    if args.only:
        chosen = [each for each in chosen if each.name in args.only]
    jpegs = (radiographs.JPEG_2373, radiographs.JPEG_CAMERA)
    kinds = (radiographs.PNG_1024, *jpegs, radiographs.PNG_1024_16)
    most_callers, large = 64, radiographs.PNG_10_MB
    if args.smoke:
        jpegs = (radiographs.JPEG_224, radiographs.JPEG_224_CAMERA)
        kinds = (radiographs.PNG_224, *jpegs, radiographs.PNG_224_16)
        most_callers, large = 8, radiographs.PNG_224
    for kind in (*kinds, large):
        for seed in range(kind.films):
            encoded(kind, seed)
    bundles = {each.name: each.bundle(small=args.smoke) for each in chosen}
    first_starts_s = {}
    for each in chosen:  # fills the page cache and the cache of compiled models
        with Running(each, bundles[each.name]) as first:
            first_starts_s[each.name] = first.started_s
    wanted = cells(kinds, most_callers)
    if args.brief:
        wanted = [each for each in wanted if each.cell.kind == kinds[0].name and each.everyone]
    settings: dict[str, Any] = {"seconds": args.seconds, "warm_up_s": args.warm_up}
    if args.smoke:
        settings |= {"warm_up_s": 0.02, "least": 2}
    rounds = []
    for number in range(args.rounds):
        begun = time.monotonic()
        rounds.append(one_round(chosen, bundles, wanted, args.turns, settings))
        load = os.getloadavg()[0]
        print(
            f"round {number + 1} of {args.rounds}: {time.monotonic() - begun:.0f} s, "
            f"load {load:.1f}",
            file=sys.stderr,
            flush=True,
        )
    results = {
        "made": datetime.now(UTC).isoformat(timespec="seconds"),
        "smoke": args.smoke,
        "machine": machine(),
        "versions": versions(),
        "images": {kind.name: len(encoded(kind)) for kind in (*kinds, large)},
        "kinds": [kind.name for kind in kinds],
        "systems": [each.name for each in chosen],
        "most_callers": most_callers,
        "turns": args.turns,
        "window": settings,
        "rounds": rounds,
    }
    if any(each is OURS for each in chosen):
        results["first_start_s"] = first_starts_s[OURS.name]
        results["outside_engine"] = outside_engine.measured(
            chosen,
            kinds[:3],
            2 * args.turns,
            lambda each, *cell: one_window(each, Cell(*cell), settings),
        )
        results["stages_ms"] = outside_engine.stages_ms(kinds[:3], bundles[OURS.name])
    if OURS in chosen and not args.brief:
        longer = settings | {"seconds": args.seconds if args.smoke else LOAD_S, "least": 0}
        bundle = bundles[OURS.name]
        results["memory_under_load"] = memory_under_load(bundle, large, most_callers, longer)
    return results


def one_round(
    chosen: list[System],
    bundles: dict[str, Path],
    wanted: list[Wanted],
    turns: int,
    settings: dict[str, Any],
) -> dict[str, Any]:
    """Start every system, measure every cell on each of them in turn, stop every system."""
    taken: list[dict[str, Any]] = []
    with ExitStack() as stack:
        running = [stack.enter_context(Running(each, bundles[each.name])) for each in chosen]
        starts = {each.name: each.started_s for each in running}
        idle = {each.name: each.memory_mib() for each in running}
        engine = stack.enter_context(EngineAlone(next(iter(bundles.values()))))
        for each in wanted:
            cell = each.cell
            servers = [
                server
                for server in running
                if cell.method in server.methods
                and (each.everyone or server.system.protocol == "grpc")
            ]
            beside: list[Measured] = [engine] if servers and cell.method in engine.methods else []
            ours = [server for server in servers if server.system.protocol == "grpc"]
            for turn in range(turns * (CLOSELY if each.closely and ours else 1)):
                order = [*beside, *(servers if turn < turns else ours)][:: -1 if turn % 2 else 1]
                taken += [{"turn": turn} | one_window(one, cell, settings) for one in order]
        memory = {each.name: each.memory_mib() for each in running}
    return {
        "starts_s": starts,
        "memory_at_start_mib": idle,
        "memory_mib": memory,
        "cells": taken,
    }


def one_window(each: Measured, cell: Cell, settings: dict[str, Any]) -> dict[str, Any]:
    """Measure a cell once, and the processor time that other processes used meanwhile."""
    before = foreign_s(*each.pids), time.monotonic()
    measurement = each.measure(**asdict(cell), **settings)
    after = foreign_s(*each.pids), time.monotonic()
    others_cores = (after[0] - before[0]) / (after[1] - before[1])
    what = ", ".join(map(str, asdict(cell).values()))
    print(f"  {what}, {each.name}: {measurement['per_s']:.2f}/s", file=sys.stderr, flush=True)
    return asdict(cell) | {"system": each.name, "others_cores": others_cores} | measurement


def memory_under_load(
    bundle: Path, kind: Kind, callers: int, settings: dict[str, Any]
) -> dict[str, Any]:
    """Send large images from many callers to a new server, and return its peak memory."""
    with Running(OURS, bundle) as server:
        before = server.memory_mib()["rss"]
        measurement = server.measure(kind=kind.name, method="predict", callers=callers, **settings)
        after = server.memory_mib()
        return {
            "callers": callers,
            "seconds": settings["seconds"],
            "file_bytes": len(encoded(kind)),
            "rss_before_mib": before,
            "rss_after_mib": after["rss"],
            "peak_mib": after["peak"],
            **measurement,
        }


def machine() -> dict[str, Any]:
    """Describe the machine."""
    names = [
        line.partition(":")[2].strip()
        for line in Path("/proc/cpuinfo").read_text(encoding="utf-8").splitlines()
        if line.startswith("model name")
    ]
    return {
        "processor": names[0] if names else platform.machine(),
        "cores": len(os.sched_getaffinity(0)),
        "memory_gib": round(os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES") / 2**30),
        "system": platform.system(),
        "load_at_end": os.getloadavg()[0],
    }


def versions() -> dict[str, str]:
    """Return the versions of what was measured."""
    found = {"python": platform.python_version()}
    for name in PACKAGES:
        try:
            found[name] = version(name)
        except PackageNotFoundError:
            continue
    return found


if __name__ == "__main__":
    sys.exit(main())
