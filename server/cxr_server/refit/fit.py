"""Fit: films -> operating points and calibrations, each reported on films that it has not seen."""

import hashlib
from dataclasses import dataclass
from typing import Self

import numpy as np
from numpy.typing import NDArray

from cxr_server.bundles.refit import (
    CalibrationMethod,
    Estimate,
    FindingRefit,
    FittedCalibration,
    PatientSplit,
)
from cxr_server.refit.calibration import calibrated, figures, fit_curve
from cxr_server.refit.criteria import Criterion, Flags, Floats
from cxr_server.refit.films import Films

LEAST = 10
"""Positives and negatives, in films and in patients, below which nothing is fitted."""

_Z = 1.959963984540054
"""The 97.5 % point of the normal distribution."""

_TOO_FEW = f"fewer than {LEAST} positives or negatives"


@dataclass(frozen=True, slots=True)
class Division:
    """The films [n] of the final fit, and pairs of films to fit to and to report on."""

    final: Flags
    parts: tuple[tuple[Flags, Flags], ...]

    def among(self, films: Flags) -> "Division":
        """Return the division of some of the films."""
        parts = tuple((fit[films], report[films]) for fit, report in self.parts)
        return Division(self.final[films], parts)


@dataclass(frozen=True, slots=True, kw_only=True)
class Labelled:
    """The n films that have a label of one finding."""

    probabilities: Floats
    positive: Flags
    patients: NDArray[np.int64]
    division: Division

    @classmethod
    def of(cls, films: Films, column: int, division: Division) -> Self:
        """Return those of the finding in a column."""
        labels = films.labels[:, column]
        known = ~np.isnan(labels)
        return cls(
            probabilities=films.probabilities[known, column],
            positive=labels[known] == 1,
            patients=films.patients[known],
            division=division.among(known),
        )


def divide(patients: NDArray[np.int64], split: PatientSplit) -> Division:
    """Divide films by their patients [n], in the order of a hash of patient and seed."""
    distinct, index = np.unique(patients, return_inverse=True)
    hashes = [
        hashlib.blake2b(f"{split.seed}:{patient}".encode(), digest_size=8).digest()
        for patient in distinct.tolist()
    ]
    places = np.empty(len(distinct), np.int64)
    places[np.argsort(np.array(hashes, "S8"), kind="stable")] = np.arange(len(distinct))
    place = places[index]
    if split.folds is None:
        assert split.fit_fraction is not None
        fit = place < round(split.fit_fraction * len(distinct))
        return Division(fit, ((fit, ~fit),))
    fold = place % split.folds
    pairs = tuple((fold != each, fold == each) for each in range(split.folds))
    return Division(np.ones(len(patients), bool), pairs)


def fit_finding(
    films: Labelled,
    criterion: Criterion,
    method: CalibrationMethod | None,
    parent_threshold: float,
) -> tuple[float, FindingRefit]:
    """Return the operating point of a finding, and how it was found."""
    threshold, kept, calibration = parent_threshold, _TOO_FEW, None
    sensitivity = specificity = None
    if _enough(films):
        kept = f"no operating point reaches {criterion}"
        if found := _operating_point(films, criterion):
            (threshold, sensitivity, specificity), kept = found, ""
        if method:
            calibration = _calibration(films, method)
    refit = FindingRefit(
        criterion=str(criterion),
        parent_threshold=parent_threshold,
        image_count=len(films.positive),
        positive_count=int(films.positive.sum()),
        sensitivity=sensitivity,
        specificity=specificity,
        kept_reason=kept,
        calibration=calibration,
    )
    return threshold, refit


def _enough(films: Labelled) -> bool:
    """Whether there are `LEAST` of each kind; with a plain split, on either side of it."""
    division = films.division
    sides = division.parts[0] if len(division.parts) == 1 else (division.final,)
    counted = [
        len(np.unique(films.patients[side & (films.positive == kind)]))
        for side in sides
        for kind in (True, False)
    ]
    both = all(0 < films.positive[fit].mean() < 1 for fit, _ in division.parts if fit.any())
    return min(counted) >= LEAST and both


def _operating_point(
    films: Labelled, criterion: Criterion
) -> tuple[float, Estimate, Estimate] | None:
    """Return the operating point with sensitivity and specificity; None if a fit has none."""
    above = np.zeros(len(films.positive), bool)
    reported = np.zeros(len(films.positive), bool)
    for fit, report in films.division.parts:
        point = criterion.threshold(films.probabilities[fit], films.positive[fit])
        if point is None:
            return None
        above[report] = films.probabilities[report] > point
        reported |= report
    last = films.division.final
    final = criterion.threshold(films.probabilities[last], films.positive[last])
    if final is None:
        return None
    hits = reported & films.positive
    others = reported & ~films.positive
    return (
        final,
        clustered_wilson(above[hits], films.patients[hits]),
        clustered_wilson(~above[others], films.patients[others]),
    )


def _calibration(films: Labelled, method: CalibrationMethod) -> FittedCalibration | None:
    after = np.full(len(films.positive), np.nan)
    for fit, report in films.division.parts:
        curve = fit_curve(method, films.probabilities[fit], films.positive[fit])
        if curve is None:
            return None
        after[report] = calibrated(curve, films.probabilities[report])
    final = films.division.final
    curve = fit_curve(method, films.probabilities[final], films.positive[final])
    if curve is None:
        return None
    reported = ~np.isnan(after)
    raw, positive = films.probabilities[reported], films.positive[reported]
    return FittedCalibration(curve, figures(raw, positive), figures(after[reported], positive))


def clustered_wilson(right: Flags, patients: NDArray[np.int64]) -> Estimate:
    """Return the share of `right` [n > 0] with Wilson's interval for films of patients [n].

    n is divided by the design effect of several films of a patient: Rao and Scott, A simple method
    for the analysis of clustered binary data, Biometrics 1992. Where all or none are right, a
    patient counts as one.
    """
    n, share = len(right), float(right.mean())
    _, index = np.unique(patients, return_inverse=True)
    sizes = np.bincount(index)
    count = len(sizes)
    if share in (0.0, 1.0):
        return _wilson(share, count)
    residuals = np.bincount(index, right) - share * sizes
    variance = count / max(count - 1, 1) * float((residuals**2).sum()) / n**2
    return _wilson(share, n / max(variance * n / (share * (1 - share)), 1.0))


def _wilson(share: float, n: float) -> Estimate:
    z2 = _Z * _Z / n
    centre = (share + z2 / 2) / (1 + z2)
    half = _Z * np.sqrt(share * (1 - share) / n + z2 / (4 * n)) / (1 + z2)
    return Estimate(share, max(float(centre - half), 0.0), min(float(centre + half), 1.0))
