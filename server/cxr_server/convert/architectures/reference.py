"""Reference: layers as plain numpy, the second opinion on every graph.

Nothing is folded and nothing is shared with `graph`, so that a mistake there shows as a
difference. Images are [N, C, H, W] in float32.
"""

from collections.abc import Mapping

import numpy as np
from numpy.typing import NDArray

Array = NDArray[np.float32]
Weights = Mapping[str, Array]


def conv(x: Array, kernel: Array, *, stride: int = 1, padding: int = 0) -> Array:
    """Return the cross-correlation with `kernel` [O, I, kh, kw], one matrix product per tap."""
    _, _, kernel_height, kernel_width = kernel.shape
    x = np.pad(x, ((0, 0), (0, 0), (padding, padding), (padding, padding)))
    height = (x.shape[2] - kernel_height) // stride + 1
    width = (x.shape[3] - kernel_width) // stride + 1
    y = np.zeros((len(x), len(kernel), height * width), np.float32)
    for row in range(kernel_height):
        for column in range(kernel_width):
            tap = x[:, :, row : row + stride * height : stride]
            tap = tap[..., column : column + stride * width : stride]
            y += kernel[:, :, row, column] @ tap.reshape(*x.shape[:2], -1)
    return y.reshape(len(x), len(kernel), height, width)


def batch_norm(x: Array, weights: Weights, name: str, epsilon: float = 1e-5) -> Array:
    """Return the batch norm `name` in inference."""
    weight, bias, mean, variance = (
        weights[f"{name}.{part}"][:, None, None]
        for part in ("weight", "bias", "running_mean", "running_var")
    )
    y: Array = (x - mean) / np.sqrt(variance + np.float32(epsilon)) * weight + bias
    return y


def relu(x: Array) -> Array:
    """Return the positive part."""
    return np.maximum(x, 0)


def max_pool(x: Array, size: int, *, stride: int, padding: int) -> Array:
    """Return the largest value of each window."""
    margins = ((0, 0), (0, 0), (padding, padding), (padding, padding))
    x = np.pad(x, margins, constant_values=-np.inf)
    windows = np.lib.stride_tricks.sliding_window_view(x, (size, size), (2, 3))
    y: Array = windows[:, :, ::stride, ::stride].max((4, 5))
    return y


def average_pool(x: Array, size: int) -> Array:
    """Return the mean of windows that do not overlap; a remainder is dropped."""
    count, channels, height, width = x.shape
    x = x[:, :, : height // size * size, : width // size * size]
    y: Array = x.reshape(count, channels, height // size, size, width // size, size).mean((3, 5))
    return y
