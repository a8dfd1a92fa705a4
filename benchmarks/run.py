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
import math
import os
import platform
import signal
import sys
import time
from collections.abc import Callable
from contextlib import ExitStack
from dataclasses import asdict
from datetime import UTC, datetime
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Any

from benchmarks import memory, outside_engine, radiographs, report, systems
from benchmarks.cells import CLOSELY, Cell, Wanted, cells
from benchmarks.names import TRITON, TUNED, TUNED_INT8, bound_of
from benchmarks.processes import foreign_s
from benchmarks.radiographs import encoded
from benchmarks.systems import (
    BARE,
    BARE_ISOLATED,
    BASELINE,
    LITSERVE,
    OURS,
    OURS_BF16,
    OURS_INT8,
    EngineAlone,
    Measured,
    Running,
    System,
)
from cxr_server.inference.engines import INT8
from cxr_server.inference.engines.cpu import INT8_INSTRUCTIONS, cpu_flags, multiplies_bfloat16

RESULTS = Path(__file__).parent / "results"
PUBLISHED = RESULTS / "shown.json"
PACKAGES = (
    *("grpcio", "protobuf", "numpy", "pillow", "imagecodecs", "simplejpeg", "isal", "openvino"),
    *("uvloop", "nncf", "torch", "torchxrayvision", "grad-cam", "fastapi", "uvicorn", "litserve"),
)
LOAD_S = 15.0
"""Duration of a measurement of memory under load, seconds."""


def main() -> int:
    """Measure, print the tables, write JSON and with `--publish` the documents."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--rounds", type=int, default=2)
    parser.add_argument("--turns", type=int, default=2, help="windows of a cell in a round")
    parser.add_argument("--seconds", type=float, default=1.2, help="length of a window")
    parser.add_argument("--warm-up", type=float, default=0.5, help="what comes before it")
    parser.add_argument("--smoke", action="store_true", help="tiny: shows that everything runs")
    parser.add_argument("--only", nargs="+", help="names of the systems to measure")
    parser.add_argument("--against", type=Path, help="also measure another checkout (its .venv)")
    parser.add_argument("--brief", action="store_true", help="1 and 4 callers on PNG alone")
    parser.add_argument("--peers-python", help="interpreter with nvidia-pytriton: adds Triton")
    parser.add_argument("--json", type=Path, help="where to write the numbers")
    parser.add_argument("--show", type=Path, help="measure nothing: print this file's tables again")
    parser.add_argument(
        "--publish",
        action="store_true",
        help=f"write {PUBLISHED.name}, the plots of docs/ and the tables of docs/performance.md",
    )
    args = parser.parse_args()
    in_part = args.smoke or args.brief or args.only or args.against or not args.peers_python
    if args.publish and in_part and not args.show:
        parser.error("--publish needs a whole run, as `make bench-peers` makes it")
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(143))  # so that the servers are ended
    if args.show:
        results = json.loads(args.show.read_text(encoding="utf-8"))
    else:
        stamp = datetime.now(UTC).strftime("%Y%m%dT%H%M%SZ")
        path = args.json or RESULTS / f"{'smoke-' if args.smoke else ''}{stamp}.json"
        path.parent.mkdir(parents=True, exist_ok=True)
        results = measured(args, lambda numbers: path.write_text(as_json(numbers)))
        print(f"numbers: {path}", file=sys.stderr)
    print(report.text(results))
    if args.publish:
        from benchmarks import publish

        PUBLISHED.write_text(as_json(results), encoding="utf-8")
        publish.publish(results)
    return 0


def as_json(results: Any) -> str:
    """Return JSON, with four digits behind the point and a line for each window."""
    rounded = json.loads(json.dumps(results), parse_float=lambda digits: round(float(digits), 4))
    return json.dumps(rounded).replace("}, {", "},\n{") + "\n"


def chosen_systems(args: argparse.Namespace) -> list[System]:
    """Return what is compared."""
    chosen: list[System] = [OURS, OURS_INT8, BARE, BARE_ISOLATED, BASELINE, LITSERVE]
    if multiplies_bfloat16():
        chosen.insert(2, OURS_BF16)
    if args.against:
        chosen.insert(1, systems.other_checkout(args.against))
    if args.peers_python:
        chosen.append(systems.triton(TRITON, "reference", args.peers_python))
        chosen.append(systems.triton(TUNED, "ours", args.peers_python))
        chosen.append(systems.triton(TUNED_INT8, "ours", args.peers_python, INT8))
    return [each for each in chosen if not args.only or each.name in args.only]


def measured(args: argparse.Namespace, save: Callable[[Any], object]) -> dict[str, Any]:
    """Take all measurements. `save` is called with those that there are, and at the end."""
    chosen = chosen_systems(args)
    jpegs = (radiographs.JPEG_2373, radiographs.JPEG_CAMERA)
    kinds = (radiographs.PNG_1024, *jpegs, radiographs.PNG_1024_16)
    most_callers, large = 64, radiographs.PNG_10_MB
    settings: dict[str, Any] = {"seconds": args.seconds, "warm_up_s": args.warm_up}
    if args.smoke:
        jpegs = (radiographs.JPEG_224, radiographs.JPEG_224_CAMERA)
        kinds = (radiographs.PNG_224, *jpegs, radiographs.PNG_224_16)
        most_callers, large = 8, radiographs.PNG_224
        settings |= {"warm_up_s": 0.02, "least": 2}
    for kind in (*kinds, large):
        for seed in range(kind.films):
            encoded(kind, seed)
    bundles = {each.name: each.bundle(small=args.smoke) for each in chosen}
    first_starts_s = {}
    for each in chosen:  # fills the page cache and the cache of compiled models
        with Running(each, bundles[each.name]) as first:
            first_starts_s[each.name] = first.started_s
    rounds: list[Any] = []
    results: dict[str, Any] = {
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
    wanted = [each for each in cells(kinds, most_callers) if each.brief or not args.brief]
    for number in range(args.rounds):
        begun = time.monotonic()
        rounds.append(one_round(chosen, bundles, wanted, args.turns, settings))
        print(
            f"round {number + 1} of {args.rounds}: {time.monotonic() - begun:.0f} s, "
            f"load {os.getloadavg()[0]:.1f}",
            file=sys.stderr,
            flush=True,
        )
        save(results)
    if OURS in chosen:
        results["first_start_s"] = first_starts_s[OURS.name]
        results["outside_engine"] = outside_engine.measured(
            chosen,
            kinds[:3],
            math.ceil(CLOSELY * args.turns),
            lambda each, *cell: one_window(each, Cell(*cell), settings),
        )
        results["stages_ms"] = outside_engine.stages_ms(kinds[:3], bundles[OURS.name])
        if not args.brief:
            longer = settings | {"seconds": args.seconds if args.smoke else LOAD_S, "least": 0}
            results |= memory.measured(bundles[OURS.name], large, most_callers, longer)
    save(results)
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
        engines = {bound_of(each.name): each for each in reversed(chosen)}
        all_measured: list[Measured] = [
            stack.enter_context(EngineAlone(bundles[each.name], name, each.precision))
            for name, each in engines.items()
        ]
        all_measured += running
        for each in wanted:
            method = each.cell.method
            able = [one for one in all_measured if method in one.methods]
            window = settings | {"seconds": each.longer * settings["seconds"]}
            near = [one for one in able if one.name in each.near]
            others = [one for one in able if one.name in each.others]
            for turn in range(math.ceil(turns * each.closely)):
                order = [*near, *(others if turn < turns else ())][:: -1 if turn % 2 else 1]
                taken += [{"turn": turn} | one_window(one, each.cell, window) for one in order]
        at_end = {each.name: each.memory_mib() for each in running}
    return {
        "starts_s": starts,
        "memory_at_start_mib": idle,
        "memory_mib": at_end,
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
        "int8": sorted(cpu_flags() & {*INT8_INSTRUCTIONS}),
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
