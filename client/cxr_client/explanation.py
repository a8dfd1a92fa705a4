"""Explanation: where the evidence for one finding lies, as a frozen dataclass. Next: results."""

from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Self

from cxr.v1 import chest_xray_pb2 as pb
from cxr_client.answer import Box, Finding, Result, SameFields
from cxr_client.config import StrPath
from cxr_client.enums import ExplanationMethod, RenderFormat
from cxr_client.errors import ProtocolError
from cxr_client.picture import format_of, open_picture, save_picture

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray
    from PIL.Image import Image


@dataclass(frozen=True, slots=True)
class EvidenceGrid:
    """Signed class evidence map in logits: `rows * columns` values, row-major from the top left.

    Positive values support the finding. The grid covers `ImageInfo.crop_box`.
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
        """Return the grid as float32 [rows, columns]. Requires numpy."""
        import numpy as np

        return np.array(self.values, dtype=np.float32).reshape(self.rows, self.columns)


@dataclass(frozen=True, slots=True)
class Peak(SameFields):
    """The highest point of a map, in pixels of the original image; `value` is in [0, 1]."""

    x_px: float
    y_px: float
    value: float


@dataclass(frozen=True, slots=True)
class Region:
    """Where a map exceeds `threshold`: a region of influence, not an outline of disease."""

    box: Box
    peak_value: float
    threshold: float

    @classmethod
    def of(cls, region: pb.Region) -> Self:
        """Convert from the contract."""
        return cls(Box.of(region.box), region.peak_value, region.threshold)


@dataclass(frozen=True, slots=True, kw_only=True, repr=False)
class Explanation(Result):
    """Where the evidence for one finding lies.

    `heatmap` is a PNG or JPEG file; it is empty where no picture was requested. `logit` is the
    logit of the finding: sigmoid(logit) is `finding.probability`. With `no_positive_evidence`,
    nothing in the image supports the finding: there is no peak and no region, and the picture
    carries no heat.
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
            ProtocolError: The picture is neither PNG nor JPEG, or the evidence grid is
                inconsistent.
        """
        if explanation.heatmap and format_of(explanation.heatmap) is None:
            raise ProtocolError("a heatmap in the reply is neither a PNG nor a JPEG file")
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

    @property
    def heatmap_format(self) -> RenderFormat | None:
        """The format of the picture; None where there is none."""
        return format_of(self.heatmap)

    def _repr_png_(self) -> bytes | None:
        """Return the picture for a notebook."""
        return self.heatmap if self.heatmap_format is RenderFormat.PNG else None

    def _repr_jpeg_(self) -> bytes | None:
        """Return the picture for a notebook."""
        return self.heatmap if self.heatmap_format is RenderFormat.JPEG else None

    def image(self) -> "Image":
        """Return the picture as a PIL image. Requires Pillow.

        Raises:
            ValueError: There is no picture.
        """
        return open_picture(self.heatmap)

    def save(self, path: StrPath) -> Path:
        """Write the picture to a file, whole or not at all; return the path of the file.

        Where `path` does not end in a suffix of the picture's format, ".png" or ".jpg" is appended.

        Raises:
            ValueError: There is no picture, or `path` ends in a suffix of the other format.
            OSError: The file cannot be written.
        """
        return save_picture(self.heatmap, path)
