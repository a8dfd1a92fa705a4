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

BAND_ROW_COUNT = 12
"""Rows of a band: few enough to hold few zeros, enough for a fast matrix product."""


class Band(NamedTuple):
    """Consecutive rows of the matrix, without the columns that are zero in all of them."""

    rows: slice  # output pixels that they give
    columns: slice  # input pixels that they weigh
    weights: NDArray[np.float32]


class ResizeOperator(NamedTuple):
    """Resizes one axis from `side_in` to `side_out` pixels."""

    bands: tuple[Band, ...]  # the matrix [side_out, side_in], top to bottom
    coverage_hw: NDArray[np.float32]
    """An image of ones resized along both axes: below 1 where zeros beyond the edge contribute."""

    def apply(self, values_hw: NDArray[np.generic]) -> NDArray[np.float32]:
        """Resize along the first axis: [side_in, W] of any dtype -> float32 [side_out, W].

        Converts the input to float band by band, which bounds the memory.
        """
        resized_hw = np.empty((len(self.coverage_hw), values_hw.shape[1]), dtype=np.float32)
        for band in self.bands:
            part_hw = values_hw[band.columns].astype(np.float32, copy=False)
            np.matmul(band.weights, part_hw, out=resized_hw[band.rows])
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
    bands = []
    for top in range(0, side_out, BAND_ROW_COUNT):
        rows = slice(top, top + BAND_ROW_COUNT)  # the last band may be shorter
        here = inside[rows]
        row_numbers, column_numbers = np.nonzero(here)[0], columns[rows][here]
        left, right = int(column_numbers.min()), int(column_numbers.max()) + 1
        weights = np.zeros((len(here), right - left), dtype=np.float32)
        weights[row_numbers, column_numbers - left] = taps[rows][here]
        bands.append(Band(rows, slice(left, right), weights))
    return ResizeOperator(tuple(bands), np.outer(row_sums, row_sums).astype(np.float32))
