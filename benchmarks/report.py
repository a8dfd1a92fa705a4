"""Report: numbers of all rounds -> the table, and what was promised beside what was measured."""

import statistics
from collections.abc import Callable
from typing import Any

Results = dict[str, Any]
OURS, USUAL, TRITON, ENGINE = "cxr-serve", "usual way", "Triton", "engine alone"
METHODS = {
    "predict": "Predict",
    "explain": "Explain",
    "explain_again": "Explain after Predict",
}


class Missing(Exception):
    """A claim's number was not measured in this run."""


def value(
    results: Results, system: str, kind: str, method: str, callers: int, what: str = "per_s"
) -> float:
    """Median over all windows of one number of one cell. Raises Missing."""
    return statistics.median(_each(results, system, kind, method, callers, what))


def ratio(results: Results, over: tuple[Any, ...], under: tuple[Any, ...]) -> float:
    """Ratio of two cells' numbers: the median, over the windows taken side by side, of theirs."""
    pairs = zip(_each(results, *over), _each(results, *under), strict=True)
    return statistics.median(top / bottom for top, bottom in pairs)


def of_engine(
    results: Results, system: str, kind: str, method: str, callers: int, what: str = "per_s"
) -> float:
    """Ratio of a cell's number to the engine's own, measured beside it."""
    cell = (kind, method, callers, what)
    return ratio(results, (system, *cell), (ENGINE, *cell))


def text(results: Results) -> str:
    """Return the whole report."""
    lines = [_heading(results), ""]
    lines += [*_engine(results), ""]
    for kind in results["kinds"]:
        lines += [*_table(results, kind), ""]
    lines += [*_starting(results), ""]
    if OURS in results["systems"]:
        lines += _claims(results)
    return "\n".join(lines)


def _heading(results: Results) -> str:
    machine, versions = results["machine"], results["versions"]
    images = ", ".join(f"{name} {size / 1e6:.2f} MB" for name, size in results["images"].items())
    return "\n".join(
        [
            f"{machine['processor']}, {machine['cores']} cores, {machine['memory_gib']} GiB, "
            f"{machine['system']}; {len(results['rounds'])} rounds of {results['turns']} turns, "
            f"{results['made']}",
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
        f"{statistics.median(cell['cpu_ms'] for cell in busy):.1f} ms of processor time an image; "
        f"a lone call {statistics.median(alone):.1f} ms ({min(alone):.1f} to {max(alone):.1f})",
        f"other work on the machine meanwhile: median {statistics.median(others):.2f}, "
        f"at most {max(others):.2f} of {results['machine']['cores']} cores",
    ]


def _table(results: Results, kind: str) -> list[str]:
    lines = [
        f"{kind:<24}{'callers':>8}  {'system':<12}{'images/s':>9}{'p50 ms':>9}{'p95 ms':>9}"
        f"{'of engine':>11}{'x usual':>9}{'cpu ms':>9}{'of callers':>12}"
    ]
    seen = []
    for cell in results["rounds"][0]["cells"]:
        key = (cell["kind"], cell["method"], cell["callers"])
        if cell["kind"] != kind or cell["system"] == ENGINE or (cell["system"], key) in seen:
            continue
        seen.append((cell["system"], key))
        row = (results, cell["system"], *key)
        try:
            usual = f"{ratio(results, (cell['system'], *key), (USUAL, *key)):.2f}"
        except Missing:
            usual = ""
        failed = sum(sum(each.get("failures", {}).values()) for each in _cells(results, *row[1:]))
        again = cell["method"] == "explain_again"
        rate = "" if again else f"{value(*row):.2f}"
        share = "" if again else f"{of_engine(*row):.2f}"
        lines.append(
            f"{METHODS[cell['method']]:<24}{cell['callers']:>8}  {cell['system']:<12}"
            f"{rate:>9}{value(*row, 'p50_ms'):>9.1f}{value(*row, 'p95_ms'):>9.1f}"
            f"{share:>11}{usual:>9}{value(*row, 'cpu_ms'):>9.1f}"
            f"{value(*row, 'client_cpu_ms'):>12.1f}{f'  {failed} failed' if failed else ''}"
        )
    return lines


def _starting(results: Results) -> list[str]:
    lines = [f"{'':<14}{'start s':>9}{'MiB at start':>14}{'MiB at end':>12}{'peak MiB':>10}"]
    for system in results["systems"]:
        rounds = results["rounds"]
        numbers = [
            statistics.median(each["starts_s"][system] for each in rounds),
            statistics.median(each["rss_at_start_mib"][system] for each in rounds),
            statistics.median(each["memory_mib"][system]["rss"] for each in rounds),
            max(each["memory_mib"][system]["peak"] for each in rounds),
        ]
        lines.append(
            f"{system:<14}{numbers[0]:>9.2f}{numbers[1]:>14.0f}{numbers[2]:>12.0f}"
            f"{numbers[3]:>10.0f}"
        )
    if load := results.get("memory_under_load"):
        refused = sum(load.get("failures", {}).values())
        lines.append(
            f"{load['callers']} callers with {load['file_bytes'] / 1e6:.1f} MB files for "
            f"{load['seconds']:g} s: peak {load['peak_mib']:.0f} MiB, {load['rss_after_mib']:.0f} "
            f"after ({load['rss_before_mib']:.0f} before); {load['count']} answered, "
            f"{refused} refused for memory or queue"
        )
    return lines


def _claims(results: Results) -> list[str]:
    png, jpeg, _ = results["kinds"]
    most = results["most_callers"]

    def rate(kind: str, method: str, system: str = USUAL) -> Callable[[], float]:
        return lambda: ratio(results, (OURS, kind, method, 4), (system, kind, method, 4))

    def p50(kind: str, method: str, system: str = OURS) -> tuple[Any, ...]:
        return (system, kind, method, 1, "p50_ms")

    rounds = results["rounds"]
    wanted: list[tuple[str, str, float, Callable[[], float]]] = [
        (
            f"Predict, {png}, 4 callers: of the engine's own rate",
            ">=",
            0.85,
            lambda: of_engine(results, OURS, png, "predict", 4),
        ),
        (f"Predict, {png}, 4 callers: x usual way", ">=", 2.0, rate(png, "predict")),
        (
            f"Explain, {png}, 4 callers: of the engine's own rate",
            ">=",
            0.80,
            lambda: of_engine(results, OURS, png, "explain", 4),
        ),
        (f"Explain, {png}, 4 callers: x usual way", ">=", 6.0, rate(png, "explain")),
        (f"Predict, {jpeg}, 4 callers: x usual way", ">=", 3.0, rate(jpeg, "predict")),
        (f"Explain, {jpeg}, 4 callers: x usual way", ">=", 6.0, rate(jpeg, "explain")),
        (
            f"Predict, {png}, 1 caller: p50 / Triton's",
            "<=",
            1.0,
            lambda: ratio(results, p50(png, "predict"), p50(png, "predict", TRITON)),
        ),
        (f"Predict, {png}, 4 callers: x Triton", ">=", 1.1, rate(png, "predict", TRITON)),
        (f"Predict, {jpeg}, 4 callers: x Triton", ">=", 1.4, rate(jpeg, "predict", TRITON)),
        (
            f"Predict, {png}, 1 caller: p50 / engine's lone call",
            "<=",
            1.3,
            lambda: of_engine(results, *p50(png, "predict")),
        ),
        (
            f"Explain after Predict, {png}: p50 / Predict's",
            "<=",
            0.35,
            lambda: ratio(results, p50(png, "explain_again"), p50(png, "predict")),
        ),
        (
            "from process start to SERVING, s",
            "<=",
            2.0,
            lambda: statistics.median(each["starts_s"][OURS] for each in rounds),
        ),
        (
            "resident memory when it serves, MB",
            "<=",
            400.0,
            lambda: 1.048576 * statistics.median(each["rss_at_start_mib"][OURS] for each in rounds),
        ),
        (
            f"Predict, {png}: of the engine's rate, {most} callers / 4",
            ">=",
            0.95,
            lambda: (
                of_engine(results, OURS, png, "predict", most)
                / of_engine(results, OURS, png, "predict", 4)
            ),
        ),
    ]
    lines = [f"{'claim':<58}{'target':>10}{'measured':>10}"]
    for claim, relation, target, number in wanted:
        try:
            measured = number()
        except Missing:
            lines.append(f"{claim:<58}{relation:>5}{target:>5g}{'-':>10}  not in this run")
            continue
        met = measured >= target if relation == ">=" else measured <= target
        verdict = "met" if met else "NOT MET"
        lines.append(f"{claim:<58}{relation:>5}{target:>5g}{measured:>10.2f}  {verdict}")
    return lines


def _cells(
    results: Results, system: str, kind: str, method: str, callers: int
) -> list[dict[str, Any]]:
    wanted = (system, kind, method, callers)
    return [
        cell
        for each in results["rounds"]
        for cell in each["cells"]
        if (cell["system"], cell["kind"], cell["method"], cell["callers"]) == wanted
    ]


def _each(
    results: Results, system: str, kind: str, method: str, callers: int, what: str = "per_s"
) -> list[float]:
    found = [
        float(cell[what])
        for cell in _cells(results, system, kind, method, callers)
        if cell[what] is not None
    ]
    if len(found) != len(results["rounds"]) * results["turns"]:
        raise Missing
    return found
