"""Graph: layers of an OpenVINO graph, built from weights.

Tensors are [N, C, H, W] in float32. Only opset 8 is used, which every supported runtime reads.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from cxr_server.inference.engines.openvino_runtime import openvino

Weights = Mapping[str, NDArray[np.float32]]
Node = Any
"""A node of the graph; openvino has no type information."""
EPSILON = 1e-5
"""torch's default for batch norms."""


@dataclass(frozen=True, slots=True)
class Affine:
    """What a batch norm does in inference: y = scale * x + shift, by channel."""

    scale_c: NDArray[np.float32]
    shift_c: NDArray[np.float32]

    @classmethod
    def of(cls, weights: Weights, name: str) -> "Affine":
        """Return the batch norm `name`, computed in float64."""
        weight, bias, mean, variance = (
            weights[f"{name}.{part}"].astype(np.float64)
            for part in ("weight", "bias", "running_mean", "running_var")
        )
        scale_c = weight / np.sqrt(variance + EPSILON)
        return cls(scale_c.astype(np.float32), (bias - mean * scale_c).astype(np.float32))


class Graph:
    """Adds layers to a graph. Each method returns the layer's output."""

    def __init__(self, weights: Weights, input_side_px: int) -> None:
        self._ops = openvino.opset8
        self._weights = weights
        shape = [1, 1, input_side_px, input_side_px]
        self.image: Node = self._ops.parameter(shape, np.float32, name="image")

    def model(self, evidence: Node, name: str) -> Node:
        """Return the model that computes `evidence` from `image`."""
        output = self._ops.result(evidence, name="evidence")
        return openvino.Model([output], [self.image], name)

    def conv(
        self, x: Node, name: str, *, norm: str | None = None, stride: int = 1, padding: int = 0
    ) -> Node:
        """Convolve with `NAME.weight` [O, I, kh, kw], which absorbs the batch norm behind it."""
        kernel = self._weights[f"{name}.weight"]
        affine = Affine.of(self._weights, norm) if norm else None
        if affine:
            kernel = kernel * affine.scale_c[:, None, None, None]
        pads = [padding, padding]
        y = self._ops.convolution(
            x, self._constant(kernel, f"{name}.weight"), [stride, stride], pads, pads, [1, 1]
        )
        y.friendly_name = name
        return self._add(y, affine.shift_c, f"{name}.bias") if affine else y

    def norm(self, x: Node, name: str) -> Node:
        """Apply the batch norm `name`."""
        affine = Affine.of(self._weights, name)
        scale = self._constant(affine.scale_c[:, None, None], f"{name}.scale")
        return self._add(self._ops.multiply(x, scale), affine.shift_c, f"{name}.shift")

    def relu(self, x: Node) -> Node:
        """Set negative values to zero."""
        return self._ops.relu(x)

    def max_pool(self, x: Node, size: int, *, stride: int, padding: int) -> Node:
        """Take the largest value of each window."""
        pads = [padding, padding]
        pooled = self._ops.max_pool(x, [stride, stride], [1, 1], pads, pads, [size, size])
        return pooled.output(0)

    def average_pool(self, x: Node, size: int) -> Node:
        """Take the mean of windows that do not overlap."""
        window = [size, size]
        return self._ops.avg_pool(x, window, [0, 0], [0, 0], window, exclude_pad=True)

    def concat(self, *parts: Node) -> Node:
        """Concatenate channels."""
        return self._ops.concat(list(parts), 1)

    def evidence(self, x: Node, name: str) -> Node:
        """Apply the linear layer `name` without its bias at every position: a 1x1 convolution."""
        kernel = self._weights[f"{name}.weight"][:, :, None, None]
        weight = self._constant(kernel, f"{name}.weight")
        return self._ops.convolution(x, weight, [1, 1], [0, 0], [0, 0], [1, 1])

    def _add(self, x: Node, shift_c: NDArray[np.float32], name: str) -> Node:
        return self._ops.add(x, self._constant(shift_c[:, None, None], name))

    def _constant(self, values: NDArray[np.float32], name: str) -> Node:
        return self._ops.constant(np.ascontiguousarray(values, np.float32), name=name)
