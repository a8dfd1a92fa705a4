"""Frame: where a picture shows the image, and what of it the network saw. Next: render."""

from dataclasses import dataclass

import numpy as np
from numpy.lib.stride_tricks import sliding_window_view
from numpy.typing import NDArray
from PIL import Image, ImageDraw

from cxr_server.explanation.footprint import picture_size
from cxr_server.explanation.options import RenderFrame, RenderKind, RenderOptions
from cxr_server.geometry import Box
from cxr_server.inference.model_input import Evidence

HATCH_GREYS, EDGE_GREY = (200, 40), 208  # the stripes and the gaps between them
HATCH_OPACITY = 0.35  # relative to the full opacity of heat


@dataclass(frozen=True, slots=True)
class Frame:
    """The size of a picture without its legend, and the part that the network saw, in pixels."""

    width_px: int
    height_px: int
    seen: Box

    @property
    def size(self) -> tuple[int, int]:
        """Width and height."""
        return self.width_px, self.height_px

    @property
    def seen_edges(self) -> tuple[int, int, int, int]:
        """Left, upper, right and lower edge of the part that the network saw."""
        left, top = self.seen.x_px, self.seen.y_px
        return left, top, left + self.seen.width_px, top + self.seen.height_px

    @property
    def unseen(self) -> list[tuple[int, int, int, int]]:
        """The rest of the picture, as boxes with left, upper, right and lower edge."""
        (left, top, right, bottom), (width, height) = self.seen_edges, self.size
        around = (
            (0, 0, width, top),
            (0, bottom, width, height),
            (0, top, left, bottom),
            (right, top, width, bottom),
        )
        return [box for box in around if box[0] < box[2] and box[1] < box[3]]


def frame_of(evidence: Evidence, options: RenderOptions) -> Frame:
    """Return the frame of an image's pictures."""
    height_px, width_px = evidence.picture_hw.shape
    crop = Box(0, 0, width_px, height_px)
    if options.frame is RenderFrame.ORIGINAL:
        height_px, width_px = evidence.facts.height_px, evidence.facts.width_px
        crop = evidence.facts.crop
    height, width = picture_size(height_px, width_px, options.max_side_px)
    scale_x, scale_y = width / width_px, height / height_px
    left, right = round(crop.x_px * scale_x), round((crop.x_px + crop.width_px) * scale_x)
    top, bottom = round(crop.y_px * scale_y), round((crop.y_px + crop.height_px) * scale_y)
    return Frame(width, height, Box(left, top, max(1, right - left), max(1, bottom - top)))


def radiograph(
    frame: Frame, evidence: Evidence, options: RenderOptions, whole_hw: NDArray[np.uint8] | None
) -> NDArray[np.uint8]:
    """Return the radiograph in a frame [h, w]; the whole image is given if `needs_whole`."""
    pixels_hw = evidence.picture_hw
    if options.needs_whole:
        if whole_hw is None:
            raise ValueError("a picture of the original image needs its pixels")
        pixels_hw = whole_hw
    if pixels_hw.shape == (frame.height_px, frame.width_px):
        return pixels_hw
    whole = Image.fromarray(pixels_hw)
    return np.asarray(whole.resize(frame.size, Image.Resampling.BILINEAR, reducing_gap=2.0))


def background(
    frame: Frame, evidence: Evidence, options: RenderOptions, whole_hw: NDArray[np.uint8] | None
) -> NDArray[np.uint8]:
    """Return the greys [h, w] that heat is drawn on: the radiograph, or black for heat alone.

    What the network did not see is hatched, and what it saw has an edge, drawn outside of it. Over
    a radiograph the hatching follows the opacity of the heat: at 0 the radiograph shows as is.
    """
    strength = 1.0
    if options.kind is RenderKind.HEATMAP:
        grey_hw = np.zeros((frame.height_px, frame.width_px), np.uint8)
    else:
        strength = options.opacity
        grey_hw = radiograph(frame, evidence, options, whole_hw)
    if frame.unseen and strength:
        return _with_unseen_marked(grey_hw, frame, strength)
    return grey_hw


def _with_unseen_marked(
    grey_hw: NDArray[np.uint8], frame: Frame, strength: float
) -> NDArray[np.uint8]:
    grey = Image.fromarray(grey_hw)
    longest_px, seen = max(frame.size), frame.seen
    period_px, line_px = max(8, longest_px // 24), max(1, longest_px // 512)
    is_stripe = np.arange(frame.width_px + frame.height_px) % period_px < period_px // 4
    stripes = np.where(is_stripe, *HATCH_GREYS).astype(np.uint8)
    # Each row of the picture is a window on the same stripes, one pixel further.
    hatch_hw = sliding_window_view(stripes, frame.width_px)
    for left, top, right, bottom in frame.unseen:
        hatch = Image.fromarray(hatch_hw[top:bottom, left:right].copy())
        under = grey.crop((left, top, right, bottom))
        grey.paste(Image.blend(under, hatch, strength * HATCH_OPACITY), (left, top))
    left, top = seen.x_px - line_px, seen.y_px - line_px
    right, bottom = left + seen.width_px + 2 * line_px, top + seen.height_px + 2 * line_px
    edge = left, top, right - 1, bottom - 1
    ImageDraw.Draw(grey).rectangle(edge, outline=EDGE_GREY, width=line_px)
    return np.asarray(grey)
