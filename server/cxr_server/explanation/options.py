"""Render options: what a caller may choose about a picture. Used by all of explanation."""

from dataclasses import dataclass
from enum import StrEnum

from cxr_server.errors import InvalidField
from cxr_server.explanation.colormaps import ColorMap

FIXED_SCALE_LOGITS = 25.0
"""Default of the fixed scale: evidence in logits, about 0.5 of the finding's logit for each cell
of a 7 x 7 grid."""
MIN_SCALE_LOGITS = 10.0
"""No scale is narrower, so that weak evidence is never stretched to full colour: about 0.2 of the
finding's logit for each cell of a 7 x 7 grid. Below a score of 0.1 maps were seen to reach 8, above
0.9 they reached 44 to 104."""
MAX_SCALE_LOGITS = 1000.0


class RenderKind(StrEnum):
    """What to draw; see `RenderKind` in the contract."""

    OVERLAY = "OVERLAY"
    HEATMAP = "HEATMAP"
    NONE = "NONE"
    RADIOGRAPH = "RADIOGRAPH"


class RenderFrame(StrEnum):
    """The frame to draw in; see `RenderFrame` in the contract."""

    MODEL_INPUT = "MODEL_INPUT"
    ORIGINAL = "ORIGINAL"


class RenderFormat(StrEnum):
    """Format of the picture; see `RenderFormat` in the contract."""

    PNG = "PNG"
    JPEG = "JPEG"


class HeatScale(StrEnum):
    """What full colour means; see `HeatScale` in the contract."""

    PER_MAP = "PER_MAP"
    FIXED = "FIXED"


@dataclass(frozen=True, slots=True, kw_only=True)
class RenderOptions:
    """How to draw a map; fields and defaults as in the contract. Raises InvalidField."""

    kind: RenderKind = RenderKind.OVERLAY
    frame: RenderFrame = RenderFrame.MODEL_INPUT
    color_map: ColorMap = ColorMap.INFERNO
    opacity: float = 0.5
    legend: bool = False
    max_side_px: int = 1024
    scale: HeatScale = HeatScale.PER_MAP
    format: RenderFormat = RenderFormat.PNG
    fixed_scale_logits: float | None = None
    contours: bool = False

    def __post_init__(self) -> None:
        if not 0.0 <= self.opacity <= 1.0:  # NaN fails as well
            raise InvalidField("opacity must be from 0 to 1", field="render.opacity")
        if not 32 <= self.max_side_px <= 4096:
            raise InvalidField("max_side_px must be from 32 to 4096", field="render.max_side_px")
        if self.kind is RenderKind.OVERLAY and self.color_map is ColorMap.GRAY:
            raise InvalidField(
                "color_map must be in colour for kind OVERLAY: grey heat looks like anatomy",
                field="render.color_map",
            )
        if self.fixed_scale_logits is None:
            return
        if self.scale is not HeatScale.FIXED:
            raise InvalidField(
                "fixed_scale_logits needs scale FIXED", field="render.fixed_scale_logits"
            )
        if not MIN_SCALE_LOGITS <= self.fixed_scale_logits <= MAX_SCALE_LOGITS:
            raise InvalidField(
                f"fixed_scale_logits must be from {MIN_SCALE_LOGITS:g} to {MAX_SCALE_LOGITS:g}",
                field="render.fixed_scale_logits",
            )

    @property
    def full_scale_logits(self) -> float | None:
        """The evidence of full colour; None if each map has a scale of its own."""
        if self.scale is HeatScale.PER_MAP:
            return None
        return self.fixed_scale_logits or FIXED_SCALE_LOGITS

    @property
    def draws_maps(self) -> bool:
        """Whether there is a picture of each map."""
        return self.kind in (RenderKind.OVERLAY, RenderKind.HEATMAP)

    @property
    def needs_whole(self) -> bool:
        """Whether the pixels of the whole image are drawn."""
        shows_it = self.kind in (RenderKind.OVERLAY, RenderKind.RADIOGRAPH)
        return shows_it and self.frame is RenderFrame.ORIGINAL
