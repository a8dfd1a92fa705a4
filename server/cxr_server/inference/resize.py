"""Resize operator: the banded matrix that resizes one axis as scikit-image does.

scikit-image's `resize` is linear and separable, so resizing a square image is
`A @ image @ A.T`. `A` is that of `skimage.transform.resize(order=1, mode="constant", cval=0)`
of scikit-image 0.26 (`transform/_warps.py`): Gaussian anti-aliasing where the image shrinks,
then linear interpolation between pixel centres, with zeros beyond the edge in both. NumPy
alone computes it: importing SciPy would take a fifth of the server's start-up time.
"""

from functools import lru_cache
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

BAND_ROW_COUNT = 4
"""Rows of a band: few hold few zeros, and the inner kernel of matrix products takes four."""
BLOCK_ROW_COUNT = 16
"""Rows of the bands of a block, which share the pixels that were converted to float."""
BUFFER_COUNT = 2**19  # of float32 values: what is converted at once stays in the L2 cache
ACROSS_ROW_COUNT = 16  # rows of a band along the other axis, where zeros cost less than calls


class Band(NamedTuple):
    """Consecutive rows of the matrix, without the columns that are zero in all of them."""

    rows: slice  # output pixels that they give
    columns: slice  # input pixels that they weigh
    weights: NDArray[np.float32]


class Block(NamedTuple):
    """Consecutive bands. Their columns count from the first of the block's."""

    columns: slice  # input pixels that they weigh
    bands: tuple[Band, ...]


class ResizeOperator(NamedTuple):
    """Resizes one axis, or both of a square, from `side_in` to `side_out` pixels."""

    blocks: tuple[Block, ...]  # the matrix [side_out, side_in], top to bottom
    across: tuple[Band, ...]  # the same, transposed, for the second axis
    coverage_hw: NDArray[np.float32]
    """An image of ones resized along both axes: below 1 where zeros beyond the edge contribute."""

    def resize(self, values_hw: NDArray[np.generic]) -> NDArray[np.float32]:
        """Resize a square [side_in, side_in] of any dtype -> float32 [side_out, side_out]."""
        rows_hw = self.apply(values_hw)
        resized_hw = np.empty_like(self.coverage_hw)
        for band in self.across:
            np.matmul(rows_hw[:, band.columns], band.weights, out=resized_hw[:, band.rows])
        return resized_hw

    def apply(self, values_hw: NDArray[np.generic]) -> NDArray[np.float32]:
        """Resize along the first axis: [side_in, W] of any dtype -> float32 [side_out, W].

        One pass over the input, a part of which is float at any time.
        """
        width = values_hw.shape[1]
        resized_hw = np.empty((len(self.coverage_hw), width), dtype=np.float32)
        buffer = np.empty(min(BUFFER_COUNT, values_hw.size), dtype=np.float32)
        for block in self.blocks:
            row_count = block.columns.stop - block.columns.start
            part_width = max(1, len(buffer) // row_count)
            for left in range(0, width, part_width):
                part_hw = values_hw[block.columns, left : left + part_width]
                float_hw = buffer[: part_hw.size].reshape(part_hw.shape)
                float_hw[...] = part_hw
                out_hw = resized_hw[:, left : left + part_width]
                for band in block.bands:
                    np.matmul(band.weights, float_hw[band.columns], out=out_hw[band.rows])
        return resized_hw


@lru_cache(maxsize=64)
def resize_operator(side_in: int, side_out: int) -> ResizeOperator:
    """Return the operator for one axis, cached."""
    factor = side_in / side_out
    place = (np.arange(side_out) + 0.5) * factor - 0.5
    lower = np.floor(place)
    share = (place - lower)[:, None]
    sigma = max(1e-9, (factor - 1) / 2)  # where the image grows, the kernel is a single 1
    radius = int(4.0 * sigma + 0.5)  # as in scipy.ndimage: four standard deviations
    kernel = np.exp(-0.5 * (np.arange(-radius, radius + 1) / sigma) ** 2)
    kernel /= kernel.sum()
    # An output pixel interpolates between two input pixels, each smoothed by the kernel.
    taps = np.zeros((side_out, len(kernel) + 1))
    taps[:, :-1] += (1 - share) * kernel
    taps[:, 1:] += share * kernel
    first = lower.astype(np.int64) - len(kernel) // 2
    columns = first[:, None] + np.arange(taps.shape[1])
    inside = (columns >= 0) & (columns < side_in) & (taps > 0)
    row_sums = taps.sum(axis=1, where=inside)

    def band_of(top: int, row_count: int) -> Band:
        rows = slice(top, min(top + row_count, side_out))
        here = inside[rows]
        row_numbers, column_numbers = np.nonzero(here)[0], columns[rows][here]
        left, right = int(column_numbers.min()), int(column_numbers.max()) + 1
        weights = np.zeros((len(here), right - left), dtype=np.float32)
        weights[row_numbers, column_numbers - left] = taps[rows][here]
        return Band(rows, slice(left, right), weights)

    blocks = []
    for top in range(0, side_out, BLOCK_ROW_COUNT):
        bottom = min(top + BLOCK_ROW_COUNT, side_out)
        blocks.append(
            _block([band_of(row, BAND_ROW_COUNT) for row in range(top, bottom, BAND_ROW_COUNT)])
        )
    across = [band_of(top, ACROSS_ROW_COUNT) for top in range(0, side_out, ACROSS_ROW_COUNT)]
    return ResizeOperator(
        tuple(blocks),
        tuple(band._replace(weights=np.ascontiguousarray(band.weights.T)) for band in across),
        np.outer(row_sums, row_sums).astype(np.float32),
    )


def _block(bands: list[Band]) -> Block:
    left = min(band.columns.start for band in bands)
    right = max(band.columns.stop for band in bands)
    moved = (
        band._replace(columns=slice(band.columns.start - left, band.columns.stop - left))
        for band in bands
    )
    return Block(slice(left, right), tuple(moved))
