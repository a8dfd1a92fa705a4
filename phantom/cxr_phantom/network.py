"""Network: torchxrayvision's DenseNet in a small size, and its class evidence maps. Next: train."""

import msgspec
import torchxrayvision as xrv
from torch import Tensor, nn
from torch.nn import functional

from cxr_phantom.findings import FINDINGS
from cxr_server.bundles.architectures import DenseNet

ARCHITECTURE = DenseNet(growth_rate=8, block_config=(3, 4, 6, 4), num_init_features=16)
"""Four blocks as in DenseNet-121, so a 224 px input gives a 7 x 7 grid; 70,000 parameters."""


def build_network() -> nn.Module:
    """Return an untrained `torchxrayvision.models.DenseNet` with the labels of the phantom."""
    network: nn.Module = xrv.models.DenseNet(
        weights=None,
        num_classes=len(FINDINGS),
        in_channels=1,
        **msgspec.structs.asdict(ARCHITECTURE),
    )
    return network


def normalize(pixels_nhw: Tensor) -> Tensor:
    """Scale uint8 [N, H, W] to float32 [N, 1, H, W] in [-1024, 1024], as torchxrayvision does."""
    return (pixels_nhw.float() * (2 / 255) - 1).unsqueeze(1) * 1024


def class_evidence(network: nn.Module, images_nchw: Tensor) -> Tensor:
    """Return class evidence maps [N, K, 7, 7]: the classifier as a 1x1 convolution, no bias."""
    features: nn.Module = network.get_submodule("features")
    classifier = network.get_submodule("classifier")
    weight: Tensor = classifier.get_parameter("weight")
    maps = functional.relu(features(images_nchw))
    return functional.conv2d(maps, weight[:, :, None, None])


def logits(network: nn.Module, evidence_nkhw: Tensor) -> Tensor:
    """Return logits [N, K]: mean evidence plus bias."""
    bias = network.get_submodule("classifier").get_parameter("bias")
    return evidence_nkhw.mean((2, 3)) + bias


def stray_evidence(evidence_nkhw: Tensor, near_nkhw: Tensor, labels_nk: Tensor) -> Tensor:
    """Return the mean fraction of positive evidence far from the mask, over planted findings."""
    positive = functional.relu(evidence_nkhw)
    stray = (positive * ~near_nkhw).sum((2, 3)) / (positive.sum((2, 3)) + 1e-3)
    planted = labels_nk.to(stray.dtype)
    return (stray * planted).sum() / planted.sum().clamp(min=1)
