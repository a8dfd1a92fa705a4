"""Table: figures of the report beside those of an independent computation."""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Any


@dataclass(frozen=True, slots=True)
class Pair:
    """A figure, what computed it a second time, and how far the two may differ."""

    figure: str
    finding: str
    by: str
    ours: float
    theirs: float
    tolerance: float

    @property
    def agrees(self) -> bool:
        """Whether they do not differ by more; both may be NaN."""
        if self.ours != self.ours or self.theirs != self.theirs:
            return self.ours != self.ours and self.theirs != self.theirs
        return abs(self.ours - self.theirs) <= self.tolerance


def number(value: Any) -> float:
    """Return a value of the JSON document as a number; NaN for null."""
    return float("nan") if value is None else float(value)


def interval(
    figure: str,
    finding: str,
    by: str,
    ours: dict[str, Any],
    theirs: tuple[float, float],
    tolerance: float,
) -> list[Pair]:
    """Return both ends of an interval as pairs; none where we state none."""
    if ours["low"] is None:
        return []
    ends = zip(("low", "high"), theirs, strict=True)
    return [
        Pair(f"{figure}, {end}", finding, by, number(ours[end]), value, tolerance)
        for end, value in ends
    ]


def markdown(header: Sequence[str], rows: Iterable[Sequence[object]]) -> str:
    """Return a table in Markdown."""
    lines = [header, ["---"] * len(header), *rows]
    return "\n".join(f"| {' | '.join(map(str, line))} |" for line in lines)


def side_by_side(pairs: Sequence[Pair], findings: Sequence[str]) -> str:
    """Return a table: for each figure and finding "ours / theirs"; "!" where they disagree."""
    figures = dict.fromkeys((pair.figure, pair.by) for pair in pairs)
    cells = {(pair.figure, pair.by, pair.finding): pair for pair in pairs}
    rows = []
    for figure, by in figures:
        found = [cells.get((figure, by, finding)) for finding in findings]
        present = [pair for pair in found if pair]
        known = [abs(each.ours - each.theirs) for each in present if each.ours == each.ours]
        texts = [_cell(pair) if pair else "" for pair in found]
        rows.append([figure, by, *texts, f"{max(known, default=0):.1g}"])
    return markdown(["Figure", "Against", *findings, "Greatest difference"], rows)


def _cell(pair: Pair) -> str:
    return f"{'' if pair.agrees else '! '}{pair.ours:.4f} / {pair.theirs:.4f}"
