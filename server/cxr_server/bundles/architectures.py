"""Architectures: families of networks, each with the parameters that define one network.

The registry holds what a manifest may name. `convert.architectures` describes the layers of each
family, and `inference.engines.torch.network` builds its torch module.
"""

from typing import Annotated, Any, Protocol, runtime_checkable

import msgspec
from msgspec import Meta

Width = Annotated[int, Meta(ge=1, le=1024)]


@runtime_checkable
class Architecture(Protocol):
    """The parameters of a network: a frozen msgspec struct, tagged with its family."""

    @property
    def name(self) -> str:
        """The usual name of the network, such as "densenet121"."""


class DenseNet(
    msgspec.Struct, frozen=True, forbid_unknown_fields=True, tag_field="family", tag="densenet"
):
    """A DenseNet for one grey channel, with the parameters' names of torchvision.

    `block_config` counts the layers of each dense block. Each layer adds `growth_rate` channels
    through a bottleneck of `bn_size` times as many.
    """

    growth_rate: Width
    block_config: Annotated[
        tuple[Annotated[int, Meta(ge=1, le=256)], ...], Meta(min_length=1, max_length=16)
    ]
    num_init_features: Width
    bn_size: Width = 4

    @property
    def name(self) -> str:
        """The name in Huang et al., Densely Connected Convolutional Networks, 2017: by depth."""
        return f"densenet{2 * sum(self.block_config) + len(self.block_config) + 1}"


ARCHITECTURES: dict[str, type[Any]] = {"densenet": DenseNet}
"""The parameters of each family, by its tag."""


def read_architecture(_: type, content: Any) -> Architecture:
    """Return what decoded JSON describes: a `dec_hook` of msgspec. Raises ValueError."""
    family = content.get("family") if isinstance(content, dict) else None
    if family not in list(ARCHITECTURES):
        known = ", ".join(ARCHITECTURES)
        raise ValueError(f"architecture {family!r:.100} is not implemented, only {known}")
    architecture: Architecture = msgspec.convert(content, ARCHITECTURES[family])
    return architecture
