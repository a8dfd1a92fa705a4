"""DenseNet of torchxrayvision: parameters read off the weights, OpenVINO graph, numpy forward pass.

Huang et al., Densely Connected Convolutional Networks, 2017. Names of weights are torchvision's.
"""

import re
from collections.abc import Iterator, Mapping
from typing import Any

import numpy as np
from numpy.typing import NDArray

from cxr_server.bundles.architectures import DenseNet
from cxr_server.convert.architectures import reference as ref
from cxr_server.convert.architectures.graph import Graph, Node, Weights

# Before torchvision 0.3 the parts of a layer were called norm.1 instead of norm1.
_OLD_NAME = re.compile(r"(denselayer\d+\.(?:norm|relu|conv))\.([12])\.")
_LAYER = re.compile(r"features\.denseblock(\d{1,2})\.denselayer(\d{1,3})\.")


def recognize(
    state: Mapping[str, NDArray[Any]],
) -> tuple[DenseNet, dict[str, NDArray[Any]]] | None:
    """Return the DenseNet whose weights these are and its state in today's names, or None."""
    state = {_OLD_NAME.sub(r"\1\2.", name): array for name, array in state.items()}
    blocks: dict[int, int] = {}
    for block, layer in (map(int, found.groups()) for found in map(_LAYER.match, state) if found):
        blocks[block] = max(blocks.get(block, 0), layer)
    try:
        growth_rate = len(state["features.denseblock1.denselayer1.conv2.weight"])
        network = DenseNet(
            growth_rate=growth_rate,
            block_config=tuple(blocks[block] for block in sorted(blocks)),
            num_init_features=len(state["features.conv0.weight"]),
            bn_size=len(state["features.denseblock1.denselayer1.conv1.weight"]) // growth_rate,
        )
    except (KeyError, TypeError, ZeroDivisionError):
        return None
    return network, state


def shapes(network: DenseNet, class_count: int) -> dict[str, tuple[int, ...]]:
    """Return the shape of every weight that inference needs."""
    bottleneck = network.bn_size * network.growth_rate
    channels = network.num_init_features
    found: dict[str, tuple[int, ...]] = {"features.conv0.weight": (channels, 1, 7, 7)}
    norms = {"features.norm0": channels}
    for block, layers in _blocks(network):
        for layer in layers:
            found[f"{layer}.conv1.weight"] = (bottleneck, channels, 1, 1)
            found[f"{layer}.conv2.weight"] = (network.growth_rate, bottleneck, 3, 3)
            norms |= {f"{layer}.norm1": channels, f"{layer}.norm2": bottleneck}
            channels += network.growth_rate
        if block < len(network.block_config):
            found[f"features.transition{block}.conv.weight"] = (channels // 2, channels, 1, 1)
            norms[f"features.transition{block}.norm"] = channels
            channels //= 2
    norms["features.norm5"] = channels
    for norm, width in norms.items():
        for part in ("weight", "bias", "running_mean", "running_var"):
            found[f"{norm}.{part}"] = (width,)
    return found | {"classifier.weight": (class_count, channels), "classifier.bias": (class_count,)}


def build_graph(network: DenseNet, weights: Weights, input_side_px: int) -> Node:
    """Return the OpenVINO model: image [1, 1, side, side] -> evidence [1, K, h, w] in logits."""
    graph = Graph(weights, input_side_px)
    x = graph.conv(graph.image, "features.conv0", norm="features.norm0", stride=2, padding=3)
    x = graph.max_pool(graph.relu(x), 3, stride=2, padding=1)
    for block, layers in _blocks(network):
        for layer in layers:
            y = graph.relu(graph.norm(x, f"{layer}.norm1"))
            y = graph.relu(graph.conv(y, f"{layer}.conv1", norm=f"{layer}.norm2"))
            x = graph.concat(x, graph.conv(y, f"{layer}.conv2", padding=1))
        if block < len(network.block_config):
            x = graph.relu(graph.norm(x, f"features.transition{block}.norm"))
            x = graph.average_pool(graph.conv(x, f"features.transition{block}.conv"), 2)
    x = graph.relu(graph.norm(x, "features.norm5"))
    return graph.model(graph.evidence(x, "classifier"), network.name)


def forward(
    network: DenseNet, weights: Weights, images_nchw: NDArray[np.float32]
) -> NDArray[np.float32]:
    """Return the logits [N, K] of images [N, 1, H, W] in [-1024, 1024], in plain numpy.

    In the order of the paper: the linear layer comes after the pool, as in torchxrayvision.
    """
    x = ref.conv(images_nchw, weights["features.conv0.weight"], stride=2, padding=3)
    x = ref.relu(ref.batch_norm(x, weights, "features.norm0"))
    x = ref.max_pool(x, 3, stride=2, padding=1)
    for block, layers in _blocks(network):
        for layer in layers:
            y = ref.relu(ref.batch_norm(x, weights, f"{layer}.norm1"))
            y = ref.conv(y, weights[f"{layer}.conv1.weight"])
            y = ref.relu(ref.batch_norm(y, weights, f"{layer}.norm2"))
            y = ref.conv(y, weights[f"{layer}.conv2.weight"], padding=1)
            x = np.concatenate([x, y], 1)
        if block < len(network.block_config):
            transition = f"features.transition{block}"
            x = ref.relu(ref.batch_norm(x, weights, f"{transition}.norm"))
            x = ref.average_pool(ref.conv(x, weights[f"{transition}.conv.weight"]), 2)
    x = ref.relu(ref.batch_norm(x, weights, "features.norm5"))
    logits: NDArray[np.float32] = (
        x.mean((2, 3)) @ weights["classifier.weight"].T + weights["classifier.bias"]
    )
    return logits


def _blocks(network: DenseNet) -> Iterator[tuple[int, list[str]]]:
    """Yield the number of each dense block, from 1, and the names of its layers."""
    for block, count in enumerate(network.block_config, 1):
        names = [f"features.denseblock{block}.denselayer{i}" for i in range(1, count + 1)]
        yield block, names
