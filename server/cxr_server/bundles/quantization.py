"""Quantization: what a manifest says of features in int8, measured against those in float32."""

from typing import Annotated, Literal

import msgspec
from msgspec import Meta

from cxr_server.bundles.fields import Identifier, Line, Sha256
from cxr_server.bundles.refit import Count, Share

FilmSource = Literal["own", "phantoms", "samples"]
"""The operator's films, drawings of cxr-phantom, or the drawings that the server ships."""

Correlation = Annotated[float, Meta(ge=-1.0, le=1.0)]


class PlantedFindings(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """Classification and localisation of findings in phantoms; see the contract."""

    count: Annotated[int, Meta(ge=1)]
    auc_float32: Share
    auc_int8: Share
    pointing_float32: Share
    pointing_int8: Share


class Differences(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """How answers in int8 differ from those in float32, over `film_count` films."""

    film_count: Annotated[int, Meta(ge=1)]
    max_probability: Share
    mean_probability: Share
    max_score: Share
    mean_score: Share
    changed_side_count: Count
    """Number of findings, over all films, that changed side of their operating point."""

    far_changed_side_count: Count
    """Number of these that were further from it than the tolerance."""

    evidence_correlation: Correlation
    """Mean over films and findings of Pearson's r over the grid."""

    low_evidence_correlation: Correlation
    """Its 5 % quantile."""

    planted: PlantedFindings | None = None
    max_calibrated_probability: Share | msgspec.UnsetType = msgspec.UNSET
    """Of findings with a calibrated probability, where the bundle has any."""

    mean_calibrated_probability: Share | msgspec.UnsetType = msgspec.UNSET


class Quantization(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """How the features of a bundle were quantised, and what that does to its answers."""

    precision: Literal["int8"] = "int8"
    tool: Line
    parent_name: Identifier
    parent_version: Identifier
    parent_sha256: Sha256
    films: FilmSource
    calibration_count: Annotated[int, Meta(ge=1)]
    differences: Differences
    """Measured on films that were not used for calibration."""

    tolerance: Share
    """Largest allowed difference of a probability, raw or calibrated."""

    probe_tolerance: Share
    """Largest allowed difference of a score of the probe."""

    @property
    def within_tolerance(self) -> bool:
        """Whether the bundle was written without `--accept`."""
        found = self.differences
        close = max(found.max_probability, found.max_calibrated_probability or 0) <= self.tolerance
        return close and not found.far_changed_side_count
