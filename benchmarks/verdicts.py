"""Verdicts: a number that is to be reached -> whether it was, and if not, whether it can be."""

import math
import statistics
from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass
from functools import partial

from benchmarks.names import BARE, BARE_ISOLATED, OURS
from benchmarks.readout import Missing, quartiles

CHANCE = 0.05
"""Largest chance of so few windows that reach a goal, if a yardstick's median were the goal."""
MOST_OF_WINDOWS = 3 / 4
"""Share of the windows that agree, from which on a table does not call them noisy."""
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
            not measured. Out of reach is what the median of a bare server misses as well, although
            it comes closer than this server, by a sign test of its windows; with isolation, that of
            one that isolates its decoders.
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
    if not yardstick or not claim.holds(statistics.median(yardstick), measured):
        return False
    reached = sum(map(claim.is_reached_by, yardstick))
    return sign_test(reached, len(yardstick)) <= CHANCE


def sign_test(reached: int, count: int) -> float:
    """Return the chance of so few windows that reach a goal, or fewer, if the median were the goal.

    The lower tail of a binomial distribution with p = 1/2 (Dixon and Mood, The statistical sign
    test, Journal of the American Statistical Association 41, 1946).
    """
    return float(sum(math.comb(count, few) for few in range(reached + 1)) / 2**count)


def _of(name: str, claim: Claim, yardstick: list[float]) -> list[str]:
    if not yardstick:
        return []
    verb = "reaches" if claim.relation == ">=" else "takes"
    reached = sum(map(claim.is_reached_by, yardstick))
    parts = [quartiles(yardstick), f"the goal in {reached} of {len(yardstick)} windows"]
    return [f"{name} {verb} {statistics.median(yardstick):.2f} ({', '.join(filter(None, parts))})"]


def _room(claim: Claim) -> list[str]:
    with suppress(Missing):
        return [claim.room()] if claim.room else []
    return []
