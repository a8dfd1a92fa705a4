"""Refit: operating points and calibrations that were fitted to films. Next: description."""

from dataclasses import dataclass
from typing import Self

from cxr.v1 import chest_xray_pb2 as pb
from cxr_client.answer import SameFields


@dataclass(frozen=True, slots=True)
class Estimate(SameFields):
    """A figure with its 95 % interval."""

    value: float
    low: float
    high: float


@dataclass(frozen=True, slots=True)
class CalibrationFigures:
    """How far a probability can be read as one; a slope of 1 is perfect, None where there is none.

    `expected_calibration_error` is that of ten bins between deciles.
    """

    brier_score: float
    expected_calibration_error: float
    slope: float | None

    @classmethod
    def of(cls, figures: pb.CalibrationFigures) -> Self:
        """Convert from the contract."""
        return cls(
            brier_score=figures.brier_score,
            expected_calibration_error=figures.expected_calibration_error,
            slope=figures.slope if figures.HasField("slope") else None,
        )


@dataclass(frozen=True, slots=True, kw_only=True)
class FindingRefit:
    """How a finding was refitted, with figures of films that were not fitted to.

    `kept_reason` says why the operating point is that of the parent; it is empty, and
    `sensitivity` and `specificity` are known, if it was fitted. `raw` and `calibrated` are None if
    the finding has no calibration.
    """

    criterion: str
    parent_threshold: float
    image_count: int
    positive_count: int
    sensitivity: Estimate | None
    specificity: Estimate | None
    kept_reason: str
    raw: CalibrationFigures | None
    calibrated: CalibrationFigures | None

    @classmethod
    def of(cls, refit: pb.FindingRefit) -> Self:
        """Convert from the contract."""

        def estimate(name: str) -> Estimate | None:
            return Estimate.of(getattr(refit, name)) if refit.HasField(name) else None

        def figures(name: str) -> CalibrationFigures | None:
            return CalibrationFigures.of(getattr(refit, name)) if refit.HasField(name) else None

        return cls(
            criterion=refit.criterion,
            parent_threshold=refit.parent_threshold,
            image_count=refit.image_count,
            positive_count=refit.positive_count,
            sensitivity=estimate("sensitivity"),
            specificity=estimate("specificity"),
            kept_reason=refit.kept_reason,
            raw=figures("raw"),
            calibrated=figures("calibrated"),
        )


@dataclass(frozen=True, slots=True, kw_only=True)
class Refit:
    """The films and labels that a model's operating points were fitted to.

    The weights are those of the parent. `patient_count` is None where the labels have no patients;
    `calibration_method` is "platt", "isotonic" or empty.
    """

    parent_name: str
    parent_version: str
    parent_sha256: str
    labels_title: str
    labels_sha256: str
    evaluation_sha256: str
    image_count: int
    patient_count: int | None
    split: str
    calibration_method: str

    @classmethod
    def of(cls, refit: pb.Refit) -> Self:
        """Convert from the contract."""
        return cls(
            parent_name=refit.parent_name,
            parent_version=refit.parent_version,
            parent_sha256=refit.parent_sha256,
            labels_title=refit.labels_title,
            labels_sha256=refit.labels_sha256,
            evaluation_sha256=refit.evaluation_sha256,
            image_count=refit.image_count,
            patient_count=refit.patient_count if refit.HasField("patient_count") else None,
            split=refit.split,
            calibration_method=refit.calibration_method,
        )
