"""DenseNet of torchxrayvision: parameters read off the weights, and the order of the layers.

Huang et al., Densely Connected Convolutional Networks, 2017. Names of weights are torchvision's.
"""

import re
from collections import Counter
from typing import Any

from cxr_server.bundles.architectures import DenseNet
from cxr_server.convert.architectures.graph import Graph, State
from cxr_server.convert.architectures.reference import Reference

# Before torchvision 0.3 the parts of a layer were called norm.1 instead of norm1.
_OLD_NAME = re.compile(r"(denselayer\d+\.(?:norm|relu|conv))\.([12])\.")
_LAYER = re.compile(r"features\.denseblock(\d{1,2})\.denselayer\d{1,3}\.conv1\.weight")


def recognize(state: State) -> tuple[DenseNet, State] | None:
    """Return the DenseNet whose weights these are and its state in today's names, or None."""
    state = {_OLD_NAME.sub(r"\1\2.", name): array for name, array in state.items()}
    layers = Counter(int(found[1]) for found in map(_LAYER.fullmatch, state) if found)
    try:
        growth_rate = len(state["features.denseblock1.denselayer1.conv2.weight"])
        network = DenseNet(
            growth_rate=growth_rate,
            block_config=tuple(layers[block] for block in sorted(layers)),
            num_init_features=len(state["features.conv0.weight"]),
            bn_size=len(state["features.denseblock1.denselayer1.conv1.weight"]) // growth_rate,
        )
    except (KeyError, TypeError, ZeroDivisionError):
        return None
    return network, state


def features(network: DenseNet, layers: Graph | Reference, x: Any) -> Any:
    """Return the feature maps [N, C, h, w] of images [N, 1, H, W]."""
    channels = network.num_init_features
    x = layers.conv(x, "features.conv0", channels, 7, norm="features.norm0", stride=2)
    x = layers.max_pool(layers.relu(x), 3, stride=2)
    bottleneck = network.bn_size * network.growth_rate
    for block, count in enumerate(network.block_config, 1):
        for index in range(1, count + 1):
            layer = f"features.denseblock{block}.denselayer{index}"
            y = layers.relu(layers.norm(x, f"{layer}.norm1"))
            y = layers.conv(y, f"{layer}.conv1", bottleneck, 1, norm=f"{layer}.norm2")
            y = layers.conv(layers.relu(y), f"{layer}.conv2", network.growth_rate, 3)
            x = layers.concat(x, y)
        channels += count * network.growth_rate
        if block < len(network.block_config):
            channels //= 2
            transition = f"features.transition{block}"
            x = layers.relu(layers.norm(x, f"{transition}.norm"))
            x = layers.average_pool(layers.conv(x, f"{transition}.conv", channels, 1), 2)
    return layers.relu(layers.norm(x, "features.norm5"))
