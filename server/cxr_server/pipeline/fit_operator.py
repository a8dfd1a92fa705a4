"""Fit operator: side lengths -> the sparse matrix that resizes one axis. Used by fit.

scikit-image's `resize` is linear and treats the axes alike, so resizing a square image is
`A @ image @ A.T`. Here `A` comes from numpy alone, and is that of
`skimage.transform.resize(order=1, mode="constant", cval=0)` of scikit-image 0.26
(`transform/_warps.py`): a Gaussian against aliasing where the image shrinks, then linear
interpolation between pixel centres, zeros beyond the edge in both.
"""

from collections.abc import Iterator
from dataclasses import dataclass
from functools import lru_cache

import numpy as np
from numpy.typing import NDArray
from scipy import sparse

BAND_ROW_COUNT = 32
"""Output rows made at a time, so that a large image is never wholly turned to float."""
GAUSSIAN_TRUNCATE = 4.0
"""scipy.ndimage, which scikit-image calls, cuts the Gaussian off after so many deviations."""


@dataclass(frozen=True, slots=True)
class FitOperator:
    """How one axis of `side_in` pixels becomes one of `side_out`.

    Attributes:
        matrix: float32 CSR matrix [side_out, side_in]; every weight is above zero.
        row_sums: float64 [side_out], below 1 where zeros beyond the edge come in.
        bands: The matrix cut into bands of rows, without the columns that are zero there: the
            rows' slice, the columns' slice and the band.
    """

    matrix: sparse.csr_array
    row_sums: NDArray[np.float64]
    bands: tuple[tuple[slice, slice, sparse.csr_array], ...]


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
    rows = np.broadcast_to(np.arange(side_out)[:, None], columns.shape)
    inside = (columns >= 0) & (columns < side_in) & (taps > 0)
    matrix = sparse.csr_array(
        (taps[inside], (rows[inside], columns[inside])), shape=(side_out, side_in)
    )
    row_sums = np.asarray(matrix.sum(axis=1)).ravel()
    matrix = matrix.astype(np.float32)
    return FitOperator(matrix, row_sums, tuple(_bands(matrix)))


def _bands(matrix: sparse.csr_array) -> Iterator[tuple[slice, slice, sparse.csr_array]]:
    for top in range(0, matrix.shape[0], BAND_ROW_COUNT):
        rows = slice(top, top + BAND_ROW_COUNT)
        band = matrix[rows]
        columns = slice(int(band.indices.min()), int(band.indices.max()) + 1)
        yield rows, columns, band[:, columns]


def _gaussian_kernel(sigma: float) -> NDArray[np.float64]:
    """Return scipy.ndimage's Gaussian kernel; the single weight 1 for a sigma of zero."""
    radius = int(GAUSSIAN_TRUNCATE * sigma + 0.5)
    if radius == 0:
        return np.ones(1)
    kernel = np.exp(-0.5 * (np.arange(-radius, radius + 1) / sigma) ** 2)
    return np.asarray(kernel / kernel.sum())
