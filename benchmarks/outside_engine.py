"""Outside the engine: the processor time of a call beside the network's, by thread and by stage.

It is measured with a small network, where it is not lost in the variation of the engine's own time:
the time of a server's processes minus that of the engine alone, turn by turn. What threads took is
the kernel's account. The bare servers and Triton tuned run the same engine; this server is measured
with decoders in processes and in threads, which tells what their isolation takes.
"""

import statistics
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from functools import partial
from pathlib import Path

from benchmarks import systems
from benchmarks.names import AGAINST, BARE, BARE_ISOLATED, ENGINE, OURS, OURS_IN_THREADS, TUNED
from benchmarks.processes import Worker
from benchmarks.radiographs import BY_NAME, Kind, encoded
from benchmarks.readout import METHODS, Missing, Window, threads_ms
from benchmarks.systems import EngineAlone, Measured, Running, System
from benchmarks.verdicts import Claim, with_yardsticks

CALLERS = 4
SYSTEMS = (OURS, OURS_IN_THREADS, AGAINST, BARE_ISOLATED, BARE, TUNED)


def measured(
    chosen: list[System],
    kinds: tuple[Kind, ...],
    turns: int,
    measure: Callable[[Measured, str, str, int], Window],
) -> list[Window]:
    """Measure servers and the engine that they share, given (system, kind, method, callers)."""
    taken: list[Window] = []
    every = [*chosen, systems.OURS_IN_THREADS]
    used = sorted((each for each in every if each.name in SYSTEMS), key=_place)
    with ExitStack() as stack:
        servers = [stack.enter_context(Running(each, each.bundle(small=True))) for each in used]
        engine = stack.enter_context(EngineAlone(used[0].bundle(small=True)))
        for kind in kinds:
            for turn in range(turns):  # both methods in each: they are compared
                for method in ("predict", "explain"):
                    able = [each for each in servers if method in each.methods]
                    both: list[Measured] = [engine, *able]
                    for each in both[:: -1 if turn % 2 else 1]:
                        taken.append({"turn": turn} | measure(each, kind.name, method, CALLERS))
    return taken


def _place(system: System) -> int:
    return SYSTEMS.index(system.name)


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


def claims(windows: list[Window], stages: dict[str, dict[str, float]]) -> Iterator[Claim]:
    """Yield claims on this server's processor time, ms, beside that of the bare servers."""
    found, png = outside_ms(windows), next(iter(stages))

    def more(system: str) -> list[float]:
        both = (_found(found, png, system, method) for method in ("explain", "predict"))
        return [explain - predict for explain, predict in zip(*both, strict=True)]

    for kind, most_ms in goals_ms(stages).items():
        what = f"Predict, {kind}: outside the engine, CPU ms"
        yield Claim(what, "<=", most_ms, *with_yardsticks(partial(_found, found, kind)))
    what, loops = f"Predict, {png}: event loop, CPU ms", partial(_event_loop_ms, windows, png)
    yield Claim(what, "<=", 1.0, *with_yardsticks(loops))
    what = f"Explain, {png}: CPU ms more than Predict"
    yield Claim(what, "<=", 2.0, *with_yardsticks(more))


def goals_ms(stages: dict[str, dict[str, float]]) -> dict[str, float]:
    """Return the most that a Predict of a kind of image is to take outside the engine, ms."""
    return {
        kind: round(1.25 * parts["bare libjpeg-turbo"] + 6, 1) if "JPEG" in kind else 9.0
        for kind, parts in stages.items()
    }


def _found(
    found: dict[tuple[str, str, str], list[float]], kind: str, system: str, method: str = "predict"
) -> list[float]:
    if (method, kind, system) not in found:
        raise Missing("not in this run")
    return found[method, kind, system]


def _event_loop_ms(windows: list[Window], kind: str, system: str) -> list[float]:
    cell = (system, kind, "predict")
    own = [each for each in windows if (each["system"], each["kind"], each["method"]) == cell]
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
        cell = (method, kind, system)
        own = [each for each in windows if (each["method"], each["kind"], each["system"]) == cell]
        threads = threads_ms(own)
        lines.append("    " + ", ".join(f"{name} {ms:.2f}" for name, ms in threads.items()))
    for kind, parts in stages.items():
        size = len(encoded(BY_NAME[kind])) / 1e6
        shown = ", ".join(f"{name} {ms:.2f}" for name, ms in parts.items())
        lines.append(f"{kind}, {size:.2f} MB, stages alone: {shown}")
    return lines
