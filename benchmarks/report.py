"""Report: numbers of all rounds -> tables, and the targets beside the measured values."""

import statistics
from collections.abc import Callable
from typing import Any

from benchmarks import outside_engine
from benchmarks.callers import LEAST

Results = dict[str, Any]
OURS, BASELINE, ENGINE = "cxr-serve", "baseline", "engine alone"
TRITON, TUNED = "Triton", "Triton tuned"
"""The same engine behind torchxrayvision's transforms, and behind this project's preprocessing."""
METHODS = {
    "predict": "Predict",
    "explain": "Explain",
    "explain_again": "Explain after Predict",
}
MOST_PEAK_MIB = 1400.0
"""Upper limit of memory with 256 MiB of requests in flight: four times that (gRPC holds a message
three times while it receives it) plus the server itself."""


class Missing(Exception):
    """The number is not part of this run; the message says why."""


def value(
    results: Results, system: str, kind: str, method: str, callers: int, what: str = "per_s"
) -> float:
    """Return the median over all windows of one number of one cell. Raises Missing."""
    return statistics.median(_each(results, system, kind, method, callers, what).values())


def ratios(results: Results, over: tuple[Any, ...], under: tuple[Any, ...]) -> list[float]:
    """Return the ratios of two cells' numbers, turn by turn. Raises Missing."""
    tops, bottoms = _each(results, *over), _each(results, *under)
    if not all(bottoms.values()):
        raise Missing("nothing was answered")
    return [tops[turn] / bottoms[turn] for turn in tops if turn in bottoms]


def of_engine(
    results: Results, system: str, kind: str, method: str, callers: int, what: str = "per_s"
) -> list[float]:
    """Return the ratios of a cell's numbers to the engine's of the same turns. Raises Missing."""
    cell = (kind, method, callers, what)
    return ratios(results, (system, *cell), (ENGINE, *cell))


def text(results: Results) -> str:
    """Return the whole report."""
    lines = [_heading(results), ""]
    lines += [*_engine(results), ""]
    for kind in results["kinds"]:
        lines += [*_table(results, kind), ""]
    lines += [*_starting(results), ""]
    if "stages_ms" in results:
        lines += [*outside_engine.text(results["outside_engine"], results["stages_ms"]), ""]
    if OURS in results["systems"]:
        lines += _claims(results)
    return "\n".join(lines)


def _heading(results: Results) -> str:
    machine, versions = results["machine"], results["versions"]
    images = ", ".join(f"{name} {size / 1e6:.2f} MB" for name, size in results["images"].items())
    return "\n".join(
        [
            f"{machine['processor']}, {machine['cores']} cores, {machine['memory_gib']} GiB, "
            f"{machine['system']}; {results['made']}; {len(results['rounds'])} rounds of "
            f"{results['turns']} turns (more near the engine's rate), windows of "
            f"{results['window']['seconds']:g} s after "
            f"{results['window']['warm_up_s']:g} s, with at least "
            f"{results['window'].get('least', LEAST)} answers",
            ", ".join(f"{name} {number}" for name, number in versions.items()),
            f"files: {images}",
        ]
    )


def _engine(results: Results) -> list[str]:
    cells = [cell for one in results["rounds"] for cell in one["cells"]]
    own = [cell for cell in cells if cell["system"] == ENGINE]
    busy = [cell for cell in own if cell["callers"] > 1]
    rates = [cell["per_s"] for cell in busy]
    alone = [cell["p50_ms"] for cell in own if cell["callers"] == 1]
    others = [cell["others_cores"] for cell in cells]
    return [
        f"engine alone: {statistics.median(rates):.2f} images/s "
        f"({min(rates):.2f} to {max(rates):.2f} in {len(rates)} windows), "
        f"{statistics.median(cell['cpu_ms'] for cell in busy):.1f} ms of processor time per image; "
        f"one call at a time "
        f"{statistics.median(alone):.1f} ms ({min(alone):.1f} to {max(alone):.1f})",
        f"other processes of the machine: median {statistics.median(others):.2f}, "
        f"at most {max(others):.2f} of {results['machine']['cores']} cores",
    ]


def _table(results: Results, kind: str) -> list[str]:
    lines = [
        f"{kind:<24}{'callers':>8}  {'system':<12}{'images/s':>9}{'p50 ms':>9}"
        f"{'of engine':>11}{'x baseline':>9}{'cpu ms':>9}"
    ]
    seen = []
    for cell in results["rounds"][0]["cells"]:
        key = (cell["kind"], cell["method"], cell["callers"])
        if cell["kind"] != kind or cell["system"] == ENGINE or (cell["system"], key) in seen:
            continue
        seen.append((cell["system"], key))
        lines.append(_row(results, cell["system"], *key))
    return lines


def _row(results: Results, system: str, kind: str, method: str, callers: int) -> str:
    cell = (system, kind, method, callers)
    baseline = (BASELINE, kind, method, callers)
    failed = sum(sum(each.get("failures", {}).values()) for each in _cells(results, *cell).values())
    shown = [
        _shown(lambda: value(results, *cell), 9, 2),
        _shown(lambda: value(results, *cell, "p50_ms"), 9, 1),
        _shown(lambda: statistics.median(of_engine(results, *cell)), 11, 2),
        _shown(lambda: statistics.median(ratios(results, cell, baseline)), 9, 2),
        _shown(lambda: value(results, *cell, "cpu_ms"), 9, 1),
    ]
    if method == "explain_again":  # the rest would count the Predict before it
        shown = [" " * 9, shown[1]]
    return (
        f"{METHODS[method]:<24}{callers:>8}  {system:<12}"
        f"{''.join(shown)}{f'  {failed} failed' if failed else ''}"
    )


def _shown(number: Callable[[], float], width: int, digits: int) -> str:
    try:
        return f"{number():>{width}.{digits}f}"
    except Missing:
        return " " * width


def _starting(results: Results) -> list[str]:
    lines = [
        f"{'':<14}{'start s':>9}{'MiB at start':>14}{'MiB at end':>12}{'peak MiB':>10}"
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
            f"{system:<14}{numbers[0]:>9.2f}{numbers[1]:>14.0f}{numbers[2]:>12.0f}"
            f"{numbers[3]:>10.0f}"
        )
    if first_s := results.get("first_start_s"):
        lines.append(f"{OURS}, first start, which compiles the model: {first_s:.2f} s")
    if load := results.get("memory_under_load"):
        failures = load.get("failures", {})
        ends = ", ".join(
            f"{count} {code}" for code, count in {"OK": load["total"], **failures}.items()
        )
        lines.append(
            f"{load['callers']} callers with {load['file_bytes'] / 1e6:.1f} MB files for "
            f"{load['window_s']:.0f} s: peak {load['peak_mib']:.0f} MiB, "
            f"{load['rss_after_mib']:.0f} after ({load['rss_before_mib']:.0f} before); {ends}"
        )
    return lines


def _claims(results: Results) -> list[str]:
    png, jpeg, *_ = results["kinds"]
    jpegs = [kind for kind in results["kinds"] if "JPEG" in kind]
    most = results["most_callers"]

    def times(kind: str, method: str, system: str = BASELINE) -> Callable[[], list[float]]:
        return lambda: ratios(results, (OURS, kind, method, 4), (system, kind, method, 4))

    lone = (png, "predict", 1, "p50_ms")

    def latency(system: str) -> Callable[[], list[float]]:
        return lambda: ratios(results, (OURS, *lone), (system, *lone))

    def share(method: str) -> Callable[[], list[float]]:
        return lambda: of_engine(results, OURS, png, method, 4)

    def flat() -> list[float]:
        many, few = (of_engine(results, OURS, png, "predict", callers) for callers in (most, 4))
        return [statistics.median(many) / statistics.median(few)]

    def peak() -> list[float]:
        if "memory_under_load" not in results:
            raise Missing("not in this run")
        return [float(results["memory_under_load"]["peak_mib"])]

    def again() -> list[float]:
        cells = [(OURS, png, method, 1, "p50_ms") for method in ("explain_again", "predict")]
        after, predict = (value(results, *cell) for cell in cells)
        return [after / predict]

    rounds = results["rounds"]
    resident = [each["memory_at_start_mib"][OURS]["rss"] * 1.048576 for each in rounds]
    wanted: list[tuple[str, str, float, Callable[[], list[float]]]] = [
        (f"Predict, {png}, 4 callers: of the engine's rate", ">=", 0.85, share("predict")),
        (f"Predict, {png}, 4 callers: x baseline", ">=", 2.0, times(png, "predict")),
        (f"Explain (overlay), {png}, 4 callers: of the engine's", ">=", 0.80, share("explain")),
        (f"Explain (overlay), {png}, 4 callers: x baseline", ">=", 6.0, times(png, "explain")),
        (f"Predict, {jpeg}, 4 callers: x baseline", ">=", 3.0, times(jpeg, "predict")),
        (f"Explain (overlay), {jpeg}, 4 callers: x baseline", ">=", 6.0, times(jpeg, "explain")),
        (f"Predict, {png}, 1 caller: p50 / Triton's", "<=", 1.0, latency(TRITON)),
        (f"Predict, {png}, 4 callers: x Triton", ">=", 1.1, times(png, "predict", TRITON)),
        (f"Predict, {jpeg}, 4 callers: x Triton", ">=", 1.4, times(jpeg, "predict", TRITON)),
        (f"Predict, {png}, 1 caller: p50 / tuned Triton's", "<=", 1.0, latency(TUNED)),
        (f"Predict, {png}, 4 callers: x tuned Triton", ">=", 1.1, times(png, "predict", TUNED)),
        *(
            (
                f"Predict, {kind}, 4 callers: x tuned Triton",
                ">=",
                1.1,
                times(kind, "predict", TUNED),
            )
            for kind in jpegs
        ),
        (
            f"Predict, {png}, 1 caller: p50 / engine's lone call",
            "<=",
            1.3,
            lambda: of_engine(results, OURS, *lone),
        ),
        (f"Explain after Predict, {png}: p50 / Predict's", "<=", 0.35, again),
        (
            "from process start to SERVING, compiled before, s",
            "<=",
            2.0,
            lambda: [each["starts_s"][OURS] for each in rounds],
        ),
        ("resident memory when SERVING, MB", "<=", 400.0, lambda: resident),
        (f"Predict, {png}: of the engine's, {most} callers / 4", ">=", 0.95, flat),
        (f"peak memory while {most} callers send large files, MiB", "<=", MOST_PEAK_MIB, peak),
    ]
    if "stages_ms" in results:
        budget = outside_engine.claims(results["outside_engine"], results["stages_ms"])
        wanted += [(what, "<=", most_ms, numbers) for what, most_ms, numbers in budget]
    lines = [f"{'claim (median; quartiles of the windows)':<58}{'target':>10}{'measured':>10}"]
    for claim, relation, target, numbers in wanted:
        try:
            found = numbers()
        except Missing as why:
            lines.append(f"{claim:<58}{relation:>5}{target:>5g}{'-':>10}  {why}")
            continue
        measured = statistics.median(found)
        met = measured >= target if relation == ">=" else measured <= target
        spread = ""
        if len(found) > 2:
            low, _, high = statistics.quantiles(found, method="inclusive")
            spread = f"({low:.2f} to {high:.2f})"
        verdict = "met" if met else "NOT MET"
        lines.append(
            f"{claim:<58}{relation:>5}{target:>5g}{measured:>10.2f}  {spread:<16}{verdict}"
        )
    return lines


def _cells(
    results: Results, system: str, kind: str, method: str, callers: int
) -> dict[tuple[int, int], dict[str, Any]]:
    """The windows of a cell by round and turn."""
    wanted = (system, kind, method, callers)
    return {
        (number, cell["turn"]): cell
        for number, each in enumerate(results["rounds"])
        for cell in each["cells"]
        if (cell["system"], cell["kind"], cell["method"], cell["callers"]) == wanted
    }


def _each(
    results: Results, system: str, kind: str, method: str, callers: int, what: str = "per_s"
) -> dict[tuple[int, int], float]:
    windows = _cells(results, system, kind, method, callers)
    found = {turn: cell[what] for turn, cell in windows.items()}
    if not found:
        raise Missing("not in this run")
    if None in found.values():
        raise Missing("nothing was answered")
    return found
