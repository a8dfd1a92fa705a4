"""Network: a bundle's weights -> a torch module that returns evidence.

torchxrayvision's DenseNet ends in ReLU -> global average pool -> linear. Here the linear layer
comes before the pool, as a 1x1 convolution. Its maps are the evidence: their mean plus the bias
is the unchanged logit, and each map shows where the logit comes from.
"""

import contextlib
import copy
import io
import warnings
from collections.abc import Callable
from itertools import pairwise
from typing import Any

import msgspec
import numpy as np
import torch
from numpy.typing import NDArray
from safetensors.torch import load_file
from torch import Tensor, nn
from torch.nn.utils.fusion import fuse_conv_bn_eval

from cxr_server.bundles.architectures import DenseNet
from cxr_server.bundles.load import Bundle
from cxr_server.bundles.manifest import WEIGHTS_NAME, BundleError

with warnings.catch_warnings(), contextlib.redirect_stdout(io.StringIO()):
    # Importing torchxrayvision disables all warnings of the process.
    import torchxrayvision as xrv

__all__ = ["EvidenceNet", "load_module", "torchxrayvision_scores", "xrv"]


class EvidenceNet(nn.Module):
    """DenseNet features -> ReLU -> 1x1 convolution, optimised for inference on a device.

    Batch norms are folded and the layout is channels last. The features may run in half
    precision. The last convolution stays in float32, because it sums a thousand channels into
    a score.
    """

    def __init__(
        self, densenet: Any, device: str = "cpu", features_type: torch.dtype = torch.float32
    ) -> None:
        super().__init__()
        linear = densenet.classifier
        features: Any = fold_batch_norms(densenet.features)
        self._features = features.to(device, features_type, memory_format=torch.channels_last)
        self.classify = nn.Conv2d(linear.in_features, linear.out_features, 1, bias=False)
        self.classify.weight.data.copy_(linear.weight[:, :, None, None])
        self.classify.to(device).requires_grad_(False)
        self._features_type = features_type

    def features(self, image: Tensor) -> Tensor:
        """Return the feature maps [N, C, h, w], before their ReLU, of images [N, 1, S, S]."""
        image = image.to(self._features_type, memory_format=torch.channels_last)
        features: Tensor = self._features(image)
        return features

    def forward(self, image: Tensor) -> tuple[Tensor, Tensor]:
        """Return the evidence [N, K, h, w], in logits, of images [N, 1, S, S] in float32.

        The second tensor is the embedding [N, C]: the mean of the rectified maps over the grid.
        """
        maps = torch.relu(self.features(image)).to(torch.float32)
        evidence: Tensor = self.classify(maps)
        return evidence.contiguous(), maps.mean((2, 3))


def fold_batch_norms(module: nn.Module) -> nn.Module:
    """Return a copy in which each convolution absorbs the batch norm that follows it.

    This saves operations and keeps intermediate results in half precision's range: the first
    convolution sees pixel values of up to 1024.
    """
    folded = copy.deepcopy(module)
    for parent in folded.modules():
        children = list(parent.named_children()) if isinstance(parent, nn.Sequential) else []
        for (name, layer), (next_name, next_layer) in pairwise(children):
            if isinstance(layer, nn.Conv2d) and isinstance(next_layer, nn.BatchNorm2d):
                parent.add_module(name, fuse_conv_bn_eval(layer, next_layer))
                parent.add_module(next_name, nn.Identity())
    return folded.eval().requires_grad_(False)


MODULES: dict[type[Any], Callable[..., nn.Module]] = {DenseNet: xrv.models.DenseNet}
"""By architecture: makes a module with `features` and `classifier`."""


def load_module(bundle: Bundle) -> nn.Module:
    """Return the network in torchxrayvision's class, in evaluation mode. Raises BundleError."""
    network: Any = bundle.manifest.network
    parameters = msgspec.structs.asdict(network)
    module = MODULES[type(network)](num_classes=len(bundle.manifest.labels), **parameters)
    try:
        result = module.load_state_dict(load_file(bundle.file(WEIGHTS_NAME)), strict=False)
    except RuntimeError:  # a wrong shape; torch's message has many lines
        raise BundleError(f"{WEIGHTS_NAME} has other shapes than {network.name}") from None
    if wrong := [*result.missing_keys, *result.unexpected_keys]:
        raise BundleError(f"{WEIGHTS_NAME} does not fit {network.name}: {wrong[0]}")
    return module.eval().requires_grad_(False)


def torchxrayvision_scores(bundle: Bundle, images_nchw: NDArray[np.float32]) -> NDArray[np.float32]:
    """Return the scores [N, K] of torchxrayvision's own forward pass, on the CPU."""
    module: Any = load_module(bundle)
    module.op_threshs = torch.tensor(bundle.manifest.thresholds)
    with torch.inference_mode():
        scores: NDArray[np.float32] = module(torch.from_numpy(images_nchw)).numpy()
    return scores
