"""Random weights without torch: DenseNets whose scores differ between images and findings."""

import numpy as np

from cxr_server.bundles.architectures import DenseNet
from cxr_server.bundles.manifest import Description
from cxr_server.convert.architectures import densenet
from cxr_server.convert.parity import check_images

TINY = DenseNet(growth_rate=4, block_config=(2, 3), num_init_features=8)
LABELS = ("Cardiomegaly", "Effusion", "Mass")


def random_weights(
    network: DenseNet = TINY, class_count: int = len(LABELS), seed: int = 0
) -> dict[str, np.ndarray]:
    """Return a state whose logits spread by 1 over `check_images`."""
    random = np.random.default_rng(seed)
    state = {}
    for name, shape in densenet.shapes(network, class_count).items():
        fan_in = np.prod(shape[1:]) if len(shape) > 1 else 1
        values = random.normal(0, 1 / np.sqrt(fan_in), shape)
        if name.endswith("running_var"):
            values = random.uniform(0.5, 2, shape)
        elif name.endswith((".running_mean", "norm.bias", "classifier.bias")):
            values = 0.3 * values
        state[name] = values.astype(np.float32)
    state["features.conv0.weight"] /= 512
    logits = densenet.forward(network, state, check_images(64))
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
