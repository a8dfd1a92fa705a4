"""Markdown: rows of tables, and numbers as they stand in them."""

from benchmarks.readout import Missing, Results, value

LEAST_MS = 0.05
"""Of a thread, for it to be shown."""


def head(*names: str) -> list[str]:
    """Return the two lines above a table."""
    return [row(names[0], list(names[1:])), f"|{'---|' * len(names)}"]


def row(name: str, shown: list[str]) -> str:
    """Return a line of a table."""
    return f"| {name} | {' | '.join(shown)} |"


def px(kind: str) -> str:
    """Return the name of a kind of image, with its unit."""
    side, file_format, *more = kind.split(" ")
    return " ".join([f"{side} px {file_format}", *(f"({each})" for each in more)])


def ms(taken_ms: float | None) -> str:
    """Return a time; nothing if it is not worth showing."""
    return f"{taken_ms:.1f}" if taken_ms and taken_ms >= LEAST_MS else ""


def median(results: Results, system: str, cell: tuple[str, str, int, str], digits: int) -> str:
    """Return the median of a cell; nothing if it was not measured."""
    try:
        return f"{value(results, system, *cell):.{digits}f}"
    except Missing:
        return ""
