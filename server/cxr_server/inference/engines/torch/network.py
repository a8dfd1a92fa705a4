"""Network: a bundle's weights -> a torch module that gives evidence. Imports torch.

torchxrayvision's DenseNet ends in ReLU -> global average pool -> linear. The linear layer is
moved before the pool, where it is a 1x1 convolution: the mean of what comes out, plus the
bias, is the logit as before, and each map shows where the logit comes from.
"""

import contextlib
import copy
import io
import warnings
from collections.abc import Mapping
from itertools import pairwise
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn.utils.fusion import fuse_conv_bn_eval

with warnings.catch_warnings(), contextlib.redirect_stdout(io.StringIO()):
    # torchxrayvision turns all warnings off for the whole process when it is imported.
    import torchxrayvision as xrv

__all__ = [
    "OPERATING_POINTS",
    "EvidenceNet",
    "PlacedNet",
    "build_densenet",
    "fold_normalization",
    "load_densenet",
    "weights_of",
    "xrv",
]

OPERATING_POINTS = "op_threshs"
"""A buffer of torchxrayvision's DenseNet that is no weight: thresholds are in `model.json`."""


class EvidenceNet(nn.Module):
    """DenseNet features -> ReLU -> 1x1 convolution.

    `rectifier` is a module of its own, and not in place, so that its output is a layer that
    gradient methods can look at.
    """

    def __init__(self, densenet: nn.Module) -> None:
        super().__init__()
        classifier: Any = densenet.classifier
        self.features: Any = densenet.features
        self.rectifier = nn.ReLU(inplace=False)
        self.weigh = nn.Conv2d(classifier.in_features, classifier.out_features, 1, bias=False)
        self.weigh.weight = nn.Parameter(classifier.weight.detach()[:, :, None, None].clone())

    def forward(self, image: Tensor) -> Tensor:
        """Return the evidence [N, K, h, w], in logits, of images [N, 1, H, W]."""
        activation: Tensor = self.rectifier(self.features(image))
        evidence: Tensor = self.weigh(activation)
        return evidence


class PlacedNet(nn.Module):
    """An EvidenceNet for fast inference: folded, channels last, features in any precision.

    What the features feed stays in float32: sums of a thousand channels are where half
    precision would show in the scores.
    """

    def __init__(self, net: EvidenceNet, device: str, features_type: torch.dtype) -> None:
        super().__init__()
        features: Any = fold_normalization(net.features)
        self.features = features.to(device, features_type, memory_format=torch.channels_last)
        self.rectifier = net.rectifier
        self.weigh = copy.deepcopy(net.weigh).to(device)
        self._features_type = features_type

    def forward(self, image: Tensor) -> Tensor:
        """Return the evidence [N, K, h, w] in float32 of images [N, 1, H, W] in float32."""
        image = image.to(self._features_type, memory_format=torch.channels_last)
        activation: Tensor = self.rectifier(self.features(image)).to(torch.float32)
        evidence: Tensor = self.weigh(activation)
        return evidence.contiguous()


def fold_normalization(module: nn.Module) -> nn.Module:
    """Return a copy in which a convolution takes over the normalisation right behind it.

    Fewer steps, and no intermediate result outside of half precision's range: the first
    convolution sees pixels of up to 1024.
    """
    folded = copy.deepcopy(module)
    for parent in folded.modules():
        if not isinstance(parent, nn.Sequential):
            continue
        for (name, layer), (next_name, next_layer) in pairwise(list(parent.named_children())):
            if isinstance(layer, nn.Conv2d) and isinstance(next_layer, nn.BatchNorm2d):
                parent.add_module(name, fuse_conv_bn_eval(layer, next_layer))
                parent.add_module(next_name, nn.Identity())
    return folded.eval().requires_grad_(False)


def build_densenet(
    network: Mapping[str, int | tuple[int, ...]], class_count: int, state: Mapping[str, Tensor]
) -> nn.Module:
    """Return torchxrayvision's DenseNet in evaluation mode with the weights `state`.

    Raises:
        ValueError: `state` is not the state of such a network.
    """
    densenet: nn.Module = xrv.models.DenseNet(num_classes=class_count, **network)
    result = None
    with contextlib.suppress(RuntimeError):  # a wrong shape; torch's text is long
        result = densenet.load_state_dict(dict(state), strict=False)
    unset = [] if result is None else result.missing_keys
    if result is None or result.unexpected_keys or not all(map(_is_counter, unset)):
        raise ValueError("these weights do not fit torchxrayvision's DenseNet")
    return densenet.eval().requires_grad_(False)


def weights_of(state: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """Return what evaluation needs of a state: float32, contiguous, no counters, no thresholds."""
    return {
        name: tensor.detach().to("cpu", torch.float32).contiguous()
        for name, tensor in state.items()
        if not _is_counter(name) and name != OPERATING_POINTS
    }


def load_densenet(
    weights: Path, network: Mapping[str, int | tuple[int, ...]], class_count: int
) -> nn.Module:
    """Return the DenseNet of a bundle's `weights.safetensors`."""
    from safetensors.torch import load_file

    return build_densenet(network, class_count, load_file(weights))


def _is_counter(name: str) -> bool:
    """Whether this is the number of batches that a normalisation has seen in training."""
    return name.endswith("num_batches_tracked")
