"""Verdicts: a number that is to be reached -> whether it was, and if not, whether it can be."""

import statistics
from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass
from functools import partial

from benchmarks.names import BARE, BARE_ISOLATED, OURS
from benchmarks.readout import Missing, quartiles

MOST_OF_WINDOWS = 3 / 4
"""Share of the windows that must agree, for the noise not to decide."""
LEAST_WINDOWS = 3
"""Of a yardstick, for its windows to show that a goal is out of reach."""
Numbers = Callable[[], list[float]]
"""Returns a number of each window. Raises Missing."""


def with_yardsticks(of: Callable[[str], list[float]]) -> tuple[Numbers, Numbers, Numbers]:
    """Return the numbers of this server and of the bare ones, given those `of` a system."""
    return partial(of, OURS), partial(of, BARE), partial(of, BARE_ISOLATED)


@dataclass(frozen=True, slots=True)
class Claim:
    """A number that is to be at least, or at most, a target.

    Attributes:
        what: The number, in words.
        relation: ">=" or "<=".
        target: What it is compared with.
        numbers: What was measured, of which the median counts.
        bare: The same of the bare server, in windows of the same turns.
        isolated: The same of the bare server that isolates its decoders.
        room: Says how much room there is, if the systems share work. Raises Missing.
    """

    what: str
    relation: str
    target: float
    numbers: Numbers
    bare: Numbers | None = None
    isolated: Numbers | None = None
    room: Callable[[], str] | None = None

    def is_reached_by(self, number: float) -> bool:
        """Return whether a number is as it is to be."""
        return self.holds(number, self.target)

    def holds(self, number: float, other: float) -> bool:
        """Return whether a number is at least, or at most, another."""
        return number >= other if self.relation == ">=" else number <= other

    def share_reached(self, numbers: list[float]) -> float:
        """Return the share of windows that reach the target."""
        return statistics.fmean(map(self.is_reached_by, numbers))


@dataclass(frozen=True, slots=True)
class Verdict:
    """What became of a claim.

    Attributes:
        claim: The claim.
        measured: The median; None if it is not part of the run, and `note` says why.
        quartiles: In words.
        word: "met", "not met", "out of reach" or "out of reach with isolation"; nothing if it was
            not measured. Out of reach is what most windows of a bare server miss as well, which
            comes closer than this server; with isolation, those of one that isolates its decoders.
        note: What else there is to say.
    """

    claim: Claim
    measured: float | None = None
    quartiles: str = ""
    word: str = ""
    note: str = ""


def verdict(claim: Claim) -> Verdict:
    """Compare a claim with what was measured."""
    try:
        found = claim.numbers()
    except Missing as why:
        return Verdict(claim, note=str(why))
    measured, notes = statistics.median(found), _noise(claim, found)
    word = "met"
    if not claim.is_reached_by(measured):
        bare, isolated = _windows(claim.bare), _windows(claim.isolated)
        word = "not met"
        if _is_out_of_reach(claim, measured, bare):
            word = "out of reach"
        elif _is_out_of_reach(claim, measured, isolated):
            word = "out of reach with isolation"
        notes += [*_of("a bare server", claim, bare), *_of("with isolation, it", claim, isolated)]
        notes += _room(claim)
    return Verdict(claim, measured, quartiles(found), word, "; ".join(notes))


def _noise(claim: Claim, found: list[float]) -> list[str]:
    """Say that the windows do not agree."""
    share = claim.share_reached(found)
    if not 1 - MOST_OF_WINDOWS < share < MOST_OF_WINDOWS:
        return []
    return [f"within the noise, {share * len(found):.0f} of {len(found)} windows reach it"]


def _windows(numbers: Numbers | None) -> list[float]:
    with suppress(Missing):
        return numbers() if numbers else []
    return []


def _is_out_of_reach(claim: Claim, measured: float, yardstick: list[float]) -> bool:
    if len(yardstick) < LEAST_WINDOWS or not claim.holds(statistics.median(yardstick), measured):
        return False
    return claim.share_reached(yardstick) <= 1 - MOST_OF_WINDOWS


def _of(name: str, claim: Claim, yardstick: list[float]) -> list[str]:
    if not yardstick:
        return []
    verb = "reaches" if claim.relation == ">=" else "takes"
    spread = f" ({quartiles(yardstick)})" if len(yardstick) > 2 else ""
    return [f"{name} {verb} {statistics.median(yardstick):.2f}{spread}"]


def _room(claim: Claim) -> list[str]:
    with suppress(Missing):
        return [claim.room()] if claim.room else []
    return []
