"""Architectures: one description of each family's layers, which OpenVINO's graph and numpy follow.

To add a family: its parameters in `bundles.architectures`, a module like `densenet` here, and one
entry in `FAMILIES`.
"""

from collections.abc import Callable, Mapping
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from cxr_server.bundles.architectures import DenseNet
from cxr_server.convert.architectures import densenet
from cxr_server.convert.architectures.graph import Graph, Node, State, Weights
from cxr_server.convert.architectures.reference import Reference

__all__ = ["FAMILIES", "Family", "State", "build_graph", "forward"]


class Family(NamedTuple):
    """One entry of the table. Every network ends in a global average pool and `classifier`."""

    recognize: Callable[[State], tuple[Any, State] | None]
    """Returns the parameters of the network whose state this is, and the state; or None."""
    features: Callable[[Any, Graph | Reference, Any], Any]
    """Applies all layers before the pool, the last a ReLU: parameters, layers, images -> maps."""


FAMILIES: dict[type[Any], Family] = {DenseNet: Family(densenet.recognize, densenet.features)}
"""By the type of the parameters."""


def build_graph(
    network: Any, state: State, class_count: int, input_side_px: int
) -> tuple[Node, Weights]:
    """Return the OpenVINO model of image [1, 1, S, S] -> evidence [1, K, h, w], and its weights.

    Raises:
        BundleError: The state lacks a weight, or one has another shape or is not finite.
    """
    graph = Graph(state, input_side_px)
    maps = FAMILIES[type(network)].features(network, graph, graph.image)
    return graph.model(maps, class_count, network.name), graph.weights


def forward(
    network: Any, weights: Mapping[str, NDArray[np.float32]], images_nchw: NDArray[np.float32]
) -> NDArray[np.float32]:
    """Return the logits [N, K] of images [N, 1, H, W] in [-1024, 1024], in plain numpy.

    The linear layer comes after the pool, as in torchxrayvision.
    """
    maps_nchw = FAMILIES[type(network)].features(network, Reference(weights), images_nchw)
    logits: NDArray[np.float32] = maps_nchw.mean((2, 3)) @ weights["classifier.weight"].T
    return logits + weights["classifier.bias"]
