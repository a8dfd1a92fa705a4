"""Results: replies of Predict and Explain -> frozen dataclasses. Next: the caller."""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Self

from cxr.v1 import chest_xray_pb2 as pb
from cxr_client.answer import Box, Caution, Finding, ImageInfo, ModelInfo, SameFields, Timing
from cxr_client.channel import StrPath
from cxr_client.enums import ExplanationMethod
from cxr_client.errors import ProtocolError

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

_PNG_SIGNATURE = b"\x89PNG\r\n\x1a\n"


@dataclass(frozen=True, slots=True, kw_only=True)
class Prediction:
    """The findings of one radiograph, best first.

    `notice` is a sentence on the permitted use: show it wherever results are shown.
    """

    findings: tuple[Finding, ...]
    model: ModelInfo
    image_info: ImageInfo
    warnings: tuple[Caution, ...]
    timing: Timing
    request_id: str
    notice: str

    @classmethod
    def of(cls, response: pb.PredictResponse, request_id: str) -> Self:
        """Convert from the contract.

        Raises:
            ProtocolError: The reply lacks what every reply has.
        """
        if not (response.findings and response.HasField("model")):
            raise ProtocolError("the reply to Predict has no findings or no model")
        return cls(
            findings=tuple(Finding.of(finding) for finding in response.findings),
            model=ModelInfo.of(response.model),
            image_info=ImageInfo.of(response.image_info),
            warnings=tuple(Caution.of(warning) for warning in response.warnings),
            timing=Timing.of(response.timing),
            request_id=response.request_id or request_id,
            notice=response.notice,
        )


@dataclass(frozen=True, slots=True)
class EvidenceGrid:
    """Signed evidence in logits, `rows * columns` values row by row from the top.

    Positive speaks for the finding. The grid covers `ImageInfo.crop_box`.
    """

    rows: int
    columns: int
    values: tuple[float, ...]

    @classmethod
    def of(cls, grid: pb.EvidenceGrid) -> Self:
        """Convert from the contract.

        Raises:
            ProtocolError: The number of values is not `rows * columns`.
        """
        if len(grid.values) != grid.rows * grid.columns or not grid.values:
            raise ProtocolError(
                f"an evidence grid of {grid.rows} x {grid.columns} has {len(grid.values)} values"
            )
        return cls(grid.rows, grid.columns, tuple(grid.values))

    def to_numpy(self) -> "NDArray[np.float32]":
        """Return the grid as float32 [rows, columns]; needs numpy to be installed."""
        import numpy as np

        return np.array(self.values, dtype=np.float32).reshape(self.rows, self.columns)


@dataclass(frozen=True, slots=True)
class Peak(SameFields):
    """The highest point of a map, in original pixels; `value` in [0, 1]."""

    x_px: float
    y_px: float
    value: float


@dataclass(frozen=True, slots=True)
class Region:
    """Where a map is above `threshold`: a region of influence, not an outline of disease."""

    box: Box
    peak_value: float
    threshold: float

    @classmethod
    def of(cls, region: pb.Region) -> Self:
        """Convert from the contract."""
        return cls(Box.of(region.box), region.peak_value, region.threshold)


@dataclass(frozen=True, slots=True, kw_only=True)
class Explanation:
    """Where one finding's evidence lies.

    `logit` is the finding's logit: sigmoid(logit) is `finding.probability`.
    With `no_positive_evidence`, nothing in the image speaks for the finding: there is no peak,
    no region, and the picture carries no heat.
    """

    finding: Finding
    heatmap: bytes
    evidence: EvidenceGrid
    logit: float
    peak: Peak | None
    regions: tuple[Region, ...]
    no_positive_evidence: bool
    method: ExplanationMethod

    @classmethod
    def of(cls, explanation: pb.Explanation) -> Self:
        """Convert from the contract.

        Raises:
            ProtocolError: The picture is no PNG, or the evidence grid is inconsistent.
        """
        if explanation.heatmap and not explanation.heatmap.startswith(_PNG_SIGNATURE):
            raise ProtocolError("a heatmap in the reply is not a PNG file")
        return cls(
            finding=Finding.of(explanation.finding),
            heatmap=explanation.heatmap,
            evidence=EvidenceGrid.of(explanation.evidence),
            logit=explanation.logit,
            peak=Peak.of(explanation.peak) if explanation.HasField("peak") else None,
            regions=tuple(Region.of(region) for region in explanation.regions),
            no_positive_evidence=explanation.no_positive_evidence,
            method=ExplanationMethod.of(explanation.method),
        )

    def save(self, path: StrPath) -> Path:
        """Write the picture to a file and return its path.

        Raises:
            ValueError: There is no picture, because none was asked for.
            OSError: The file cannot be written.
        """
        if not self.heatmap:
            raise ValueError("no picture was asked for (RenderKind.NONE)")
        file = Path(path)
        file.write_bytes(self.heatmap)
        return file


@dataclass(frozen=True, slots=True, kw_only=True)
class ExplanationSet:
    """The explanations of one radiograph, one for each requested label, in that order."""

    explanations: tuple[Explanation, ...]
    findings: tuple[Finding, ...]
    model: ModelInfo
    image_info: ImageInfo
    warnings: tuple[Caution, ...]
    timing: Timing
    request_id: str
    notice: str

    @classmethod
    def of(cls, response: pb.ExplainResponse, request_id: str, labels: Sequence[str]) -> Self:
        """Convert from the contract.

        Raises:
            ProtocolError: The reply lacks what every reply has, or explains other findings.
        """
        explanations = tuple(Explanation.of(each) for each in response.explanations)
        explained = [explanation.finding.label for explanation in explanations]
        if not (explanations and response.HasField("model")):
            raise ProtocolError("the reply to Explain has no explanations or no model")
        if labels and explained != list(labels):
            raise ProtocolError("the reply to Explain is about other findings than asked for")
        return cls(
            explanations=explanations,
            findings=tuple(Finding.of(finding) for finding in response.findings),
            model=ModelInfo.of(response.model),
            image_info=ImageInfo.of(response.image_info),
            warnings=tuple(Caution.of(warning) for warning in response.warnings),
            timing=Timing.of(response.timing),
            request_id=response.request_id or request_id,
            notice=response.notice,
        )
