"""Cells: what is measured, on which systems, and how often.

What is close to each other takes more turns: this server, its engine, the bare servers and Triton
tuned. The others are measured with four callers only, and the bare servers with one only for PNG.

Predict takes the most time. With one caller it takes the most turns, since on virtual machines the
engine's lone call may take a third longer for some seconds; with four callers its windows are the
longest, since the servers differ by less than one image in a short window.
"""

from collections.abc import Iterator
from dataclasses import dataclass

from benchmarks.names import (
    AGAINST,
    BARE,
    BARE_ISOLATED,
    BASELINE,
    ENGINE,
    ENGINE_BF16,
    ENGINE_INT8,
    LITSERVE,
    OURS,
    OURS_BF16,
    OURS_INT8,
    TRITON,
    TUNED,
    TUNED_INT8,
)
from benchmarks.radiographs import Kind

OWN = (ENGINE, OURS, AGAINST)
FLOAT32 = (*OWN, TUNED)
REDUCED = (OURS_INT8, OURS_BF16)
REDUCED_ENGINES = (ENGINE_INT8, ENGINE_BF16)
BOTH_INT8 = (OURS_INT8, TUNED_INT8)
YARDSTICKS = (BARE, BARE_ISOLATED)
OTHERS = (TRITON, LITSERVE, BASELINE)

CLOSELY = 2.5
"""Factor on the number of turns of systems that are close to each other."""
LONE_CLOSELY = 5.0
"""The same for Predict with one caller."""
LONG_CLOSELY = 3.0
"""The same for Predict with four."""
LONGER = 3.0
"""Factor on the length of those windows: a camera's JPEG is answered 29 times in 1.2 s, so that one
more or less is 3 %, and servers differ by as much."""


@dataclass(frozen=True, slots=True)
class Cell:
    """A method on a kind of image, called by a number of concurrent callers."""

    kind: str
    method: str
    callers: int


@dataclass(frozen=True, slots=True)
class Wanted:
    """A cell to be measured.

    Attributes:
        cell: The cell.
        near: Systems that are close to each other.
        others: Systems that are measured in the first turns only.
        closely: Factor on the number of turns of those that are near.
        longer: Factor on the length of a window.
        brief: Part of a brief run.
    """

    cell: Cell
    near: tuple[str, ...]
    others: tuple[str, ...] = ()
    closely: float = 1.0
    longer: float = 1.0
    brief: bool = False


def cells(kinds: tuple[Kind, Kind, Kind, Kind], most_callers: int) -> Iterator[Wanted]:
    """Yield what is to be measured of a PNG, two kinds of JPEG and a PNG of 16 bits."""
    png, jpeg, camera, deep = (kind.name for kind in kinds)
    for name in (png, jpeg, camera):
        is_png = name == png
        others = OTHERS if name != camera else ()
        # The rate of an engine alone is the same for all images.
        bounds = REDUCED_ENGINES if is_png else ()
        reduced = (*REDUCED, *bounds)
        lone = (*FLOAT32, *YARDSTICKS) if is_png else FLOAT32
        yield Wanted(Cell(name, "predict", 1), lone, reduced, closely=LONE_CLOSELY, brief=is_png)
        near, far = (*FLOAT32, *YARDSTICKS, *BOTH_INT8), (OURS_BF16, *bounds, *others)
        yield Wanted(
            Cell(name, "predict", 4),
            near,
            far,
            closely=LONG_CLOSELY,
            longer=LONGER,
            brief=is_png,
        )
        for callers in (16, most_callers):
            yield Wanted(Cell(name, "predict", callers), (*FLOAT32, *reduced))
        closely = CLOSELY if is_png else 1.0
        drawing = (*OWN, *YARDSTICKS) if is_png else OWN
        far = (*reduced, *others)
        yield Wanted(Cell(name, "explain", 4), drawing, far, closely=closely, brief=is_png)
    yield Wanted(Cell(png, "explain", 1), OWN, brief=True)
    yield Wanted(Cell(png, "explain", 16), OWN)
    yield Wanted(Cell(png, "explain_again", 1), (OURS,))
    for method in ("predict", "explain"):
        yield Wanted(Cell(deep, method, 4), OWN)
