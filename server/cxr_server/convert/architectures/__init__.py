"""Architectures: state_dict -> network parameters, OpenVINO graph and numpy forward pass.

To add a family: its parameters in `bundles.architectures`, a module like `densenet` here, and one
entry in `FAMILIES`.
"""

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from cxr_server.bundles.architectures import DenseNet
from cxr_server.convert.architectures import densenet

State = Mapping[str, NDArray[Any]]
Weights = Mapping[str, NDArray[np.float32]]


@dataclass(frozen=True, slots=True, kw_only=True)
class Family:
    """One entry of the table.

    A network ends in ReLU, global average pool and a linear layer named `classifier`.
    """

    recognize: Callable[[State], tuple[Any, dict[str, NDArray[Any]]] | None]
    """Returns the parameters of the network whose state this is, and the state; or None."""
    shapes: Callable[[Any, int], dict[str, tuple[int, ...]]]
    """Returns the shape of every weight: parameters, class count -> shapes by name."""
    build_graph: Callable[[Any, Weights, int], Any]
    """Builds the OpenVINO model: parameters, weights, input side in px -> evidence."""
    forward: Callable[[Any, Weights, NDArray[np.float32]], NDArray[np.float32]]
    """The numpy forward pass: parameters, weights, images [N, 1, H, W] -> logits [N, K]."""


FAMILIES: dict[type[Any], Family] = {
    DenseNet: Family(
        recognize=densenet.recognize,
        shapes=densenet.shapes,
        build_graph=densenet.build_graph,
        forward=densenet.forward,
    )
}
"""By the type of the parameters."""
