"""Networks of torchxrayvision's class with random weights that still tell images apart."""

from pathlib import Path

import msgspec
import torch
from torch import Tensor, nn

from cxr_server.bundles.architectures import DenseNet
from cxr_server.bundles.manifest import Description
from cxr_server.convert.write import write_bundle
from cxr_server.inference.engines.torch.network import xrv

FULL = DenseNet(growth_rate=32, block_config=(6, 12, 24, 16), num_init_features=64)
SMALL = DenseNet(growth_rate=8, block_config=(3, 4, 6, 4), num_init_features=16)
FULL_LABELS = tuple(xrv.models.DenseNet.targets)
SMALL_LABELS = ("Cardiomegaly", "Effusion", "Pneumothorax", "Nodule", "Mass", "Consolidation")


def random_images(count: int, seed: int = 0) -> Tensor:
    """Return smooth random images [N, 1, 224, 224] that fill [-1024, 1024]."""
    generator = torch.Generator().manual_seed(seed)
    images = torch.zeros(count, 1, 224, 224)
    for cells in (2, 5, 14, 56):
        noise = torch.randn(count, 1, cells, cells, generator=generator)
        images += nn.functional.interpolate(noise, (224, 224), mode="bicubic")
    low, high = images.amin((2, 3), keepdim=True), images.amax((2, 3), keepdim=True)
    return (images - low) / (high - low) * 2048 - 1024


def random_densenet(network: DenseNet, class_count: int, seed: int = 0) -> nn.Module:
    """Return a DenseNet whose logits spread by about 1.5 over images and over findings."""
    generator = torch.Generator().manual_seed(seed)
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        model: nn.Module = xrv.models.DenseNet(
            num_classes=class_count, **msgspec.structs.asdict(network)
        )
    for module in model.modules():
        if isinstance(module, nn.BatchNorm2d):
            module.weight.data.uniform_(0.5, 1.5, generator=generator)
            module.bias.data.normal_(0.0, 0.3, generator=generator)
            module.momentum = None  # the statistics become the mean over what is seen below
    images = random_images(4, seed)[..., ::2, ::2]  # a quarter of the work, the same contrasts
    with torch.no_grad():
        model.train()
        model.features(images)
        model.eval()
        pooled = torch.relu(model.features(images)).mean((2, 3))
        weight = torch.randn(class_count, pooled.shape[1], generator=generator)
        spread = (pooled @ weight.T).std(0, keepdim=True).T
        model.classifier.weight.data = 1.5 * weight / spread
        centre = model.classifier.weight @ pooled.mean(0)
        noise = torch.randn(class_count, generator=generator)
        model.classifier.bias.data = 1.5 * noise - centre
    return model.requires_grad_(False)


def random_thresholds(class_count: int) -> tuple[float, ...]:
    """Return operating points that differ, all representable in float32."""
    return tuple(torch.linspace(0.02, 0.6, class_count).tolist())


def write_random_bundle(folder: Path, model: nn.Module, labels: tuple[str, ...]) -> Path:
    """Write `model` as a bundle named after the folder."""
    full = len(labels) == len(FULL_LABELS)
    return write_bundle(
        folder,
        {name: tensor.numpy() for name, tensor in model.state_dict().items()},
        Description(
            name=folder.name,
            version="1",
            network=FULL if full else SMALL,
            labels=labels,
            class_indices=tuple(range(len(labels))),
            thresholds=random_thresholds(len(labels)),
            license="Apache-2.0",
            notices=("Random weights, for tests.",),
            phantom=not full,
        ),
    )
