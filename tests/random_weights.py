"""Random weights without torch: DenseNets whose scores differ between images and findings."""

import numpy as np

from cxr_server.bundles.architectures import DenseNet
from cxr_server.bundles.manifest import Description
from cxr_server.convert.architectures import FAMILIES
from cxr_server.convert.architectures.reference import Reference
from cxr_server.convert.parity import check_images

TINY = DenseNet(growth_rate=4, block_config=(2, 3), num_init_features=8)
LABELS = ("Cardiomegaly", "Effusion", "Mass")


class Shapes:
    """Records the shapes of a network's weights; what passes is a number of channels."""

    def __init__(self) -> None:
        self.found: dict[str, tuple[int, ...]] = {}

    def conv(self, x: int, name: str, channels: int, size: int, *, norm: str = "", **_: int) -> int:
        self.found[f"{name}.weight"] = (channels, x, size, size)
        return self.norm(channels, norm) if norm else channels

    def norm(self, x: int, name: str) -> int:
        for part in ("weight", "bias", "running_mean", "running_var"):
            self.found[f"{name}.{part}"] = (x,)
        return x

    def relu(self, x: int) -> int:
        return x

    def max_pool(self, x: int, *_: int, **__: int) -> int:
        return x

    def average_pool(self, x: int, *_: int) -> int:
        return x

    def concat(self, *parts: int) -> int:
        return sum(parts)


def shapes(network: object, class_count: int) -> dict[str, tuple[int, ...]]:
    """Return the shape of every weight of a network."""
    layers = Shapes()
    channels = FAMILIES[type(network)].features(network, layers, 1)
    classifier = {"classifier.weight": (class_count, channels), "classifier.bias": (class_count,)}
    return layers.found | classifier


def random_weights(
    network: DenseNet = TINY, class_count: int = len(LABELS), seed: int = 0
) -> dict[str, np.ndarray]:
    """Return a state whose logits spread by 1 over `check_images`."""
    random = np.random.default_rng(seed)
    state = {}
    for name, shape in shapes(network, class_count).items():
        fan_in = np.prod(shape[1:]) if len(shape) > 1 else 1
        values = random.normal(0, 1 / np.sqrt(fan_in), shape)
        if name.endswith("running_var"):
            values = random.uniform(0.5, 2, shape)
        elif name.endswith((".running_mean", "norm.bias", "classifier.bias")):
            values = 0.3 * values
        state[name] = values.astype(np.float32)
    state["features.conv0.weight"] /= 512
    maps = FAMILIES[type(network)].features(network, Reference(state), check_images(64))
    logits = maps.mean((2, 3)) @ state["classifier.weight"].T + state["classifier.bias"]
    spread = logits.std(0)
    state["classifier.weight"] /= spread[:, None]
    state["classifier.bias"] = (state["classifier.bias"] - logits.mean(0)) / spread
    return state


def described(network: DenseNet = TINY, **changes: object) -> Description:
    """Return a description of `random_weights()`."""
    facts = {
        "name": "tiny",
        "version": "1",
        "network": network,
        "labels": LABELS,
        "class_indices": (0, 1, 2),
        "thresholds": (0.1, 0.4, 0.5),
        "license": "Apache-2.0",
        "notices": ("Random weights, for tests.",),
        "input_side_px": 64,
    }
    return Description(**facts | changes)
