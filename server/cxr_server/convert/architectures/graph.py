"""Graph: layers of an OpenVINO graph, built from weights whose shapes are checked on the way.

Nodes are [N, C, H, W] in float32; openvino has no types for them. Only opset 8 is used, which every
supported runtime reads.
"""

from collections.abc import Mapping
from typing import Any

import numpy as np
from numpy.typing import NDArray

from cxr_server.bundles.manifest import BundleError
from cxr_server.inference.engines.openvino_runtime import openvino

State = Mapping[str, NDArray[Any]]
Weights = dict[str, NDArray[np.float32]]


class Graph:
    """Adds layers to a graph. Each method returns the layer's output."""

    def __init__(self, state: State, side_px: int) -> None:
        self._ops = openvino.opset8
        self._state = state
        self.weights: Weights = {}
        self.image = self._ops.parameter([1, 1, side_px, side_px], np.float32, name="image")

    def model(self, maps: Any, class_count: int, name: str) -> Any:
        """Return the model of image -> evidence: a linear layer applied at every position.

        That is a 1x1 convolution with `classifier.weight`, without the bias. The second output is
        the embedding [N, C]: the mean of the maps [N, C, h, w] over their grid.
        """
        self._weight("classifier.bias", class_count)
        kernel = self._weight("classifier.weight", class_count, maps.shape[1])[:, :, None, None]
        weight = self._constant(kernel, "classifier.weight")
        evidence = self._ops.convolution(maps, weight, [1, 1], [0, 0], [0, 0], [1, 1])
        grid = self._ops.constant([2, 3], np.int64)
        embedding = self._ops.reduce_mean(maps, grid, keep_dims=False)
        outputs = [
            self._ops.result(evidence, name="evidence"),
            self._ops.result(embedding, name="embedding"),
        ]
        return openvino.Model(outputs, [self.image], name)

    def conv(
        self, x: Any, name: str, channels: int, size: int, *, norm: str = "", stride: int = 1
    ) -> Any:
        """Convolve with `NAME.weight` [O, I, size, size], which absorbs the batch norm behind it.

        Padding is half the size, so that a stride of 1 keeps the side.
        """
        kernel = self._weight(f"{name}.weight", channels, x.shape[1], size, size)
        if norm:
            scale_c, shift_c = self._affine(norm, channels)
            kernel = kernel * scale_c[:, None]
        pads = [size // 2] * 2
        y = self._ops.convolution(
            x, self._constant(kernel, f"{name}.weight"), [stride, stride], pads, pads, [1, 1]
        )
        y.friendly_name = name
        return self._ops.add(y, self._constant(shift_c, f"{name}.bias")) if norm else y

    def norm(self, x: Any, name: str) -> Any:
        """Apply the batch norm `name`."""
        scale_c, shift_c = self._affine(name, x.shape[1])
        y = self._ops.multiply(x, self._constant(scale_c, f"{name}.scale"))
        return self._ops.add(y, self._constant(shift_c, f"{name}.shift"))

    def relu(self, x: Any) -> Any:
        """Set negative values to zero."""
        return self._ops.relu(x)

    def max_pool(self, x: Any, size: int, *, stride: int) -> Any:
        """Take the largest value of each window, padded by half the size."""
        pads = [size // 2] * 2
        pooled = self._ops.max_pool(x, [stride, stride], [1, 1], pads, pads, [size, size])
        return pooled.output(0)

    def average_pool(self, x: Any, size: int) -> Any:
        """Take the mean of windows that do not overlap."""
        window = [size, size]
        return self._ops.avg_pool(x, window, [0, 0], [0, 0], window, exclude_pad=True)

    def concat(self, *parts: Any) -> Any:
        """Concatenate channels."""
        return self._ops.concat(list(parts), 1)

    def _affine(self, norm: str, channels: int) -> tuple[NDArray[np.float32], NDArray[np.float32]]:
        """Return a batch norm in inference as scale and shift [C, 1, 1], computed in float64."""
        weight, bias, mean, variance = (
            self._weight(f"{norm}.{part}", channels).astype(np.float64)[:, None, None]
            for part in ("weight", "bias", "running_mean", "running_var")
        )
        scale = weight / np.sqrt(variance + 1e-5)  # torch's default epsilon
        return scale.astype(np.float32), (bias - mean * scale).astype(np.float32)

    def _weight(self, name: str, *shape: int) -> NDArray[np.float32]:
        found = self._state[name].shape if name in self._state else None
        if found != shape:
            raise BundleError(
                "the weights do not fit the network and its findings:"
                f" {name} has the shape {found} instead of {shape}"
            )
        self.weights[name] = np.ascontiguousarray(self._state[name], np.float32)
        if not np.isfinite(self.weights[name]).all():
            raise BundleError(f"the weights hold numbers that are not finite: {name}")
        return self.weights[name]

    def _constant(self, values: NDArray[np.float32], name: str) -> Any:
        return self._ops.constant(np.ascontiguousarray(values, np.float32), name=name)
