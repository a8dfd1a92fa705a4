"""Render: heat map (and radiograph) -> PNG. The last step of Explain."""

from dataclasses import dataclass
from enum import StrEnum

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from cxr_server.pipeline.colormaps import ColorMap, colors
from cxr_server.pipeline.decode import Radiograph
from cxr_server.pipeline.encode import encode_png
from cxr_server.pipeline.explain import HeatMap, Scale
from cxr_server.pipeline.fit import Box
from cxr_server.pipeline.legend import add_legend

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


def render(
    heat: HeatMap,
    options: RenderOptions,
    *,
    model_input_hw: NDArray[np.uint8],
    radiograph: Radiograph | None,
    crop: Box,
) -> bytes:
    """Draw a heat map as a PNG file, empty for `RenderKind.NONE`.

    An overlay's opacity follows the heat, so that without heat the radiograph shows as is.
    In the original frame, what lies outside the crop carries no heat.

    Args:
        heat: The map.
        options: How to draw it.
        model_input_hw: What the network saw, uint8 [side, side]; for the frame MODEL_INPUT.
        radiograph: The upright original; for the frame ORIGINAL alone.
        crop: What the network saw, as a box in the original.
    """
    if options.kind is RenderKind.NONE:
        return b""
    if options.frame is Frame.MODEL_INPUT:
        under = Image.fromarray(model_input_hw)
        crop = Box(0, 0, under.width, under.height)
    else:
        if radiograph is None:
            raise ValueError("the frame ORIGINAL needs the radiograph")
        under = _eight_bits(radiograph)
    frame_size = under.size
    under = _reduced(under, options.max_side_px)
    heat_picture = _place_heat(heat, frame_size, under.size, crop)
    color_picture = heat_picture.copy()
    color_picture.putpalette(colors(options.color_map).tobytes())
    picture = color_picture.convert("RGB")
    if options.kind is RenderKind.OVERLAY:
        visible = [round(options.opacity * min(255, level / OPAQUE_FROM)) for level in range(256)]
        picture = Image.composite(picture, under.convert("RGB"), heat_picture.point(visible))
    if options.legend:
        picture = add_legend(picture, heat, options.color_map)
    return encode_png(np.asarray(picture))


def _eight_bits(radiograph: Radiograph) -> Image.Image:
    """Return the original as an 8-bit picture; 16 bits keep their upper 8."""
    pixels_hw = radiograph.pixels_hw
    if pixels_hw.dtype == np.uint16:
        pixels_hw = np.right_shift(pixels_hw, 8).astype(np.uint8)
    return Image.fromarray(pixels_hw)


def _reduced(picture: Image.Image, max_side_px: int) -> Image.Image:
    """Shrink a picture to a longest side, averaging; never enlarge it."""
    factor = max_side_px / max(picture.size)
    if factor >= 1:
        return picture
    width, height = (max(1, round(side * factor)) for side in picture.size)
    return picture.resize((width, height), Image.Resampling.BILINEAR, reducing_gap=2.0)


def _place_heat(
    heat: HeatMap, frame_size: tuple[int, int], size: tuple[int, int], crop: Box
) -> Image.Image:
    """Return the heat as a grey picture of the drawn size, 0 outside the crop."""
    scale_x, scale_y = size[0] / frame_size[0], size[1] / frame_size[1]
    left, top = round(crop.x_px * scale_x), round(crop.y_px * scale_y)
    right = max(left + 1, round((crop.x_px + crop.width_px) * scale_x))
    bottom = max(top + 1, round((crop.y_px + crop.height_px) * scale_y))
    values = Image.fromarray(np.rint(heat.values_hw * 255).astype(np.uint8))
    if (right - left, bottom - top) != values.size:
        values = values.resize((right - left, bottom - top), Image.Resampling.BILINEAR)
    placed = Image.new("L", size)
    placed.paste(values, (left, top))
    return placed
