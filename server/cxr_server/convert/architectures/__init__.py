"""Architectures: one description of each family's layers, which OpenVINO's graph and numpy follow.

To add a family: its parameters in `bundles.architectures`, a module like `densenet` here, and one
entry in `FAMILIES`.
"""

from collections.abc import Callable
from typing import Any, NamedTuple

from cxr_server.bundles.architectures import DenseNet
from cxr_server.convert.architectures import densenet
from cxr_server.convert.architectures.graph import Graph, State
from cxr_server.convert.architectures.reference import Reference


class Family(NamedTuple):
    """One entry of the table. Every network ends in a global average pool and `classifier`."""

    recognize: Callable[[State], tuple[Any, State] | None]
    """Returns the parameters of the network whose state this is, and the state; or None."""
    features: Callable[[Any, Graph | Reference, Any], Any]
    """Applies all layers before the pool, the last a ReLU: parameters, layers, images -> maps."""


FAMILIES: dict[type[Any], Family] = {DenseNet: Family(densenet.recognize, densenet.features)}
"""By the type of the parameters."""
