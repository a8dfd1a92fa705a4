"""Fit operator: side lengths -> the banded matrix that resizes one axis. Used by fit.

scikit-image's `resize` is linear and treats the axes alike, so resizing a square image is
`A @ image @ A.T`. Here `A` comes from numpy alone (importing scipy would take a fifth of the
server's start), and is that of `skimage.transform.resize(order=1, mode="constant", cval=0)` of
scikit-image 0.26 (`transform/_warps.py`): a Gaussian against aliasing where the image shrinks,
then linear interpolation between pixel centres, zeros beyond the edge in both.
"""

from dataclasses import dataclass
from functools import lru_cache

import numpy as np
from numpy.typing import NDArray

GAUSSIAN_TRUNCATE = 4.0
"""scipy.ndimage, which scikit-image calls, cuts the Gaussian off after so many deviations."""
BAND_ROW_COUNT = 12
"""Rows of a band: few, so that a band holds few zeros, but enough for a fast product."""


@dataclass(frozen=True, slots=True)
class Band:
    """Some rows of the matrix, without the columns that are zero in all of them.

    Attributes:
        rows: Where the rows lie in the output.
        columns: Where the columns lie in the input.
        weights: float32 [rows, columns].
    """

    rows: slice
    columns: slice
    weights: NDArray[np.float32]


@dataclass(frozen=True, slots=True)
class FitOperator:
    """How one axis of `side_in` pixels becomes one of `side_out`.

    Attributes:
        bands: The matrix [side_out, side_in], top to bottom.
        coverage_hw: float32 [side_out, side_out], what both axes make of an image of ones: below
            1 where zeros beyond the edge come in.
    """

    bands: tuple[Band, ...]
    coverage_hw: NDArray[np.float32]

    def apply(self, values_hw: NDArray[np.generic]) -> NDArray[np.float32]:
        """Resize along the first axis: [side_in, W] of any dtype -> float32 [side_out, W].

        Turns no more of the input to float at a time than one band needs.
        """
        resized_hw = np.empty((len(self.coverage_hw), values_hw.shape[1]), dtype=np.float32)
        for band in self.bands:
            part_hw = values_hw[band.columns].astype(np.float32, copy=False)
            np.matmul(band.weights, part_hw, out=resized_hw[band.rows])
        return resized_hw


@lru_cache(maxsize=64)
def fit_operator(side_in: int, side_out: int) -> FitOperator:
    """Return the operator for one axis; the latest 64 are kept."""
    factor = side_in / side_out
    place = (np.arange(side_out) + 0.5) * factor - 0.5
    lower = np.floor(place)
    share = (place - lower)[:, None]
    kernel = _gaussian_kernel(max(0.0, (factor - 1) / 2))
    # An output pixel lies between two input pixels, and sees the kernel around each of them.
    taps = np.zeros((side_out, len(kernel) + 1))
    taps[:, :-1] += (1 - share) * kernel
    taps[:, 1:] += share * kernel
    first = lower.astype(np.int64) - len(kernel) // 2
    columns = first[:, None] + np.arange(taps.shape[1])
    inside = (columns >= 0) & (columns < side_in) & (taps > 0)
    row_sums = np.where(inside, taps, 0).sum(axis=1)
    bands = []
    for top in range(0, side_out, BAND_ROW_COUNT):
        rows = slice(top, min(top + BAND_ROW_COUNT, side_out))
        here = inside[rows]
        row_numbers, column_numbers = np.nonzero(here)[0], columns[rows][here]
        left, right = int(column_numbers.min()), int(column_numbers.max()) + 1
        weights = np.zeros((rows.stop - rows.start, right - left), dtype=np.float32)
        weights[row_numbers, column_numbers - left] = taps[rows][here]
        bands.append(Band(rows, slice(left, right), weights))
    return FitOperator(tuple(bands), np.outer(row_sums, row_sums).astype(np.float32))


def _gaussian_kernel(sigma: float) -> NDArray[np.float64]:
    """Return scipy.ndimage's Gaussian kernel; the single weight 1 for a sigma of zero."""
    radius = int(GAUSSIAN_TRUNCATE * sigma + 0.5)
    if radius == 0:
        return np.ones(1)
    kernel = np.exp(-0.5 * (np.arange(-radius, radius + 1) / sigma) ** 2)
    return np.asarray(kernel / kernel.sum())
