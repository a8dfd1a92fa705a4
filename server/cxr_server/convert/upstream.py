"""Upstream: a saved DenseNet -> weights and what is to be said of them. Next: write."""

import math
import re
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from torch import Tensor

from cxr_server.bundles.architectures import DenseNet
from cxr_server.bundles.manifest import BundleError, Description, Upstream
from cxr_server.convert.catalog import CATALOG, LICENSE, NOTICES, reliability
from cxr_server.convert.unpickle import SavedModel
from cxr_server.inference.engines.torch.network import OPERATING_POINTS, weights_of, xrv

_OLD_NAME = re.compile(r"(denselayer\d+\.(?:norm|relu|conv))\.([12])\.")
"""Before torchvision 0.3 the parts of a layer were called norm.1 instead of norm1."""


@dataclass(frozen=True, slots=True)
class UpstreamModel:
    """A DenseNet as torchxrayvision would have loaded it.

    Attributes:
        state: Its weights, all outputs included.
        network: The arguments of torchxrayvision's DenseNet.
        labels: A label for every output; "" where the model was not trained for one.
        thresholds: An operating point for every output; NaN where there is none.
        notices: What had to be assumed.
    """

    state: Mapping[str, Tensor]
    network: DenseNet
    labels: tuple[str, ...]
    thresholds: tuple[float, ...]
    notices: tuple[str, ...]

    @property
    def kept(self) -> tuple[int, ...]:
        """The outputs that a bundle keeps: those with a label and an operating point."""
        pairs = zip(self.labels, self.thresholds, strict=True)
        return tuple(i for i, (label, point) in enumerate(pairs) if label and 0 < point < 1)


def upstream_model(name: str, saved: SavedModel) -> UpstreamModel:
    """Work out what a saved model is.

    For a name in the catalogue, labels and operating points are torchxrayvision's, as when it
    loads the model itself; for any other they come from the file. Without operating points
    0.5 is taken, which leaves a score equal to the probability.

    Raises:
        BundleError: It is no DenseNet of torchxrayvision, or nobody says what its outputs are.
    """
    tensors = {
        _OLD_NAME.sub(r"\1\2.", key): torch.from_numpy(array) for key, array in saved.state.items()
    }
    network, count = _network(tensors)
    notices: list[str] = []
    if name in CATALOG:
        known = xrv.models.model_urls[name]
        labels, thresholds = known["labels"], known[OPERATING_POINTS]
    else:
        labels = saved.attributes.get("targets") or saved.attributes.get("pathologies")
        if not labels and count == len(xrv.models.DenseNet.targets):
            labels = xrv.models.DenseNet.targets
            notices.append("The file names no findings: torchxrayvision's own order is assumed.")
        thresholds = _thresholds(tensors, saved.attributes)
        if thresholds is None:
            thresholds = [0.5] * count
            notices.append("No operating points: 0.5 is taken, so a score is the probability.")
    if not labels or len(labels) != count or len(thresholds) != count:
        raise BundleError(
            f"the network has {count} outputs, but not as many findings and operating points"
        )
    model = UpstreamModel(
        weights_of(tensors),
        network,
        tuple(str(label) for label in labels),
        tuple(float(np.float32(threshold)) for threshold in thresholds),
        tuple(notices),
    )
    if not model.kept:
        raise BundleError("no output of the network has both a finding and an operating point")
    return model


def bundle_state(model: UpstreamModel) -> dict[str, Tensor]:
    """Return the weights without the outputs that are not kept."""
    kept = list(model.kept)
    return {
        key: tensor[kept] if key.startswith("classifier.") else tensor
        for key, tensor in model.state.items()
    }


def describe(name: str, model: UpstreamModel, upstream: Upstream) -> Description:
    """Return what the bundle says of the model."""
    entry = CATALOG.get(name)
    labels = tuple(model.labels[i] for i in model.kept)
    trained = (f"Trained on {entry.trained_on}.",) if entry else ()
    return Description(
        name=name,
        version=f"1+{upstream.sha256[:12]}",
        network=model.network,
        labels=labels,
        class_indices=model.kept,
        thresholds=tuple(model.thresholds[i] for i in model.kept),
        license=LICENSE if entry else "Not stated.",
        notices=NOTICES + trained + model.notices,
        upstream=upstream,
        reliability=reliability(name, labels) if entry else {},
    )


def _network(tensors: Mapping[str, Tensor]) -> tuple[DenseNet, int]:
    """Read the arguments of DenseNet off the shapes of its weights."""
    try:
        first = tensors["features.conv0.weight"].shape
        layer = "features.denseblock1.denselayer1"
        growth = tensors[f"{layer}.conv2.weight"].shape[0]
        network = DenseNet(
            growth_rate=growth,
            block_config=_blocks(tensors),
            num_init_features=first[0],
            bn_size=tensors[f"{layer}.conv1.weight"].shape[0] // growth,
        )
        count = tensors["classifier.bias"].shape[0]
    except (KeyError, IndexError, ZeroDivisionError):
        raise BundleError("the file holds no DenseNet of torchxrayvision") from None
    if first[1] != 1:
        raise BundleError("the network does not take one grey channel")
    return network, count


def _blocks(tensors: Mapping[str, Tensor]) -> tuple[int, ...]:
    found: dict[int, int] = {}
    for key in tensors:
        if match := re.match(r"features\.denseblock(\d{1,2})\.denselayer(\d{1,3})\.", key):
            block, layer = int(match[1]), int(match[2])
            found[block] = max(found.get(block, 0), layer)
    return tuple(found[block] for block in sorted(found))


def _thresholds(tensors: Mapping[str, Tensor], attributes: Mapping[str, Any]) -> Any:
    if OPERATING_POINTS in tensors:
        return tensors[OPERATING_POINTS].flatten().tolist()
    points = attributes.get(OPERATING_POINTS)
    if isinstance(points, list) and all(isinstance(point, float | int) for point in points):
        return [math.nan if point is None else point for point in points]
    return None
