"""Footprint: the memory that the pictures of one Explain take, known before any is drawn."""

import math
from collections.abc import Iterable
from dataclasses import dataclass

from cxr_server.explanation.legend import size_with_legend_px

LARGEST_PICTURE_PX = 4096**2
FILE_BYTES, SENT_BYTES = 3, 6
"""Bytes per pixel of a picture's file (at most RGB), and with the copy that gRPC sends."""
DRAWN_BYTES = 18
"""Bytes per pixel of the picture being drawn: background, layers of heat and colour, legend, the
encoder's rows. 14 were measured, with noise."""
KEPT_BYTES = 2
"""Bytes per pixel of the original image, kept with 8 bits while pictures are drawn."""
NUMBERS_BYTES = 2**14  # size of one explanation without its picture


@dataclass(frozen=True, slots=True)
class Drawing:
    """Pictures of one size; `kept_px` pixels of the original image are kept meanwhile."""

    pictures: int
    height_px: int
    width_px: int
    kept_px: int = 0

    @property
    def drawn_px(self) -> int:
        """Pixels of all pictures, without their legends."""
        return self.pictures * self.height_px * self.width_px

    @property
    def peak_bytes(self) -> int:
        """The most that drawing them takes, and sending them afterwards."""
        one_px = math.prod(size_with_legend_px((self.width_px, self.height_px)))
        all_px = self.pictures * one_px
        drawing_bytes = FILE_BYTES * all_px + DRAWN_BYTES * one_px + KEPT_BYTES * self.kept_px
        return max(drawing_bytes, SENT_BYTES * all_px) + NUMBERS_BYTES * self.pictures


def picture_size(height_px: int, width_px: int, max_side_px: int) -> tuple[int, int]:
    """Return height and width of a picture without its legend; it never exceeds its frame."""
    factor = min(1.0, max_side_px / max(height_px, width_px))
    return max(1, round(height_px * factor)), max(1, round(width_px * factor))


def answer_bytes(file_bytes: Iterable[int]) -> int:
    """Return what an answer with files of these sizes takes until it is sent."""
    return sum(2 * size + NUMBERS_BYTES for size in file_bytes)


def max_drawn_px(budget_bytes: int, max_pixel_count: int) -> int:
    """Return how many pixels all pictures of a call may have, for an image of any size."""
    left_bytes = max(0, budget_bytes - KEPT_BYTES * max_pixel_count)
    one_picture_px = left_bytes // (FILE_BYTES + DRAWN_BYTES)
    if one_picture_px <= LARGEST_PICTURE_PX:
        return one_picture_px
    all_drawn_px = (left_bytes - DRAWN_BYTES * LARGEST_PICTURE_PX) // FILE_BYTES
    return min(all_drawn_px, budget_bytes // SENT_BYTES)
