"""Legend: a panel beside a picture that says what it shows. Used by render."""

import math
import unicodedata
from collections.abc import Sequence
from functools import lru_cache

import numpy as np
from numpy.typing import NDArray
from PIL import Image, ImageDraw, ImageFont

from cxr_server.explanation.caption import Caption
from cxr_server.explanation.options import HeatScale
from cxr_server.explanation.regions import REGION_HEIGHT
from cxr_server.geometry import Box
from cxr_server.inference.scoring import Finding

MIN_HEIGHT_PX = 224  # the panel needs this height; smaller pictures are padded below
BACKGROUND, FOREGROUND, FAINT = (16, 16, 16), (235, 235, 235), (170, 170, 170)
BAR_GROUND = 128  # the colours of an overlay are shown over this grey
USE = ("Research only.", "Not for diagnosis.")

_font = lru_cache(maxsize=16)(ImageFont.load_default)


def size_with_legend_px(size_px: tuple[int, int]) -> tuple[int, int]:
    """Return width and height of a picture of that size with its legend.

    The panel's width depends on the height alone, so that it is known before anything is drawn.
    """
    height = max(size_px[1], MIN_HEIGHT_PX)
    return size_px[0] + _panel_width_px(height), height


def add_legend(
    picture: Image.Image,
    caption: Caption,
    heat_over_grey: NDArray[np.uint8],
    *,
    contours: bool,
) -> Image.Image:
    """Return the picture with a panel on its right.

    The panel names finding, score, model and use. Its bar shows the 256 levels of heat as they
    are drawn, of `heat_over_grey` [level, grey, channel], and the scale's limits in their unit.
    """
    width, height = size_with_legend_px(picture.size)
    text_px, panel_width = _text_px(height), _panel_width_px(height)
    left, room_px, line_px = width - panel_width + text_px, panel_width - 2 * text_px, text_px + 2
    panel = Image.new("RGB", (width, height), BACKGROUND)
    panel.paste(picture, (0, 0))

    def write(top: int, lines: Sequence[str], color: tuple[int, int, int]) -> int:
        for line in lines:
            panel.paste(color, (left, top), _line(line, text_px))
            top += line_px
        return top

    finding, model = caption.finding, caption.model
    scale = "fixed scale" if caption.scale is HeatScale.FIXED else "scale of this map"
    if caption.heat.peak_row_column is None:
        scale = "no positive evidence"
    top = write(text_px, _wrapped(_spelt(finding), text_px, room_px), FOREGROUND)
    top = write(top, [f"score {finding.score:.3f}"], FOREGROUND)
    top = write(top, _wrapped(f"{model.name} {model.version}", text_px, room_px), FAINT)
    top = write(top + text_px // 2, [caption.unit, scale], FAINT)
    use_top = height - text_px - len(USE) * line_px
    write(use_top, USE, FOREGROUND)

    # The limits stand beside the bar's ends, so half a line above and below it is theirs.
    bar = Box(left, top + text_px, 2 * text_px, use_top - top - 2 * text_px)
    panel.paste(_bar(heat_over_grey[:, BAR_GROUND, :3], bar), (bar.x_px, bar.y_px))
    _add_limits(panel, bar, caption, text_px)
    if contours and caption.heat.peak_row_column:
        _mark_contours(panel, bar, caption)
    return panel


def _spelt(finding: Finding) -> str:
    """Return the label in the letters that the font has, or the number of the model's output."""
    letters = unicodedata.normalize("NFKD", finding.label)
    label = "".join(letter for letter in letters if not unicodedata.combining(letter))
    return label if label.isascii() else f"finding {finding.class_index}"


def _text_px(height_px: int) -> int:
    return min(24, max(12, height_px // 42))


def _panel_width_px(height_px: int) -> int:
    return 12 * _text_px(height_px)


def _bar(drawn: NDArray[np.uint8], bar: Box) -> Image.Image:
    """Return the colours of the 256 levels, from full heat, at the top, to none."""
    levels = np.rint(np.linspace(255, 0, bar.height_px)).astype(np.intp)
    return Image.fromarray(np.repeat(drawn[levels][:, None], bar.width_px, axis=1))


def _add_limits(panel: Image.Image, bar: Box, caption: Caption, text_px: int) -> None:
    draw, right, bottom = ImageDraw.Draw(panel), bar.x_px + bar.width_px, bar.y_px + bar.height_px
    draw.rectangle((bar.x_px - 1, bar.y_px - 1, right, bottom), outline=FAINT)
    for step, limit in enumerate(caption.limits):
        y, text = bottom - step * bar.height_px // 2, _line(limit, text_px)
        draw.line((right, y, right + text_px // 3, y), fill=FAINT)
        panel.paste(FOREGROUND, (right + text_px // 2, y - text.height // 2), text)


def _mark_contours(panel: Image.Image, bar: Box, caption: Caption) -> None:
    height = REGION_HEIGHT * float(caption.heat.values_hw.max())
    y = bar.y_px + bar.height_px * (1 - height)
    for color, width in (((0, 0, 0), 3), ((255, 255, 255), 1)):
        line = (bar.x_px, y, bar.x_px + bar.width_px - 1, y)
        ImageDraw.Draw(panel).line(line, color, width)


@lru_cache(maxsize=256)  # drawing the text takes longer than the rest of a small legend
def _line(text: str, text_px: int) -> Image.Image:
    """Return a line of text, white on black, as a mask."""
    font = _font(text_px)
    line = Image.new("L", (max(1, math.ceil(font.getlength(text))), round(1.25 * text_px)))
    ImageDraw.Draw(line).text((0, 0), text, fill=255, font=font)
    return line


@lru_cache(maxsize=256)
def _wrapped(text: str, text_px: int, room_px: int) -> tuple[str, ...]:
    """Return a text in two lines at most, broken behind a blank or hyphen where there is one."""
    first = _fitting(text, text_px, room_px)
    if first == len(text):
        return (text,)
    breaks = [at + 1 for at, letter in enumerate(text[:first]) if letter in " -_"]
    first = breaks[-1] if breaks else first
    rest = text[first:].lstrip()
    if _fitting(rest, text_px, room_px) < len(rest):
        rest = rest[: _fitting(rest + "...", text_px, room_px) - 3] + "..."
    return text[:first].rstrip(), rest


def _fitting(text: str, text_px: int, room_px: int) -> int:
    """Return how many letters of a text fit into a line."""
    count = len(text)
    while count > 1 and _font(text_px).getlength(text[:count]) > room_px:
        count -= 1
    return count
