"""Model: a DenseNet-121 with random weights as a bundle. Speed does not depend on the weights.

Torch is imported late: reports of results that exist are written without it.
"""

from pathlib import Path
from typing import Any

import msgspec

from benchmarks.radiographs import CACHE
from cxr_server.bundles.architectures import DenseNet
from cxr_server.bundles.load import load_bundle
from cxr_server.bundles.manifest import FORMAT, Description
from cxr_server.convert.quantize import quantize
from cxr_server.convert.write import write_bundle

FULL = DenseNet(growth_rate=32, block_config=(6, 12, 24, 16), num_init_features=64)
"""The network of torchxrayvision's published models: 7.0 M weights, 2.8 GMAC per image."""
SMALL = DenseNet(growth_rate=8, block_config=(3, 4, 6, 4), num_init_features=16)
"""The size of the shipped phantom model, for smoke tests."""
CLASS_COUNT = 18


def bundle(small: bool = False) -> Path:
    """Return the folder of the bundle, which is created if there is none of today's format."""
    folder = CACHE / "bundles" / f"{'small' if small else 'densenet121'}-{FORMAT}"
    if not (folder / "model.json").is_file():
        network = SMALL if small else FULL
        import torch
        import torchxrayvision as xrv

        torch.manual_seed(0)
        densenet = xrv.models.DenseNet(num_classes=CLASS_COUNT, **msgspec.structs.asdict(network))
        _liven(densenet)
        labels = tuple(xrv.models.DenseNet.targets)
        write_bundle(
            folder,
            {name: tensor.numpy() for name, tensor in densenet.state_dict().items()},
            Description(
                name=f"{folder.name}-random",
                version="1",
                network=network,
                labels=labels,
                class_indices=tuple(range(CLASS_COUNT)),
                thresholds=(0.5,) * CLASS_COUNT,
                license="Apache-2.0",
                notices=("Random weights, for measuring speed.",),
            ),
        )
    return folder


def int8_bundle(small: bool = False) -> Path:
    """Return the folder of the same model in int8, quantised if there is none of today's format.

    Random weights lose more by it than is allowed; their speed is that of trained ones.
    """
    parent = bundle(small)
    folder = parent.with_name(f"{parent.name}-int8")
    if not (folder / "model.json").is_file():
        quantize(load_bundle(parent), f"{parent.name}-random-int8", folder, accept=True)
    return folder


def densenet(folder: Path) -> Any:
    """Return the bundle's network as torchxrayvision's DenseNet."""
    import torch
    import torchxrayvision as xrv
    from safetensors.torch import load_file

    manifest = load_bundle(folder).manifest
    network: Any = manifest.network
    model = xrv.models.DenseNet(
        num_classes=len(manifest.labels),
        op_threshs=torch.tensor(manifest.thresholds),
        **msgspec.structs.asdict(network),
    )
    missing, _ = model.load_state_dict(load_file(folder / "weights.safetensors"), strict=False)
    if set(missing) - {"op_threshs"}:
        raise ValueError(f"the bundle lacks {missing}")
    model.targets = list(manifest.labels)
    return model.eval()


def _liven(densenet: Any) -> None:
    """Set batch norm statistics that keep activations in range, as training does."""
    import torch
    from torch import nn

    generator = torch.Generator().manual_seed(0)
    norms = [each for each in densenet.modules() if isinstance(each, nn.BatchNorm2d)]
    for norm in norms:
        norm.momentum = None
    densenet.train()
    with torch.no_grad():
        for _ in range(2):
            noise = torch.randn(2, 1, 224, 224, generator=generator)
            densenet.features(512 * noise)
    densenet.eval()
