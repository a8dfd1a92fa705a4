"""Outside the engine: the processor time of a call beside the network's, by thread and by stage.

It is measured with a small network, where it is not lost in the variation of the engine's own time:
the time of a server's processes minus that of the engine alone. What threads took is the kernel's
account. Windows count in which the cores ran at full speed, see `core_speed`; there are more turns
until there are enough.

The bare server and Triton tuned run the same engine; this server is measured with decoders in
processes and in threads, which tells what their isolation takes.
"""

import statistics
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from functools import partial
from pathlib import Path

from benchmarks import systems
from benchmarks.core_speed import Turns, at_full_speed, beside, cell_of, counted
from benchmarks.names import AGAINST, BARE, ENGINE, OURS, OURS_IN_THREADS, TUNED
from benchmarks.processes import Worker
from benchmarks.radiographs import BY_NAME, Kind, encoded
from benchmarks.readout import METHODS, Missing, Window, threads_ms
from benchmarks.systems import EngineAlone, Measured, Running, System
from benchmarks.verdicts import Claim

CALLERS = 4
SYSTEMS = (OURS, OURS_IN_THREADS, AGAINST, BARE, TUNED)


def measured(
    chosen: list[System],
    kinds: tuple[Kind, ...],
    turns: int,
    measure: Callable[[Measured, str, str, int], Window],
    patience: int,
) -> list[Window]:
    """Measure servers and the engine that they share, given (system, kind, method, callers)."""
    taken: list[Window] = []
    every = [*chosen, systems.OURS_IN_THREADS]
    used = sorted((each for each in every if each.name in SYSTEMS), key=_place)
    with ExitStack() as stack:
        servers = [stack.enter_context(Running(each, each.bundle(small=True))) for each in used]
        engine = stack.enter_context(EngineAlone(used[0].bundle(small=True)))
        for kind in kinds:
            for turn in range(patience * turns):
                if turn >= turns and _are_enough(taken, kind, turns):
                    break
                for method in ("predict", "explain"):  # which are compared
                    able = [each for each in servers if method in each.methods]
                    both: list[Measured] = [engine, *able]
                    for each in both[:: -1 if turn % 2 else 1]:
                        taken.append({"turn": turn} | measure(each, kind.name, method, CALLERS))
    return taken


def _are_enough(taken: list[Window], kind: Kind, count: int) -> bool:
    """Return whether each cell of a kind has enough windows at full speed."""
    fast = Counter(map(cell_of, at_full_speed(taken)))
    return all(fast[cell] >= count for cell in map(cell_of, taken) if cell[0] == kind.name)


def _place(system: System) -> int:
    return SYSTEMS.index(system.name)


def stages_ms(
    kinds: tuple[Kind, ...], bundle: Path, patience: int, fastest_ms: float
) -> dict[str, dict[str, float]]:
    """Return the processor time of the stages before the engine, by kind of image; see `stages`."""
    worker = Worker("benchmarks.stages", bundle=bundle)
    try:
        speed = {"patience": patience, "fastest_ms": fastest_ms}
        return {kind.name: worker.ask({"kind": kind.name} | speed) for kind in kinds}
    finally:
        worker.end()


def outside_ms(windows: list[Window]) -> dict[tuple[str, str, str], list[float]]:
    """Return a server's times minus the engine's, by method, kind and system: see `beside`."""
    cells: dict[tuple[str, ...], Turns] = {}
    for each in windows:
        cells.setdefault(cell_of(each), {})[each["turn"]] = each
    return {
        (method, kind, system): [
            whole_ms - engine_ms
            for whole_ms, engine_ms in beside(turns, cells[kind, method, ENGINE], "cpu_ms")
        ]
        for (kind, method, system), turns in cells.items()
        if system != ENGINE
    }


def claims(windows: list[Window], stages: dict[str, dict[str, float]]) -> Iterator[Claim]:
    """Yield claims on this server's processor time, ms, with the bare server's beside it."""
    found, png = outside_ms(windows), next(iter(stages))

    def more() -> list[float]:
        predict_ms = statistics.median(found["predict", png, OURS])
        return [explain_ms - predict_ms for explain_ms in found["explain", png, OURS]]

    for kind, most_ms in goals_ms(stages).items():
        numbers, bare = (partial(_found, found, kind, system) for system in (OURS, BARE))
        what = f"Predict, {kind}: outside the engine, CPU ms"
        yield Claim(what, "<=", most_ms, numbers, bare)
    numbers, bare = (partial(_event_loop_ms, windows, png, system) for system in (OURS, BARE))
    yield Claim(f"Predict, {png}: event loop, CPU ms", "<=", 1.0, numbers, bare)
    yield Claim(f"Explain, {png}: CPU ms more than Predict", "<=", 2.0, more)


def goals_ms(stages: dict[str, dict[str, float]]) -> dict[str, float]:
    """Return the most that a Predict of a kind of image is to take outside the engine, ms."""
    return {
        kind: round(1.25 * parts["bare libjpeg-turbo"] + 6, 1) if "JPEG" in kind else 9.0
        for kind, parts in stages.items()
    }


def _found(found: dict[tuple[str, str, str], list[float]], kind: str, system: str) -> list[float]:
    if ("predict", kind, system) not in found:
        raise Missing("not in this run")
    return found["predict", kind, system]


def _event_loop_ms(windows: list[Window], kind: str, system: str) -> list[float]:
    cell = (kind, "predict", system)
    own = [each for each in counted(windows) if cell_of(each) == cell]
    if not own:
        raise Missing("not in this run")
    return [each["threads_ms"]["event loop"] for each in own]


def text(windows: list[Window], stages: dict[str, dict[str, float]]) -> list[str]:
    """Return both tables."""
    lines = [f"{'processor time outside the engine, per image':<46}{'ms':>7}  (quartiles)"]
    for (method, kind, system), values in outside_ms(windows).items():
        low, middle, high = statistics.quantiles(values, method="inclusive")
        lines.append(
            f"{f'{METHODS[method]}, {kind}, {system}':<46}{middle:>7.2f}  ({low:.2f} to {high:.2f})"
        )
        cell = (kind, method, system)
        own = [each for each in counted(windows) if cell_of(each) == cell]
        threads = threads_ms(own)
        lines.append("    " + ", ".join(f"{name} {ms:.2f}" for name, ms in threads.items()))
    for kind, parts in stages.items():
        size = len(encoded(BY_NAME[kind])) / 1e6
        shown = ", ".join(f"{name} {ms:.2f}" for name, ms in parts.items())
        lines.append(f"{kind}, {size:.2f} MB, stages alone: {shown}")
    return lines
