"""Render: HeatMap (over a radiograph) -> picture file. The last step of Explain."""

from dataclasses import dataclass
from enum import StrEnum

import numpy as np
from PIL import Image

from cxr_server.errors import InvalidField
from cxr_server.explanation.colormaps import ColorMap, colors
from cxr_server.explanation.encode import encode_jpeg, encode_png
from cxr_server.explanation.heatmap import HeatMap, HeatScale
from cxr_server.explanation.legend import add_legend
from cxr_server.geometry import Box
from cxr_server.imaging.radiograph import Pixels, Radiograph
from cxr_server.inference.model_input import Evidence

OPAQUE_FROM = 0.5
"""Heat from which an overlay has its full opacity; below, the opacity follows the heat. Regions
end at half of the highest heat as well."""


class RenderKind(StrEnum):
    """What to draw; see `RenderKind` in the contract."""

    OVERLAY = "OVERLAY"
    HEATMAP = "HEATMAP"
    NONE = "NONE"


class RenderFrame(StrEnum):
    """The frame to draw in; see `RenderFrame` in the contract."""

    MODEL_INPUT = "MODEL_INPUT"
    ORIGINAL = "ORIGINAL"


class RenderFormat(StrEnum):
    """Format of the picture; see `RenderFormat` in the contract."""

    PNG = "PNG"
    JPEG = "JPEG"


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

    def __post_init__(self) -> None:
        if not 0.0 <= self.opacity <= 1.0:  # NaN fails as well
            raise InvalidField("opacity must be from 0 to 1", field="render.opacity")
        if not 32 <= self.max_side_px <= 4096:
            raise InvalidField("max_side_px must be from 32 to 4096", field="render.max_side_px")

    @property
    def needs_radiograph(self) -> bool:
        """Whether the pixels of the whole image are drawn."""
        return self.kind is RenderKind.OVERLAY and self.frame is RenderFrame.ORIGINAL


@dataclass(frozen=True, slots=True)
class Backdrop:
    """What all maps of one image are drawn on; made once for them.

    Attributes:
        size: Width and height of the picture.
        heat_box: Left, upper, right and lower edge of the part that carries heat.
        picture: The radiograph, RGB of that size; None to draw heat alone.
    """

    size: tuple[int, int]
    heat_box: tuple[int, int, int, int]
    picture: Image.Image | None


def make_backdrop(
    evidence: Evidence, options: RenderOptions, radiograph: Radiograph | None
) -> Backdrop | None:
    """Return the frame, shrunk to the size of the picture; None where nothing is drawn.

    The radiograph is the whole image, if `options.needs_radiograph`.
    """
    if options.kind is RenderKind.NONE:
        return None
    height_px, width_px = evidence.picture_hw.shape
    crop = Box(0, 0, width_px, height_px)
    if options.frame is RenderFrame.ORIGINAL:
        height_px, width_px = evidence.facts.height_px, evidence.facts.width_px
        crop = evidence.facts.crop
    factor = min(1.0, options.max_side_px / max(height_px, width_px))
    size = width, height = max(1, round(width_px * factor)), max(1, round(height_px * factor))
    scale_x, scale_y = width / width_px, height / height_px
    left, top = round(crop.x_px * scale_x), round(crop.y_px * scale_y)
    right = max(left + 1, round((crop.x_px + crop.width_px) * scale_x))
    bottom = max(top + 1, round((crop.y_px + crop.height_px) * scale_y))
    picture = None
    if options.kind is RenderKind.OVERLAY:
        pixels_hw: Pixels = evidence.picture_hw
        if options.needs_radiograph:
            if radiograph is None:
                raise ValueError("an overlay of the original image needs its pixels")
            pixels_hw = radiograph.pixels_hw
            if pixels_hw.dtype == np.uint16:
                pixels_hw = np.right_shift(pixels_hw, 8).astype(np.uint8)
        picture = Image.fromarray(pixels_hw)
        if picture.size != size:
            picture = picture.resize(size, Image.Resampling.BILINEAR, reducing_gap=2.0)
        picture = picture.convert("RGB")
    return Backdrop(size, (left, top, right, bottom), picture)


def render(heat: HeatMap, options: RenderOptions, backdrop: Backdrop) -> bytes:
    """Draw a heat map as a picture file, on a backdrop made with the same options.

    The opacity of an overlay follows the heat: without heat the radiograph shows as is. Outside
    the crop there is no heat.
    """
    left, top, right, bottom = backdrop.heat_box
    values = Image.fromarray(np.rint(heat.values_hw * 255).astype(np.uint8))
    if values.size != (right - left, bottom - top):
        values = values.resize((right - left, bottom - top), Image.Resampling.BILINEAR)
    levels = Image.new("L", backdrop.size)
    levels.paste(values, (left, top))
    indexed = levels.copy()
    indexed.putpalette(colors(options.color_map).tobytes())
    picture = indexed.convert("RGB")
    if backdrop.picture:
        opacity_of_level = options.opacity * np.minimum(np.arange(256) / OPAQUE_FROM, 255)
        opacity = levels.point(np.rint(opacity_of_level).astype(int).tolist())
        picture = Image.composite(picture, backdrop.picture, opacity)
    if options.legend:
        picture = add_legend(picture, heat, options.color_map)
    encode = encode_jpeg if options.format is RenderFormat.JPEG else encode_png
    return encode(np.asarray(picture))
