"""Readout: numbers of all rounds -> medians and ratios of cells."""

import statistics
from typing import Any

from benchmarks.names import bound_of

Results = dict[str, Any]
Window = dict[str, Any]
METHODS = {
    "predict": "Predict",
    "explain": "Explain",
    "explain_again": "Explain after Predict",
}


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
    return ratios(results, (system, *cell), (bound_of(system), *cell))


def processor(results: Results) -> str:
    """Return the name of the machine's processor without marks."""
    return str(results["machine"]["processor"]).replace("(R)", "").removesuffix(" Processor")


def quartiles(values: list[float]) -> str:
    """Return the first and the third quartile, in words; nothing of less than three values."""
    if len(values) < 3:
        return ""
    low, _, high = statistics.quantiles(values, method="inclusive")
    return f"{low:.2f} to {high:.2f}"


def threads_ms(windows: list[Window]) -> dict[str, float]:
    """Return the medians of threads that take anything worth showing, the engine's at the end."""
    taken = [each["threads_ms"] for each in windows]
    names = dict.fromkeys(name for each in taken for name in each)
    found = {name: statistics.median(each.get(name, 0.0) for each in taken) for name in names}
    shown = sorted(found.items(), key=lambda item: ("engine" in item[0], -item[1]))
    return {name: ms for name, ms in shown if ms >= 0.01}


def windows(
    results: Results, system: str, kind: str, method: str, callers: int
) -> dict[tuple[int, int], Window]:
    """Return the windows of a cell by round and turn."""
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
    cells = windows(results, system, kind, method, callers)
    found = {turn: cell[what] for turn, cell in cells.items()}
    if not found:
        raise Missing("not in this run")
    if None in found.values():
        raise Missing("nothing was answered")
    return found
