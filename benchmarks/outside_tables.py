"""Outside tables: processor time outside the engine, by thread, part and stage -> Markdown."""

import statistics

from benchmarks import budget, outside_engine
from benchmarks.markdown import LEAST_MS, head, ms, px, row
from benchmarks.names import BARE, BARE_ISOLATED, ENGINE, OURS, OURS_IN_THREADS
from benchmarks.readout import METHODS, Results, Window, quartiles, threads_ms

DECODERS, SPEAKERS = ("decode processes", "decode"), ("gRPC and others", "log", "calls")
"""Threads and processes whose times belong to one part."""
PARTS = (
    "header, decode, checks, resize, alone",
    "hash, alone",
    "decode processes and threads, beside these",
    "event loop",
    "gRPC and log",
    "engine's threads, more than alone",
)
PREDICT = "predict"


def by_thread(results: Results) -> str:
    """All servers and methods, with the small network."""
    windows = results["outside_engine"]
    found = outside_engine.outside_ms(windows)
    threads = {cell: threads_ms(_of(windows, *cell)) for cell in found}
    own = [parts for (_, _, system), parts in threads.items() if system == OURS]
    names = [
        name
        for name in dict.fromkeys(name for parts in own for name in parts)
        if name != "engine" and any(parts.get(name, 0.0) >= LEAST_MS for parts in own)
    ]
    lines = head("CPU ms outside the engine", "in all (quartiles)", *names)
    for (method, kind, system), values in found.items():
        whole = f"{statistics.median(values):.1f} ({quartiles(values)})"
        shown = [ms(threads[method, kind, system].get(name)) for name in names]
        lines.append(row(f"{METHODS[method]}, {px(kind)}, {system}", [whole, *shown]))
    return "\n".join(lines)


def by_part(results: Results) -> str:
    """What a Predict consists of in this server and in the bare ones, beside the goal."""
    windows, stages_ms = results["outside_engine"], results["stages_ms"]
    found = outside_engine.outside_ms(windows)
    lines = head("CPU ms", *PARTS, "in all", "goal")
    for kind, goal_ms in outside_engine.goals_ms(stages_ms).items():
        alone = _of(windows, PREDICT, kind, ENGINE)
        engine_ms = statistics.median(each["cpu_ms"] for each in alone)
        for system in (OURS, OURS_IN_THREADS, BARE_ISOLATED, BARE):
            if own := _of(windows, PREDICT, kind, system):
                parts_ms = _parts_ms(threads_ms(own), stages_ms[kind], system, engine_ms)
                whole_ms = statistics.median(found[PREDICT, kind, system])
                shown = [ms(each) for each in (*parts_ms, whole_ms, goal_ms)]
                lines.append(row(f"{px(kind)}, {system}", shown))
    return "\n".join(lines)


def _parts_ms(
    threads: dict[str, float], stage_ms: dict[str, float], system: str, engine_ms: float
) -> tuple[float, ...]:
    """Return the times of `PARTS`."""
    alone_ms = sum(stage_ms[name] for name in budget.SHARED_STAGES)
    hash_ms = 0.0 if system == BARE else stage_ms["hash"]
    decoders_ms, speakers_ms = (
        sum(threads.get(name, 0.0) for name in names) for names in (DECODERS, SPEAKERS)
    )
    return (
        alone_ms,
        hash_ms,
        decoders_ms - alone_ms - hash_ms,
        threads["event loop"],
        speakers_ms,
        threads["engine"] - engine_ms,
    )


def stages(results: Results) -> str:
    """The stages before the engine, by themselves."""
    found = results["stages_ms"]
    names = list(dict.fromkeys(name for parts in found.values() for name in parts))
    lines = head("CPU ms", *names)
    for kind, parts in found.items():
        lines.append(row(px(kind), [f"{parts[n]:.1f}" if n in parts else "" for n in names]))
    return "\n".join(lines)


def _of(windows: list[Window], method: str, kind: str, system: str) -> list[Window]:
    """Return the windows of a cell."""
    cell = (method, kind, system)
    return [each for each in windows if (each["method"], each["kind"], each["system"]) == cell]
