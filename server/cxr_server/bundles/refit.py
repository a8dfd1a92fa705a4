"""Refit: what a manifest says of operating points and calibrations that were fitted to films."""

import math
from bisect import bisect_right
from itertools import pairwise
from typing import Annotated, Literal

import msgspec
from msgspec import Meta

from cxr_server.bundles.fields import Identifier, Label, Line, Sha256

Share = Annotated[float, Meta(ge=0.0, le=1.0)]
Count = Annotated[int, Meta(ge=0, le=1 << 40)]
Threshold = Annotated[float, Meta(gt=0.0, lt=1.0)]
CalibrationMethod = Literal["platt", "isotonic"]


class Platt(
    msgspec.Struct, frozen=True, forbid_unknown_fields=True, tag_field="method", tag="platt"
):
    """sigmoid(slope * logit + intercept)."""

    slope: Annotated[float, Meta(gt=0.0, le=1e6)]
    intercept: Annotated[float, Meta(ge=-1e6, le=1e6)]

    def probability(self, logit: float) -> float:
        """Return the calibrated probability of a logit."""
        return 1 / (1 + math.exp(min(-(self.slope * logit + self.intercept), 700.0)))


class Isotonic(
    msgspec.Struct, frozen=True, forbid_unknown_fields=True, tag_field="method", tag="isotonic"
):
    """A rising curve through points, linear between and constant beyond them. Raises ValueError."""

    logits: Annotated[tuple[float, ...], Meta(min_length=1, max_length=10_000)]
    probabilities: tuple[Share, ...]

    def __post_init__(self) -> None:
        if len(self.logits) != len(self.probabilities):
            raise ValueError("an isotonic calibration needs a probability for each logit")
        for values in (self.logits, self.probabilities):
            if any(not low <= high for low, high in pairwise(values)):
                raise ValueError("an isotonic calibration must rise")

    def probability(self, logit: float) -> float:
        """Return the calibrated probability of a logit."""
        above = bisect_right(self.logits, logit)
        if above in (0, len(self.logits)):
            return self.probabilities[max(above - 1, 0)]
        x0, x1 = self.logits[above - 1 : above + 1]
        y0, y1 = self.probabilities[above - 1 : above + 1]
        return y0 + (y1 - y0) * (logit - x0) / (x1 - x0)


class Estimate(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """A share with its 95 % interval."""

    value: Share
    low: Share
    high: Share


class CalibrationFigures(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """How far a probability can be read as one; see `CalibrationFigures` in the contract."""

    brier_score: Share
    expected_calibration_error: Share
    slope: float | None


class FittedCalibration(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """A calibration, and what it does to films that it was not fitted to."""

    curve: Platt | Isotonic
    raw: CalibrationFigures
    calibrated: CalibrationFigures


class FindingRefit(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """How a finding was refitted; see `FindingRefit` in the contract."""

    criterion: Line
    parent_threshold: Threshold
    image_count: Count
    positive_count: Count
    sensitivity: Estimate | None = None
    specificity: Estimate | None = None
    kept_reason: Line = ""
    calibration: FittedCalibration | None = None


class PatientSplit(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """How patients, or films without patients, were divided by a hash with a seed."""

    folds: Annotated[int, Meta(ge=2, le=100)] | None
    fit_fraction: Annotated[float, Meta(gt=0.0, lt=1.0)] | None
    seed: int

    def sentence(self, unit: str) -> str:
        """Return it in words; `unit` is "patients" or "images"."""
        if self.folds is not None:
            return (
                f"Cross-fitted in {self.folds} folds of {unit} (seed {self.seed}): figures are of "
                f"{unit} that were not fitted to, the final fit is to all."
            )
        return (
            f"Fitted to {self.fit_fraction:.0%} of the {unit} (seed {self.seed}); "
            "figures are of the others."
        )


class Refit(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """The films and labels of a refitted bundle; see `Refit` in the contract."""

    parent_name: Identifier
    parent_version: Identifier
    parent_sha256: Sha256
    weights_sha256: Sha256
    evaluation_sha256: Sha256
    run_sha256: Sha256
    labels_title: Line
    labels_sha256: Sha256 | None
    image_count: Count
    patient_count: Count | None
    split: PatientSplit
    calibration_method: CalibrationMethod | None
    findings: dict[Label, FindingRefit]

    @property
    def split_sentence(self) -> str:
        """How films that were fitted to are kept apart from those that figures are of."""
        return self.split.sentence("images" if self.patient_count is None else "patients")
