"""Outside tables: processor time outside the engine, by thread, part and stage -> Markdown."""

import statistics

from benchmarks import budget, outside_engine
from benchmarks.markdown import LEAST_MS, head, ms, px, row
from benchmarks.names import BARE, ENGINE, OURS
from benchmarks.readout import METHODS, Results, Window, quartiles, threads_ms

DECODERS, SPEAKERS = ("decode processes", "decode"), ("gRPC and others", "log")
"""Threads and processes whose times belong to one part."""


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
    """What a Predict consists of in this server and in the bare one, beside the goal."""
    windows, stages_ms = results["outside_engine"], results["stages_ms"]
    found = outside_engine.outside_ms(windows)
    goals_ms = outside_engine.goals_ms(stages_ms)
    columns = {}
    for kind, stage_ms in stages_ms.items():
        alone_ms = sum(stage_ms[name] for name in budget.SHARED_STAGES)
        engine_ms = statistics.median(
            each["cpu_ms"] for each in _of(windows, "predict", kind, ENGINE)
        )
        for system in (OURS, BARE):
            if own := _of(windows, "predict", kind, system):
                threads = threads_ms(own)
                hash_ms = stage_ms["hash"] if system == OURS else 0.0
                decoders_ms = sum(threads.get(name, 0.0) for name in DECODERS)
                columns[f"{px(kind)}, {system}"] = {
                    "header, decode, checks, resize by themselves": alone_ms,
                    "hash by itself": hash_ms,
                    "decode threads and processes, beside these": decoders_ms - alone_ms - hash_ms,
                    "event loop": threads["event loop"],
                    "gRPC and log": sum(threads.get(name, 0.0) for name in SPEAKERS),
                    "engine's threads, more than alone": threads["engine"] - engine_ms,
                    "in all": statistics.median(found["predict", kind, system]),
                    "goal": goals_ms[kind],
                }
    lines = head("CPU ms", *columns)
    for name in next(iter(columns.values())):
        lines.append(row(name, [ms(parts[name]) for parts in columns.values()]))
    return "\n".join(lines)


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
