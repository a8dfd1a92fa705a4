"""Legend: a colour bar with its limits beside a picture. Used by render."""

from functools import lru_cache

import numpy as np
from PIL import Image, ImageDraw, ImageFont

from cxr_server.explanation.colormaps import ColorMap, colors
from cxr_server.explanation.heatmap import HeatMap

MIN_HEIGHT_PX = 128  # the colour bar needs this height; smaller pictures are padded below
BACKGROUND, FOREGROUND = (16, 16, 16), (235, 235, 235)

_font = lru_cache(maxsize=16)(ImageFont.load_default)


def add_legend(picture: Image.Image, heat: HeatMap, color_map: ColorMap) -> Image.Image:
    """Return the picture with a panel on its right: colour bar, limits and their unit."""
    height = max(picture.height, MIN_HEIGHT_PX)
    text_px = min(28, max(11, height // 36))
    gap, line_px = text_px // 2 + 2, text_px + 3
    font = _font(text_px)
    unit = ("logits", "per cell") if heat.in_logits else ("relative", "heat")
    above, below = (*unit, f"{heat.high:.3g}"), f"{heat.low:.3g}"
    panel_width = max(round(font.getlength(line)) for line in (*above, below)) + 2 * gap
    panel = Image.new("RGB", (picture.width + panel_width, height), BACKGROUND)
    panel.paste(picture, (0, 0))
    draw = ImageDraw.Draw(panel)
    middle = picture.width + panel_width / 2
    for index, line in enumerate(above):
        draw.text((middle, gap + index * line_px), line, fill=FOREGROUND, font=font, anchor="ma")
    draw.text((middle, height - gap - line_px), below, fill=FOREGROUND, font=font, anchor="ma")
    bar_top, bar_bottom = 2 * gap + 3 * line_px, height - 2 * gap - line_px
    left = round(middle - text_px / 2)
    levels = np.linspace(255, 0, bar_bottom - bar_top).round().astype(np.intp)
    bar = np.repeat(colors(color_map)[levels][:, None], text_px, axis=1)
    panel.paste(Image.fromarray(bar), (left, bar_top))
    draw.rectangle((left - 1, bar_top - 1, left + text_px, bar_bottom), outline=FOREGROUND)
    return panel
