"""Render: heat map (and radiograph) -> PNG. The last step of Explain."""

from dataclasses import dataclass
from enum import StrEnum
from functools import lru_cache

import numpy as np
from PIL import Image

from cxr_server.explanation.colormaps import ColorMap, colors
from cxr_server.explanation.encode import encode_png
from cxr_server.explanation.heatmap import HeatMap, Scale
from cxr_server.explanation.legend import add_legend
from cxr_server.geometry import Box
from cxr_server.imaging.radiograph import Pixels

OPAQUE_FROM = 0.5
"""Heat from which an overlay has its full opacity; below, the opacity follows the heat. Half of
the highest heat is also where a region ends."""


class RenderKind(StrEnum):
    """What to draw; see `RenderKind` in the contract."""

    OVERLAY = "OVERLAY"
    HEATMAP = "HEATMAP"
    NONE = "NONE"


class Frame(StrEnum):
    """The frame to draw in; see `RenderFrame` in the contract."""

    MODEL_INPUT = "MODEL_INPUT"
    ORIGINAL = "ORIGINAL"


@dataclass(frozen=True, slots=True)
class RenderOptions:
    """How to draw a map, within the contract's ranges."""

    kind: RenderKind = RenderKind.OVERLAY
    frame: Frame = Frame.MODEL_INPUT
    color_map: ColorMap = ColorMap.INFERNO
    opacity: float = 0.5
    legend: bool = False
    max_side_px: int = 1024
    scale: Scale = Scale.PER_MAP


@dataclass(frozen=True, slots=True)
class Canvas:
    """What all maps of one image are drawn on; made once for them.

    Attributes:
        size: Width and height of the picture.
        heat_box: Left, upper, right and lower edge of what carries heat, in the picture.
        under: The radiograph, RGB of that size, or None where heat alone is drawn.
    """

    size: tuple[int, int]
    heat_box: tuple[int, int, int, int]
    under: Image.Image | None


def canvas(
    options: RenderOptions, shape_hw: tuple[int, int], crop: Box, pixels_hw: Pixels | None
) -> Canvas:
    """Size a picture, and shrink what lies under the heat to it, averaging; never enlarge it.

    Args:
        options: How to draw.
        shape_hw: Height and width of the frame.
        crop: What the network saw, as a box in the frame.
        pixels_hw: The frame's own pixels, uint8 or uint16; None for heat alone.
    """
    height_px, width_px = shape_hw
    factor = min(1.0, options.max_side_px / max(shape_hw))
    width, height = max(1, round(width_px * factor)), max(1, round(height_px * factor))
    scale_x, scale_y = width / width_px, height / height_px
    left, top = round(crop.x_px * scale_x), round(crop.y_px * scale_y)
    right = max(left + 1, round((crop.x_px + crop.width_px) * scale_x))
    bottom = max(top + 1, round((crop.y_px + crop.height_px) * scale_y))
    under = None
    if pixels_hw is not None:
        under = Image.fromarray(_eight_bits(pixels_hw))
        if under.size != (width, height):
            under = under.resize((width, height), Image.Resampling.BILINEAR, reducing_gap=2.0)
        under = under.convert("RGB")
    return Canvas((width, height), (left, top, right, bottom), under)


def render(heat: HeatMap, options: RenderOptions, on: Canvas) -> bytes:
    """Draw a heat map as a PNG file.

    An overlay's opacity follows the heat, so that without heat the radiograph shows as is.
    In the original frame, what lies outside the crop carries no heat.

    Args:
        heat: The map.
        options: How to draw it.
        on: What to draw it on; for an overlay, with the radiograph.
    """
    heat_picture = _place_heat(heat, on)
    color_picture = heat_picture.copy()
    color_picture.putpalette(colors(options.color_map).tobytes())
    picture = color_picture.convert("RGB")
    if options.kind is RenderKind.OVERLAY:
        if on.under is None:
            raise ValueError("an overlay needs the radiograph")
        visible = heat_picture.point(_opacities(options.opacity))
        picture = Image.composite(picture, on.under, visible)
    if options.legend:
        picture = add_legend(picture, heat, options.color_map)
    return encode_png(np.asarray(picture))


@lru_cache(maxsize=16)
def _opacities(opacity: float) -> tuple[int, ...]:
    """Return how visible each level of heat is, of 255."""
    return tuple(round(opacity * min(255, level / OPAQUE_FROM)) for level in range(256))


def _eight_bits(pixels_hw: Pixels) -> Pixels:
    """Return pixels as uint8; of 16 bits the upper 8 are kept."""
    if pixels_hw.dtype == np.uint16:
        return np.right_shift(pixels_hw, 8).astype(np.uint8)
    return pixels_hw


def _place_heat(heat: HeatMap, on: Canvas) -> Image.Image:
    """Return the heat as a grey picture of the canvas's size, 0 outside the crop."""
    left, top, right, bottom = on.heat_box
    values = Image.fromarray(np.rint(heat.values_hw * 255).astype(np.uint8))
    if (right - left, bottom - top) != values.size:
        values = values.resize((right - left, bottom - top), Image.Resampling.BILINEAR)
    placed = Image.new("L", on.size)
    placed.paste(values, (left, top))
    return placed
