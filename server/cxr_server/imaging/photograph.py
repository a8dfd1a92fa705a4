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
from numpy.lib.stride_tricks import sliding_window_view
from numpy.typing import NDArray

from cxr_server.imaging.gate import FLAT, area_average

WEIGHTS_NAME = "photograph.npz"
SIDE_PX = 64
STRIDE = 2  # of each convolution

Values = NDArray[np.float32]


class Layer(NamedTuple):
    """Weights [outputs, inputs] or, of a convolution, [outputs, inputs, height, width]."""

    weights: Values
    bias: Values


class Network(NamedTuple):
    """The trained network: convolutions and dense layers, all but the last with ReLU.

    An image whose output is above the threshold is taken for a photograph.
    """

    convolutions: tuple[Layer, ...]
    dense: tuple[Layer, ...]
    threshold: float


def is_photograph(values_hw: NDArray[np.generic]) -> bool:
    """Tell whether a greyscale image [H, W] seems to be a photograph of a film or screen.

    Takes 0.5 ms for 256 x 256 values.
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
    return np.asarray((small_hw - small_hw.mean()) / (small_hw.std() + FLAT), np.float32)


def output(thumbnail_hw: Values, network: Network) -> float:
    """Return the logit of a thumbnail being a photograph."""
    map_hwc = thumbnail_hw[..., None]
    for weights, bias in network.convolutions:
        side = weights.shape[-1]
        margin, (height, width, channels) = side // 2, map_hwc.shape
        # np.pad would take half of the time of the whole network.
        padded_hwc = np.zeros((height + 2 * margin, width + 2 * margin, channels), np.float32)
        padded_hwc[margin : margin + height, margin : margin + width] = map_hwc
        windows = sliding_window_view(padded_hwc, (side, side), (0, 1))[::STRIDE, ::STRIDE]
        flat = windows.reshape(*windows.shape[:2], -1)  # [h, w, inputs * side * side]
        map_hwc = np.maximum(flat @ weights.reshape(len(weights), -1).T + bias, 0)
    values = map_hwc.transpose(2, 0, 1).ravel()
    for weights, bias in network.dense[:-1]:
        values = np.maximum(weights @ values + bias, 0)
    (logit,) = network.dense[-1].weights @ values + network.dense[-1].bias
    return float(logit)


def read(file: Traversable) -> Network:
    """Return the network of a file. Raises OSError, ValueError and KeyError."""
    with file.open("rb") as opened, np.load(opened) as stored:

        def layers(kind: str) -> tuple[Layer, ...]:
            names = sorted(name for name in stored if name.startswith(kind))
            pairs = zip(names[1::2], names[::2], strict=True)  # NAME.0.bias, NAME.0.weight, ...
            return tuple(
                Layer(stored[weight].astype(np.float32), stored[bias].astype(np.float32))
                for weight, bias in pairs
            )

        return Network(layers("convolutions."), layers("dense."), float(stored["threshold"]))


@lru_cache(maxsize=1)
def _network() -> Network:
    return read(files(__package__) / WEIGHTS_NAME)
