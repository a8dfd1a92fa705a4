"""Fit operator: side length -> the sparse matrix that resizes one axis. Next: fit.

scikit-image's `resize` is linear and treats the two axes alike, so resizing a square image is
`A @ image @ A.T`. Here `A` is made from numpy and scipy.ndimage, to be equal to
`skimage.transform.resize(order=1, mode="constant", cval=0)` of scikit-image 0.26
(`transform/_warps.py`): a Gaussian against aliasing where the image shrinks, then linear
interpolation, zeros beyond the edge in both.
"""

import warnings
from dataclasses import dataclass
from functools import lru_cache

import numpy as np
from numpy.typing import NDArray
from scipy import ndimage, sparse

GAUSSIAN_TRUNCATE = 4.0
"""scipy.ndimage cuts the Gaussian off after this many standard deviations."""


@dataclass(frozen=True, slots=True)
class FitOperator:
    """How one axis of `side_in` pixels becomes one of `side_out`.

    Attributes:
        matrix: float32 CSR matrix [side_out, side_in]; every weight is at least zero.
        row_sums: float64 [side_out], below 1 where zeros beyond the edge come in.
        has_zero_row: Whether an output pixel lies beyond the input's outermost pixel centres,
            and so is nothing but the fill value (enlarged images alone).
    """

    matrix: sparse.csr_array
    row_sums: NDArray[np.float64]
    has_zero_row: bool


@lru_cache(maxsize=64)
def fit_operator(side_in: int, side_out: int) -> FitOperator:
    """Return the operator for one axis; the latest 64 are kept."""
    positions = _positions(side_in, side_out)
    inside = np.flatnonzero(~np.isnan(positions))
    lower = np.minimum(np.floor(positions[inside]).astype(np.int64), side_in - 1)
    share = positions[inside] - lower
    kernel = _gaussian_kernel(max(0.0, (side_in / side_out - 1) / 2))
    radius = len(kernel) // 2
    # Each output pixel sees the kernel around its lower and its upper neighbour.
    taps = np.zeros((len(inside), len(kernel) + 1))
    taps[:, :-1] += (1 - share)[:, None] * kernel
    # The upper neighbour of the last pixel lies outside, and has a share of zero.
    taps[:, 1:] += share[:, None] * kernel
    columns = lower[:, None] + np.arange(-radius, radius + 2)
    valid = (columns >= 0) & (columns < side_in) & (taps > 0)
    rows = np.broadcast_to(inside[:, None], columns.shape)
    matrix = sparse.csr_array(
        (taps[valid], (rows[valid], columns[valid])), shape=(side_out, side_in)
    )
    row_sums = np.asarray(matrix.sum(axis=1)).ravel()
    return FitOperator(matrix.astype(np.float32), row_sums, bool((row_sums == 0).any()))


def _positions(side_in: int, side_out: int) -> NDArray[np.float64]:
    """Return where each output pixel lies in the input, NaN outside of it.

    A ramp is resized by the same scipy code that scikit-image calls, so that rounding at the
    outermost pixel centres, which decides between a pixel and the fill value, is the same too.
    """
    ramp = np.arange(1, side_in + 1, dtype=np.float64)
    with warnings.catch_warnings():
        # scipy recommends another mode for this; scikit-image does not use it.
        warnings.simplefilter("ignore", UserWarning)
        zoomed = ndimage.zoom(
            ramp, 1 / (side_in / side_out), order=1, mode="constant", cval=0, grid_mode=True
        )
    return np.where(zoomed == 0, np.nan, zoomed - 1)


def _gaussian_kernel(sigma: float) -> NDArray[np.float64]:
    """Return scipy.ndimage's Gaussian kernel; the single weight 1 for a sigma of zero."""
    radius = int(GAUSSIAN_TRUNCATE * sigma + 0.5)
    if radius == 0:
        return np.ones(1)
    kernel = np.exp(-0.5 * (np.arange(-radius, radius + 1) / sigma) ** 2)
    return np.asarray(kernel / kernel.sum())
