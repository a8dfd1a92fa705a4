"""Figures: the results of an evaluation, as dataclasses that become JSON. Next: report."""

from dataclasses import dataclass

from cxr_client.evaluation.calibration import Calibration
from cxr_client.evaluation.intervals import Estimate

Points = tuple[tuple[float, float], ...]


@dataclass(frozen=True, slots=True, kw_only=True)
class Subgroup:
    """A finding in the images of one level of a column."""

    column: str
    level: str
    n: int
    patients: int | None
    positives: int
    auroc: Estimate
    sensitivity: Estimate
    specificity: Estimate


@dataclass(frozen=True, slots=True, kw_only=True)
class WarningErrors:
    """Errors of a finding (either kind) in images with a warning, and in those without."""

    code: str
    n: int
    errors: int
    with_warning: Estimate
    without_warning: Estimate
    difference: Estimate


@dataclass(frozen=True, slots=True, kw_only=True)
class TypicalityErrors:
    """How well a low typicality predicts errors of a finding, in images that have a typicality."""

    n: int
    errors: int
    auroc: Estimate


@dataclass(frozen=True, slots=True, kw_only=True)
class WorstCase:
    """An error far from the operating point; `line` is that of the run's journal."""

    kind: str
    line: int
    file: str | None
    probability: float
    warnings: tuple[str, ...]


@dataclass(frozen=True, slots=True, kw_only=True)
class Histogram:
    """Counts of images by raw probability in bins of equal width from 0 to 1."""

    positives: tuple[int, ...]
    negatives: tuple[int, ...]


@dataclass(frozen=True, slots=True, kw_only=True)
class FindingFigures:
    """Everything about one finding. `n` images have a label, `missing` have none."""

    finding: str
    n: int
    patients: int | None
    positives: int
    positive_patients: int | None
    negatives: int
    missing: int
    threshold: float
    true_positives: int
    false_negatives: int
    false_positives: int
    true_negatives: int
    auroc: Estimate
    auroc_method: str
    average_precision: Estimate
    sensitivity: Estimate
    specificity: Estimate
    ppv: Estimate
    npv: Estimate
    stated_prevalence: float | None
    ppv_at_stated: Estimate
    npv_at_stated: Estimate
    calibration: Calibration | None
    """Of the raw probability."""

    calibrated: Calibration | None
    """Of the calibrated probability, where the model has one."""

    roc: Points
    precision_recall: Points
    histogram: Histogram
    subgroups: tuple[Subgroup, ...]
    warnings: tuple[WarningErrors, ...]
    typicality: TypicalityErrors | None
    worst: tuple[WorstCase, ...]
