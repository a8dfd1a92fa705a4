"""Photograph: grey values -> does this look like a photograph of a film? Used by quality.

A small convolutional network on a thumbnail of 64 x 64 pixels of the whole image, squeezed into a
square. `cxr-phantom photograph` trained it on drawn films alone. It sees the edges of the film and
what is around it, and strong reflections; a close-up in good light looks like an export to it.
"""

from functools import lru_cache
from importlib.resources import files
from importlib.resources.abc import Traversable
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from cxr_server.imaging.gate import area_average, standardised

WEIGHTS_NAME = "photograph.npz"
SIDE_PX = 64
STRIDE = 2  # of each convolution

Values = NDArray[np.float32]


class Convolution(NamedTuple):
    """Weights [side * side * inputs, outputs], in this order, of a kernel with sides of `side`."""

    weights: Values
    bias: Values
    side: int


class Dense(NamedTuple):
    """Weights [outputs, inputs]."""

    weights: Values
    bias: Values


class Network(NamedTuple):
    """The trained network: convolutions and dense layers, all but the last with ReLU.

    An image whose output is above the threshold is taken for a photograph.
    """

    convolutions: tuple[Convolution, ...]
    dense: tuple[Dense, ...]
    threshold: float


def is_photograph(values_hw: NDArray[np.generic]) -> bool:
    """Tell whether a greyscale image [H, W] seems to be a photograph of a film or screen.

    Takes 0.25 ms for 128 x 128 values.
    """
    network = _network()
    return output(thumbnail(values_hw), network) > network.threshold


def thumbnail(values_hw: NDArray[np.generic]) -> Values:
    """Return the whole image averaged to float32 [64, 64], of mean 0 and deviation 1."""
    height, width = values_hw.shape
    rows, columns = area_average(height, SIDE_PX), area_average(width, SIDE_PX)
    small_hw = rows @ values_hw.astype(np.float32) @ columns.T
    small_hw -= small_hw.min()
    small_hw /= max(small_hw.max(), np.finfo(np.float32).tiny)
    return standardised(small_hw)


def output(thumbnail_hw: Values, network: Network) -> float:
    """Return the logit of a thumbnail being a photograph."""
    map_hwc = thumbnail_hw[..., None]
    for weights, bias, side in network.convolutions:
        map_hwc = np.maximum(_windows(map_hwc, side) @ weights + bias, 0)
    values = map_hwc.transpose(2, 0, 1).ravel()
    for dense in network.dense[:-1]:
        values = np.maximum(dense.weights @ values + dense.bias, 0)
    (logit,) = network.dense[-1].weights @ values + network.dense[-1].bias
    return float(logit)


def _windows(map_hwc: Values, side: int) -> Values:
    """Return what a kernel sees at each place, with zeros around the map: [h, w, side * side * c].

    np.pad and sliding_window_view would take more than half of the time of the whole network.
    """
    height, width, channels = map_hwc.shape
    margin = side // 2
    padded_hwc = np.zeros((height + 2 * margin, width + 2 * margin, channels), np.float32)
    padded_hwc[margin:-margin, margin:-margin] = map_hwc
    row, column, _ = padded_hwc.strides
    windows: Values = np.ndarray(
        (height // STRIDE, width // STRIDE, side, side * channels),
        np.float32,
        padded_hwc,
        strides=(STRIDE * row, STRIDE * column, row, map_hwc.itemsize),
    )
    return windows.reshape(height // STRIDE, width // STRIDE, -1)


def read(file: Traversable) -> Network:
    """Return the network of a file. Raises OSError, ValueError and KeyError."""
    with file.open("rb") as opened, np.load(opened) as stored:

        def layers(kind: str) -> list[tuple[Values, Values]]:
            names = sorted(name for name in stored if name.startswith(kind))
            pairs = zip(names[1::2], names[::2], strict=True)  # NAME.0.bias, NAME.0.weight, ...
            return [
                (stored[weight].astype(np.float32), stored[bias].astype(np.float32))
                for weight, bias in pairs
            ]

        convolutions = tuple(
            Convolution(
                weights.transpose(2, 3, 1, 0).reshape(-1, len(weights)), bias, weights.shape[-1]
            )
            for weights, bias in layers("convolutions.")  # [outputs, inputs, height, width]
        )
        dense = tuple(Dense(*each) for each in layers("dense."))
        return Network(convolutions, dense, float(stored["threshold"]))


@lru_cache(maxsize=1)
def _network() -> Network:
    return read(files(__package__) / WEIGHTS_NAME)
