"""Tables: results -> Markdown, for docs/performance.md."""

import statistics
from collections.abc import Callable, Iterator
from functools import partial

from benchmarks import budget, claims, cost, outside_tables
from benchmarks.markdown import head, median, ms, px, row
from benchmarks.names import (
    BARE,
    BARE_ISOLATED,
    BASELINE,
    ENGINE,
    LITSERVE,
    OURS,
    OURS_BF16,
    OURS_INT8,
    TRITON,
    TUNED,
    TUNED_INT8,
    bound_of,
)
from benchmarks.readout import (
    METHODS,
    Missing,
    Results,
    of_engine,
    processor,
    quartiles,
    ratios,
    threads_ms,
    value,
)

COLUMNS = (ENGINE, OURS, BARE_ISOLATED, BARE, TUNED, TRITON, LITSERVE, BASELINE)
BUSY_CORES = 0.3
"""Of other processes, from which on a window is not that of a quiet machine."""
CORES = (1, 2, 4, 8, 16, 32)


def blocks(results: Results) -> dict[str, str]:
    """Return the blocks of the document, by name."""
    made: dict[str, Callable[[Results], str]] = {
        "machine": machine,
        "rates": rates,
        "callers": callers,
        "int8": partial(in_precision, OURS_INT8, "int8"),
        "bfloat16": partial(in_precision, OURS_BF16, "bfloat16"),
        "claims": claim_table,
        "budget": budget_table,
        "outside": outside_tables.by_thread,
        "parts": outside_tables.by_part,
        "stages": outside_tables.stages,
        "size": size,
        "cost": cost_table,
        "speed": speed,
    }
    return {name: make(results) for name, make in made.items()}


def machine(results: Results) -> str:
    """What was measured, where and when."""
    of, versions = results["machine"], results["versions"]
    others = [cell["others_cores"] for one in results["rounds"] for cell in one["cells"]]
    taken = statistics.median(others)
    busy_count = sum(each > BUSY_CORES for each in others)
    busy = f" and more than {BUSY_CORES} in {busy_count} of {len(others)} windows"
    busy += ", so rates are low and ratios rough" if taken > BUSY_CORES else ""
    flags = ", ".join(of["int8"]) or "no instructions for int8"
    return (
        f"{results['made'][:10]}: {of['cores']} cores of {processor(results)} ({flags}), "
        f"{of['memory_gib']} GiB, OpenVINO {versions['openvino']}. Other processes took "
        f"{taken:.2f} cores in the median{busy}. Medians of "
        f"{len(results['rounds']) * results['turns']} windows or more."
    )


def rates(results: Results) -> str:
    """Rates, latencies, start and memory of all systems."""
    png, jpeg, camera, _ = results["kinds"]
    columns = [each for each in COLUMNS if each in (ENGINE, *results["systems"])]
    lines = head("", *columns)
    for kind in (png, jpeg, camera):
        for method in ("predict", "explain"):
            cell = (kind, method, 4, "per_s")
            name = f"{METHODS[method]}, {px(kind)}, 4 callers, images/s"
            lines.append(row(name, [median(results, each, cell, 1) for each in columns]))
    for kind, method in (
        (png, "predict"),
        (jpeg, "predict"),
        (camera, "predict"),
        (png, "explain"),
    ):
        cell = (kind, method, 1, "p50_ms")
        name = f"{METHODS[method]}, {px(kind)}, 1 caller, median ms"
        lines.append(row(name, [median(results, each, cell, 0) for each in columns]))
    rounds = results["rounds"]
    starts_s, memory_mib = [], []
    for each in columns:
        known = [one for one in rounds if each in one["starts_s"]]
        first = [one["starts_s"][each] for one in known]
        second = [one["memory_at_start_mib"][each]["pss"] for one in known]
        starts_s.append(f"{statistics.median(first):.1f}" if known else "")
        memory_mib.append(f"{statistics.median(second):.0f}" if known else "")
    lines += [row("start to ready, s", starts_s), row("memory when ready, MiB", memory_mib)]
    return "\n".join(lines)


def callers(results: Results) -> str:
    """Rate and latency by the number of callers."""
    counts = (1, 4, 16, results["most_callers"])
    lines = head("images/s (median ms)", *(f"{count} callers" for count in counts))
    for kind in results["kinds"][:3]:
        for system in (OURS, TUNED, OURS_BF16, OURS_INT8, TUNED_INT8):
            if system not in results["systems"]:
                continue
            shown = []
            for count in counts:
                cell = (kind, "predict", count)
                rate = median(results, system, (*cell, "per_s"), 1)
                late = median(results, system, (*cell, "p50_ms"), 0)
                shown.append(f"{rate} ({late})" if rate else "")
            lines.append(row(f"{px(kind)}, {system}", shown))
    return "\n".join(lines).replace("1 callers", "1 caller")


def in_precision(system: str, precision: str, results: Results) -> str:
    """Return a system in less than float32 beside this server."""
    if system not in results["systems"]:
        return f"This run has no system in {precision}."
    png, jpeg, camera, _ = results["kinds"]
    engine = bound_of(system)
    lines = head("", "float32", precision, "ratio (quartiles)")
    rows = [("engine alone, images/s", (png, "predict", 4, "per_s"), ENGINE, engine)]
    for kind in (png, jpeg, camera):
        for method in ("predict", "explain"):
            name = f"{METHODS[method]}, {px(kind)}, 4 callers, images/s"
            rows.append((name, (kind, method, 4, "per_s"), OURS, system))
    lone, cpu = (png, "predict", 1, "p50_ms"), (png, "predict", 4, "cpu_ms")
    rows += [
        ("engine alone, one call at a time, ms", lone, ENGINE, engine),
        (f"Predict, {px(png)}, 1 caller, median ms", lone, OURS, system),
        ("engine alone, CPU ms an image", cpu, ENGINE, engine),
        (f"Predict, {px(png)}, CPU ms an image", cpu, OURS, system),
    ]
    for name, cell, before, after in rows:
        try:
            found = ratios(results, (after, *cell), (before, *cell))
        except Missing:
            continue
        spread = f" ({quartiles(found)})" if len(found) > 2 else ""
        both = [median(results, each, cell, 1) for each in (before, after)]
        lines.append(row(name, [*both, f"{statistics.median(found):.2f}{spread}"]))
    return "\n".join([*lines, *(_beside_tuned(results) if system == OURS_INT8 else ())])


def _beside_tuned(results: Results) -> Iterator[str]:
    """Yield how far this server is ahead of Triton tuned, in float32 and in int8."""
    for kind in results["kinds"][:3]:
        cell = (kind, "predict", 4, "per_s")
        try:
            before = ratios(results, (OURS, *cell), (TUNED, *cell))
            after = ratios(results, (OURS_INT8, *cell), (TUNED_INT8, *cell))
        except Missing:
            continue
        both = [f"{statistics.median(found):.2f} ({quartiles(found)})" for found in (before, after)]
        yield row(f"Predict, {px(kind)}, 4 callers, x {TUNED} in the same precision", [*both, ""])


def claim_table(results: Results) -> str:
    """All claims."""
    lines = head("median (quartiles)", "goal", "measured", "")
    for each in claims.verdicts(results):
        if each.measured is None:
            continue
        claim = each.claim
        spread = f" ({each.quartiles})" if each.quartiles else ""
        goal = f"{'≥' if claim.relation == '>=' else '≤'} {claim.target:g}"
        word = each.word if each.word == "met" else f"**{each.word}**"
        verdict = ": ".join(filter(None, (word, each.note)))
        lines.append(row(claim.what, [goal, f"{each.measured:.2f}{spread}", verdict]))
    return "\n".join(lines)


def budget_table(results: Results) -> str:
    """Processor time of each system, and the room that what two of them share leaves."""
    kinds = results["kinds"][:3]
    lines = head("CPU ms an image", *map(px, kinds))
    tables = [budget.by_thread(results, kind) for kind in kinds]
    for system in budget.SYSTEMS:
        whole = [table[system][0] if system in table else None for table in tables]
        if any(whole):
            lines.append(row(f"**{system}**", [ms(each) for each in whole]))
        parts = dict.fromkeys(n for table in tables for n in table.get(system, (0, {}))[1])
        for part in parts if len(parts) > 1 else ():
            taken = [table.get(system, (0, {}))[1].get(part) for table in tables]
            if max(each or 0 for each in taken) >= 0.1:
                lines.append(row(f"{part}", [ms(each) for each in taken]))
    try:
        both = [budget.shared(results, kind) for kind in kinds]
    except Missing:
        return "\n".join(lines)
    for name, shown in (
        ("shared: engine alone", [f"{each.engine_ms:.1f}" for each in both]),
        ("shared: header, decode, checks, resize", [f"{each.stages_ms:.1f}" for each in both]),
        ("not shared: cxr-serve", [f"{each.serving_ms:.1f}" for each in both]),
        ("not shared: Triton tuned", [f"{each.tuned_ms - each.work_ms:.1f}" for each in both]),
        ("callers of cxr-serve", [f"{each.our_caller_ms:.1f}" for each in both]),
        ("callers of Triton tuned", [f"{each.tuned_caller_ms:.1f}" for each in both]),
        ("**at most x Triton tuned**", [f"{each.most:.2f}" for each in both]),
        (
            f"left for what is not shared, at {budget.AHEAD} x Triton tuned",
            [f"{each.left_ms(budget.AHEAD):.1f}" for each in both],
        ),
    ):
        lines.append(row(name, shown))
    for system in (BARE_ISOLATED, BARE):
        pairs = zip(both, tables, strict=True)
        taken = [
            table[system][0] - each.work_ms if system in table else None for each, table in pairs
        ]
        if any(taken):
            lines.append(row(f"not shared: {system}", [ms(each) for each in taken]))
    return "\n".join(lines)


def size(results: Results) -> str:
    """Images/s by the number of cores, as these take the same time for an image."""
    lines = head("images/s", *(f"{count} cores" for count in CORES))
    png = results["kinds"][0]
    busy_ms = {}
    for kind in results["kinds"][:3]:
        for precision, system in cost.PRECISIONS.items():
            try:
                cpu_ms = value(results, system, kind, "predict", 4, "cpu_ms")
            except Missing:
                continue
            shown = [f"{1000 * count / cpu_ms:.0f}" for count in CORES]
            lines.append(row(f"Predict, {px(kind)}, {precision}", shown))
            if kind == png:
                busy_ms[precision] = cpu_ms
    own = [
        each
        for each in results["outside_engine"]
        if (each["system"], each["method"], each["kind"]) == (OURS, "predict", png)
    ]
    loop_ms = threads_ms(own)["event loop"]
    reached = ", ".join(f"{ms / loop_ms:.0f} cores in {name}" for name, ms in busy_ms.items())
    lines += [
        "",
        f"The event loop of a server takes {loop_ms:.2f} ms for a Predict of {px(png)}. "
        f"By itself it would end at {1000 / loop_ms:.0f} images/s, {reached}; "
        "threads that share the GIL with it end a server [earlier](#where-one-process-ends).",
    ]
    return "\n".join(lines).replace("| 1 cores", "| 1 core")


def cost_table(results: Results) -> str:
    """Dollars for a million images."""
    lines = head(
        "", "what it has", "$ an hour", "precision", "images/s", "$ a million", "rate from"
    )
    for each in cost.costs(results):
        of = each.machine
        shown = [of["what"], f"{of['usd_per_hour']:.2f}", each.precision]
        shown += [f"{each.images_per_s:.0f}", f"{each.usd:.2f}", of["figures"]]
        lines.append(row(of["name"], shown))
    return "\n".join(lines)


def speed(results: Results) -> str:
    """The rates in a sentence."""
    of, cell = results["machine"], (results["kinds"][0], "predict", 4)
    share = statistics.median(of_engine(results, OURS, *cell))
    less = [
        f"{value(results, system, *cell):.0f} in {precision}"
        for precision, system in cost.PRECISIONS.items()
        if system in results["systems"] and system != OURS
    ]
    return (
        f"On {of['cores']} cores of {processor(results)}, without a GPU, four callers get "
        f"{value(results, OURS, *cell):.0f} predictions per second in float32, {share:.2f} of the "
        f"engine's own rate,\nand {' and '.join(less)}."
    )
