"""Outside the engine: the processor time of a call beside the network's, by thread and by stage.

It is measured with a small network, where it is not lost in the variation of the engine's own time:
the time of a server's processes minus that of the engine alone, turn by turn. What threads took is
the kernel's account.
"""

import statistics
from collections.abc import Callable
from contextlib import ExitStack
from functools import partial
from pathlib import Path
from typing import Any

from benchmarks.processes import Worker
from benchmarks.radiographs import BY_NAME, Kind, encoded
from benchmarks.systems import ENGINE, OURS, EngineAlone, Measured, Running, System

CALLERS = 4
METHODS = {"predict": "Predict", "explain": "Explain"}
Window = dict[str, Any]


def measured(
    chosen: list[System],
    kinds: tuple[Kind, ...],
    turns: int,
    measure: Callable[[Measured, str, str, int], Window],
) -> list[Window]:
    """Measure servers of this project and its engine, given (system, kind, method, callers)."""
    taken: list[Window] = []
    ours = [each for each in chosen if each.protocol == "grpc"]
    with ExitStack() as stack:
        servers = [stack.enter_context(Running(each, each.bundle(small=True))) for each in ours]
        engine = stack.enter_context(EngineAlone(ours[0].bundle(small=True)))
        for kind in kinds:
            for method in METHODS:
                for turn in range(turns):
                    both: list[Measured] = [engine, *servers]
                    for each in both[:: -1 if turn % 2 else 1]:
                        taken.append({"turn": turn} | measure(each, kind.name, method, CALLERS))
    return taken


def stages_ms(kinds: tuple[Kind, ...], bundle: Path) -> dict[str, dict[str, float]]:
    """Return the processor time of the stages before the engine, by kind of image; see `stages`."""
    worker = Worker("benchmarks.stages", bundle=bundle)
    try:
        return {kind.name: worker.ask({"kind": kind.name}) for kind in kinds}
    finally:
        worker.end()


def outside_ms(windows: list[Window]) -> dict[tuple[str, str, str], list[float]]:
    """Return a server's time minus the engine's, turn by turn, by method, kind and system."""
    engine_ms = {
        (each["kind"], each["method"], each["turn"]): each["cpu_ms"]
        for each in windows
        if each["system"] == ENGINE
    }
    found: dict[tuple[str, str, str], list[float]] = {}
    for each in windows:
        if each["system"] != ENGINE:
            beside_ms = each["cpu_ms"] - engine_ms[each["kind"], each["method"], each["turn"]]
            key = (each["method"], each["kind"], each["system"])
            found.setdefault(key, []).append(beside_ms)
    return found


def claims(
    windows: list[Window], stages: dict[str, dict[str, float]]
) -> list[tuple[str, float, Callable[[], list[float]]]]:
    """Return claims on this server: what, at most how many ms, and how to measure it."""
    found = outside_ms(windows)
    png, *jpegs = stages

    def of(method: str, kind: str) -> list[float]:
        return found[method, kind, OURS.name]

    def more() -> list[float]:
        pairs = zip(of("explain", png), of("predict", png), strict=True)
        return [explain - predict for explain, predict in pairs]

    wanted: list[tuple[str, float, Callable[[], list[float]]]] = [
        (f"Predict, {png}: outside the engine, CPU ms", 9.0, partial(of, "predict", png)),
        (f"Explain, {png}: CPU ms more than Predict", 2.0, more),
    ]
    for kind in jpegs:
        most_ms = round(1.25 * stages[kind]["bare libjpeg-turbo"] + 6, 1)
        what = f"Predict, {kind}: outside the engine, CPU ms"
        wanted.append((what, most_ms, partial(of, "predict", kind)))
    return wanted


def text(windows: list[Window], stages: dict[str, dict[str, float]]) -> list[str]:
    """Return both tables."""
    lines = [f"{'processor time outside the engine, per image':<46}{'ms':>7}  (quartiles)"]
    for (method, kind, system), values in outside_ms(windows).items():
        low, middle, high = statistics.quantiles(values, method="inclusive")
        lines.append(
            f"{f'{METHODS[method]}, {kind}, {system}':<46}{middle:>7.2f}  ({low:.2f} to {high:.2f})"
        )
        threads = _threads_ms(windows, method, kind, system)
        lines.append("    " + ", ".join(f"{name} {ms:.2f}" for name, ms in threads.items()))
    for kind, parts in stages.items():
        size = len(encoded(BY_NAME[kind])) / 1e6
        shown = ", ".join(f"{name} {ms:.2f}" for name, ms in parts.items())
        lines.append(f"{kind}, {size:.2f} MB, stages alone: {shown}")
    return lines


def _threads_ms(windows: list[Window], method: str, kind: str, system: str) -> dict[str, float]:
    """Return the medians of threads that take anything worth showing, the engine's at the end."""
    cell = (method, kind, system)
    taken = [
        each["threads_ms"]
        for each in windows
        if (each["method"], each["kind"], each["system"]) == cell
    ]
    names = dict.fromkeys(name for each in taken for name in each)
    found = {name: statistics.median(each.get(name, 0.0) for each in taken) for name in names}
    shown = sorted(found.items(), key=lambda item: (item[0] == "engine", -item[1]))
    return {name: ms for name, ms in shown if ms >= 0.01}
