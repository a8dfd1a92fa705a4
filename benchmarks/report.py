"""Report: numbers of all rounds -> tables, and the targets beside the measured values."""

import statistics
from collections.abc import Callable

from benchmarks import budget, claims, outside_engine
from benchmarks.callers import LEAST
from benchmarks.names import BASELINE, ENGINE, ENGINE_BF16, ENGINE_INT8, OURS, OURS_IN_BUDGET
from benchmarks.readout import METHODS, Missing, Results, of_engine, ratios, value, windows


def text(results: Results) -> str:
    """Return the whole report."""
    lines = [_heading(results), ""]
    for engine in (ENGINE, ENGINE_BF16, ENGINE_INT8):
        lines += _engine(results, engine)
    lines += [*_others(results), ""]
    if "stages_ms" in results:
        lines += [*budget.text(results), ""]
    for kind in results["kinds"]:
        lines += [*_table(results, kind), ""]
    lines += [*_starting(results), ""]
    if "stages_ms" in results:
        lines += [*outside_engine.text(results["outside_engine"], results["stages_ms"]), ""]
    if OURS in results["systems"]:
        lines += claims.text(results)
    return "\n".join(lines)


def _heading(results: Results) -> str:
    machine, versions = results["machine"], results["versions"]
    images = ", ".join(f"{name} {size / 1e6:.2f} MB" for name, size in results["images"].items())
    return "\n".join(
        [
            f"{machine['processor']}, {machine['cores']} cores, {machine['memory_gib']} GiB, "
            f"{machine['system']}; {results['made']}; {len(results['rounds'])} rounds of "
            f"{results['turns']} turns (more of what is close), windows of "
            f"{results['window']['seconds']:g} s and more after "
            f"{results['window']['warm_up_s']:g} s, with at least "
            f"{results['window'].get('least', LEAST)} answers",
            ", ".join(f"{name} {number}" for name, number in versions.items()),
            f"files: {images}",
        ]
    )


def _engine(results: Results, engine: str) -> list[str]:
    own = [cell for one in results["rounds"] for cell in one["cells"] if cell["system"] == engine]
    busy = [cell for cell in own if cell["callers"] > 1]
    rates = [cell["per_s"] for cell in busy]
    alone = [cell["p50_ms"] for cell in own if cell["callers"] == 1]
    if not rates or not alone:
        return []
    return [
        f"{engine}: {statistics.median(rates):.2f} images/s "
        f"({min(rates):.2f} to {max(rates):.2f} in {len(rates)} windows), "
        f"{statistics.median(cell['cpu_ms'] for cell in busy):.1f} ms of processor time per image; "
        f"one call at a time "
        f"{statistics.median(alone):.1f} ms ({min(alone):.1f} to {max(alone):.1f})"
    ]


def _others(results: Results) -> list[str]:
    cells = [cell for one in results["rounds"] for cell in one["cells"]]
    others = [cell["others_cores"] for cell in cells]
    return [
        f"other processes of the machine: median {statistics.median(others):.2f}, "
        f"at most {max(others):.2f} of {results['machine']['cores']} cores",
    ]


def _table(results: Results, kind: str) -> list[str]:
    lines = [
        f"{kind:<24}{'callers':>8}  {'system':<15}{'images/s':>9}{'p50 ms':>9}"
        f"{'of engine':>11}{'x baseline':>12}{'cpu ms':>9}"
    ]
    seen = []
    for cell in results["rounds"][0]["cells"]:
        key = (cell["kind"], cell["method"], cell["callers"])
        is_engine = cell["system"] in (ENGINE, ENGINE_BF16, ENGINE_INT8)
        if cell["kind"] != kind or is_engine or (cell["system"], key) in seen:
            continue
        seen.append((cell["system"], key))
        lines.append(_row(results, cell["system"], *key))
    return lines


def _row(results: Results, system: str, kind: str, method: str, callers: int) -> str:
    cell = (system, kind, method, callers)
    baseline = (BASELINE, kind, method, callers)
    failed = sum(
        sum(each.get("failures", {}).values()) for each in windows(results, *cell).values()
    )
    shown = [
        _shown(lambda: value(results, *cell), 9, 2),
        _shown(lambda: value(results, *cell, "p50_ms"), 9, 1),
        _shown(lambda: statistics.median(of_engine(results, *cell)), 11, 2),
        _shown(lambda: statistics.median(ratios(results, cell, baseline)), 12, 2),
        _shown(lambda: value(results, *cell, "cpu_ms"), 9, 1),
    ]
    if method == "explain_again":  # the rest would count the Predict before it
        shown = [" " * 9, shown[1]]
    return (
        f"{METHODS[method]:<24}{callers:>8}  {system:<15}"
        f"{''.join(shown)}{f'  {failed} failed' if failed else ''}"
    )


def _shown(number: Callable[[], float], width: int, digits: int) -> str:
    try:
        return f"{number():>{width}.{digits}f}"
    except Missing:
        return " " * width


def _starting(results: Results) -> list[str]:
    lines = [
        f"{'':<16}{'start s':>9}{'MiB at start':>14}{'MiB at end':>12}{'peak MiB':>10}"
        "  (shared pages counted once but for the peak)"
    ]
    rounds = results["rounds"]
    for system in results["systems"]:
        numbers = [
            statistics.median(each["starts_s"][system] for each in rounds),
            statistics.median(each["memory_at_start_mib"][system]["pss"] for each in rounds),
            statistics.median(each["memory_mib"][system]["pss"] for each in rounds),
            max(each["memory_mib"][system]["peak"] for each in rounds),
        ]
        lines.append(
            f"{system:<16}{numbers[0]:>9.2f}{numbers[1]:>14.0f}{numbers[2]:>12.0f}"
            f"{numbers[3]:>10.0f}"
        )
    if first_s := results.get("first_start_s"):
        lines.append(f"{OURS}, first start, which compiles the model: {first_s:.2f} s")
    for name, system in (("memory_under_load", OURS), ("memory_in_budget", OURS_IN_BUDGET)):
        if load := results.get(name):
            failures = load.get("failures", {})
            ends = ", ".join(
                f"{count} {code}" for code, count in {"OK": load["total"], **failures}.items()
            )
            lines.append(
                f"{system}: {load['callers']} callers with {load['file_bytes'] / 1e6:.1f} MB files "
                f"for {load['window_s']:.0f} s: peak {load['peak_mib']:.0f} MiB, "
                f"{load['after_mib']:.0f} after ({load['before_mib']:.0f} before); {ends}"
            )
    if memory := results.get("memory_in_threads_mib"):
        lines.append(f"{OURS}, decoding in threads: {memory['pss']:.0f} MiB at start")
    return lines
