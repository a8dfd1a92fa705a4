"""Text: values, file names and messages -> text that is safe to print."""

from collections.abc import Sequence
from ctypes import c_float


def printable(text: object) -> str:
    """Return a text without line breaks and control characters, which can control a terminal.

    File names and messages of a server are untrusted; names that are not UTF-8 are escaped.
    """
    plain = str(text).encode("utf-8", "backslashreplace").decode()
    return "".join(char if char.isprintable() else " " for char in plain)


def aligned(rows: Sequence[Sequence[str]]) -> list[str]:
    """Return the rows as lines of aligned columns; columns of numbers are aligned to the right."""
    texts = [[printable(cell) for cell in row] for row in rows]
    columns = list(zip(*texts, strict=True))
    widths = [max(map(len, column)) for column in columns]
    right = [all(_is_number(cell) for cell in column[1:] if cell) for column in columns]
    return [
        "  ".join(
            cell.rjust(width) if to_right else cell.ljust(width)
            for cell, width, to_right in zip(row, widths, right, strict=True)
        ).rstrip()
        for row in texts
    ]


def shortest(number: float) -> float:
    """Return the number with the fewest digits that is the same float32.

    The contract's numbers are float32: 0.9957862496376038 is 0.99578625. A number that is no
    float32 is returned unchanged.
    """
    for digits in (6, 7, 8, 9):
        candidate = float(f"{number:.{digits}g}")
        if c_float(candidate).value == number:
            return candidate
    return number


def duration(seconds: float) -> str:
    """Return a duration as "42 s", "3:07" (minutes) or "1:02:03" (hours)."""
    minutes, rest = divmod(round(seconds), 60)
    if not minutes:
        return f"{rest} s"
    hours, minutes = divmod(minutes, 60)
    return f"{hours}:{minutes:02}:{rest:02}" if hours else f"{minutes}:{rest:02}"


def _is_number(text: str) -> bool:
    try:
        float(text)
    except ValueError:
        return False
    return True
