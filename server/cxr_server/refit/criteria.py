"""Criteria: how an operating point is chosen. Next: fit."""

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from cxr_server.errors import OperatorError

Floats = NDArray[np.float64]
Flags = NDArray[np.bool_]

BEST = ("youden", "f1")
"""Criteria that are maximised."""

AT_LEAST = ("sensitivity", "specificity", "ppv", "npv")
"""Criteria with a minimum; the figure that trades off against them is maximised."""

LEAST_CALLED = 10
"""Minimum number of films behind a PPV or NPV."""

_ROUNDING = 1e-12
_OPEN = (1e-12, 1 - 1e-12)
"""Bounds of operating points."""


class CriterionError(OperatorError):
    """An invalid criterion."""

    exit_status = 2


@dataclass(frozen=True, slots=True)
class Criterion:
    """One of `BEST`, or one of `AT_LEAST` with its value."""

    name: str
    value: float | None = None

    def __str__(self) -> str:
        return self.name if self.value is None else f"{self.name}={self.value:g}"

    @classmethod
    def parse(cls, text: str) -> "Criterion":
        """Return the criterion of a text such as "youden" or "sensitivity=0.95".

        Raises CriterionError.
        """
        name, equals, number = text.partition("=")
        if name in BEST and not equals:
            return cls(name)
        if name in AT_LEAST and equals:
            try:
                value = float(number)
            except ValueError:
                value = 0.0
            if 0 < value <= 1:
                return cls(name, value)
        known = ", ".join((*BEST, *(f"{each}=X" for each in AT_LEAST)))
        raise CriterionError(f"there is no criterion {text!r}; X in (0, 1]: {known}")

    def threshold(self, probabilities: Floats, positive: Flags) -> float | None:
        """Return the operating point that meets the criterion, or None if none does.

        It lies half-way between two probabilities, so that rounding moves no film over it. A film
        above it is positive. No other point has both a higher sensitivity and a higher specificity.

        Args:
            probabilities: Raw sigmoid, [n].
            positive: Labels, [n], of both kinds.
        """
        order = np.argsort(-probabilities, kind="stable")
        ranked = probabilities[order]
        last = np.append(np.flatnonzero(np.diff(ranked)), len(ranked) - 1)
        true = np.cumsum(positive[order])[last].astype(np.float64)
        flagged = last + 1.0
        cut = self._cut(true, flagged - true)
        if cut is None:
            return None
        below = ranked[last[cut] + 1] if last[cut] + 1 < len(ranked) else 0.0
        return float(np.clip((ranked[last[cut]] + below) / 2, *_OPEN))

    def _cut(self, true: Floats, false: Floats) -> int | None:
        """Return the index of the point, from true and false positives of each [points]."""
        positives, negatives = true[-1], false[-1]
        if self.value is None:
            if self.name == "youden":
                return int(np.argmax(true / positives - false / negatives))
            return int(np.argmax(2 * true / (true + false + positives)))
        # One film more on the side that counts outweighs all on the other.
        more_true = true - false / (negatives + 1)
        fewer_false = true / (positives + 1) - false
        match self.name:
            case "sensitivity":
                reached, gain = true / positives, fewer_false
            case "specificity":
                reached, gain = 1 - false / negatives, more_true
            case "ppv":
                called = true + false
                reached = np.where(called >= LEAST_CALLED, true / called, 0.0)
                gain = more_true
            case _:
                called = positives + negatives - true - false
                right = (negatives - false) / np.maximum(called, 1)
                reached, gain = np.where(called >= LEAST_CALLED, right, 0.0), fewer_false
        fit = np.flatnonzero(reached >= self.value - _ROUNDING)
        return int(fit[np.argmax(gain[fit])]) if len(fit) else None
