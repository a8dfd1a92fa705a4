"""Quantization: a model in int8, and how its answers differ. Next: description."""

from dataclasses import dataclass
from typing import Self

from cxr.v1 import chest_xray_pb2 as pb
from cxr_client.answer import SameFields


@dataclass(frozen=True, slots=True, kw_only=True)
class PlantedFindings(SameFields):
    """How well findings are recognised that are planted into phantoms, before and after.

    The AUC is a mean over findings. Pointing is the share of planted findings whose evidence peaks
    within one cell of the finding's mask.
    """

    count: int
    auc_float32: float
    auc_int8: float
    pointing_float32: float
    pointing_int8: float


@dataclass(frozen=True, slots=True, kw_only=True)
class Quantization:
    """How the features of a model were quantised, and how its answers differ from its parent's.

    Differences are of `film_count` films that it was not calibrated with. `films` is "own",
    "phantoms" or "samples". `changed_side_count` findings of films changed side of their operating
    point; `far_changed_side_count` of them were further from it than `tolerance`. `planted` is
    None but for a phantom model that was measured on phantoms.
    """

    parent_name: str
    parent_version: str
    parent_sha256: str
    tool: str
    films: str
    calibration_count: int
    film_count: int
    max_probability_difference: float
    mean_probability_difference: float
    max_score_difference: float
    mean_score_difference: float
    changed_side_count: int
    far_changed_side_count: int
    evidence_correlation: float
    low_evidence_correlation: float
    tolerance: float
    planted: PlantedFindings | None

    @property
    def within_tolerance(self) -> bool:
        """Whether these differences are those that are not refused without the operator's word.

        Those of calibrated probabilities are not among them: a notice of the model tells them.
        """
        close = self.max_probability_difference <= self.tolerance
        return close and not self.far_changed_side_count

    @classmethod
    def of(cls, message: pb.Quantization) -> Self:
        """Convert from the contract."""
        names = (name for name in cls.__dataclass_fields__ if name != "planted")
        return cls(
            **{name: getattr(message, name) for name in names},
            planted=PlantedFindings.of(message.planted) if message.HasField("planted") else None,
        )
