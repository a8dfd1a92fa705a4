"""Legend: a colour scale with its limits beside a picture. Used by render."""

from functools import lru_cache

import numpy as np
from PIL import Image, ImageDraw, ImageFont

from cxr_server.explanation.colormaps import ColorMap, colors
from cxr_server.explanation.heatmap import HeatMap

LEAST_HEIGHT_PX = 128
"""Smaller pictures get a taller panel, or the scale would not fit."""
PAPER, INK = (16, 16, 16), (235, 235, 235)


def add_legend(picture: Image.Image, heat: HeatMap, color_map: ColorMap) -> Image.Image:
    """Return the picture with a panel at its right: colour bar, limits and their unit."""
    height = max(picture.height, LEAST_HEIGHT_PX)
    text_px = min(28, max(11, height // 36))
    font = _font(text_px)
    unit = ("logits", "per cell") if heat.in_logits else ("relative", "heat")
    high, low = _number(heat.high), _number(heat.low)
    text_width = max(round(font.getlength(line)) for line in (*unit, high, low))
    gap, line_px = text_px // 2 + 2, text_px + 3
    panel_width = text_width + 2 * gap
    canvas = Image.new("RGB", (picture.width + panel_width, height), PAPER)
    canvas.paste(picture, (0, 0))
    draw = ImageDraw.Draw(canvas)
    middle = picture.width + panel_width / 2
    lines = ((*unit, high), gap), ((low,), height - gap - line_px)
    for texts, top in lines:
        for index, text in enumerate(texts):
            place = (middle, top + index * line_px)
            draw.text(place, text, fill=INK, font=font, anchor="ma")
    bar_top, bar_bottom = gap + 3 * line_px + gap, height - 2 * gap - line_px
    bar_width = max(8, text_px)
    if bar_bottom > bar_top:
        steps = np.linspace(255, 0, bar_bottom - bar_top).round().astype(np.intp)
        bar = np.repeat(colors(color_map)[steps][:, None], bar_width, axis=1)
        left = round(middle - bar_width / 2)
        canvas.paste(Image.fromarray(np.ascontiguousarray(bar)), (left, bar_top))
        draw.rectangle((left - 1, bar_top - 1, left + bar_width, bar_bottom), outline=INK)
    return canvas


@lru_cache(maxsize=16)
def _font(size_px: int) -> ImageFont.ImageFont | ImageFont.FreeTypeFont:
    return ImageFont.load_default(size_px)


def _number(value: float) -> str:
    """Write a limit with three digits that count."""
    return "0" if value == 0 else f"{value:.3g}"
