"""Reference: layers as plain numpy, the second opinion on every graph.

Nothing is folded, and only the order of the layers is shared with `graph`, so that a mistake there
shows as a difference. Images are [N, C, H, W] in float32.
"""

from collections.abc import Mapping

import numpy as np
from numpy.typing import NDArray

Array = NDArray[np.float32]


class Reference:
    """Applies layers. Each method returns the layer's output."""

    def __init__(self, weights: Mapping[str, Array]) -> None:
        self._weights = weights

    def conv(
        self, x: Array, name: str, channels: int, size: int, *, norm: str = "", stride: int = 1
    ) -> Array:
        """Cross-correlate with `NAME.weight` [O, I, size, size]: one matrix product per tap."""
        kernel = self._weights[f"{name}.weight"]
        x = np.pad(x, ((0, 0), (0, 0), (size // 2, size // 2), (size // 2, size // 2)))
        height, width = ((side - size) // stride + 1 for side in x.shape[2:])
        y = np.zeros((len(x), channels, height * width), np.float32)
        for row, column in np.ndindex(size, size):
            tap = x[:, :, row : row + stride * height : stride]
            tap = tap[..., column : column + stride * width : stride]
            y += kernel[:, :, row, column] @ tap.reshape(*x.shape[:2], -1)
        y = y.reshape(len(x), channels, height, width)
        return self.norm(y, norm) if norm else y

    def norm(self, x: Array, name: str) -> Array:
        """Apply the batch norm `name` as in inference."""
        weight, bias, mean, variance = (
            self._weights[f"{name}.{part}"][:, None, None]
            for part in ("weight", "bias", "running_mean", "running_var")
        )
        y: Array = (x - mean) / np.sqrt(variance + np.float32(1e-5)) * weight + bias
        return y

    def relu(self, x: Array) -> Array:
        """Set negative values to zero."""
        return np.maximum(x, 0)

    def max_pool(self, x: Array, size: int, *, stride: int) -> Array:
        """Take the largest value of each window."""
        margins = ((0, 0), (0, 0), (size // 2, size // 2), (size // 2, size // 2))
        x = np.pad(x, margins, constant_values=-np.inf)
        windows = np.lib.stride_tricks.sliding_window_view(x, (size, size), (2, 3))
        y: Array = windows[:, :, ::stride, ::stride].max((4, 5))
        return y

    def average_pool(self, x: Array, size: int) -> Array:
        """Take the mean of windows that do not overlap; a remainder is dropped."""
        count, channels, height, width = (*x.shape[:2], x.shape[2] // size, x.shape[3] // size)
        x = x[:, :, : height * size, : width * size]
        y: Array = x.reshape(count, channels, height, size, width, size).mean((3, 5))
        return y

    def concat(self, *parts: Array) -> Array:
        """Concatenate channels."""
        return np.concatenate(parts, 1)
