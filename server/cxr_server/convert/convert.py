"""Convert: source -> checkpoint -> network, findings and operating points -> bundle.

No code of the checkpoint runs, and torch is not needed.
"""

import math
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from cxr_server.bundles.architectures import Architecture
from cxr_server.bundles.load import Bundle
from cxr_server.bundles.manifest import BundleError, Description, Upstream
from cxr_server.convert.allow_list import CheckpointRefused
from cxr_server.convert.architectures import FAMILIES, State
from cxr_server.convert.catalog import (
    LICENSE,
    NOTICES,
    OPERATING_POINTS,
    OUTPUTS,
    CatalogEntry,
    reliability,
)
from cxr_server.convert.checkpoint import Checkpoint, read_checkpoint
from cxr_server.convert.download import Progress
from cxr_server.convert.parity import TOLERANCE, check_parity
from cxr_server.convert.source import Source, discard_download, obtain
from cxr_server.convert.write import write_bundle

_ASSUMED_LABELS = "The file names no findings: torchxrayvision's order is assumed."
_ASSUMED_POINTS = "No operating points: 0.5 is assumed, so a score is the raw probability."


@dataclass(frozen=True, slots=True)
class TrainedModel:
    """A network with what its outputs mean. Outputs without a finding are left out.

    Attributes:
        network: Its architecture.
        state: Its weights.
        labels: The finding of each output.
        class_indices: The position of each output in the upstream model.
        thresholds: The operating point of each output, in (0, 1).
        notices: The assumptions that were made.
    """

    network: Architecture
    state: State
    labels: tuple[str, ...]
    class_indices: tuple[int, ...]
    thresholds: tuple[float, ...]
    notices: tuple[str, ...]


def prepare(
    source: Source,
    output: Path,
    *,
    say: Callable[[str], None] = lambda _: None,
    progress: Progress | None = None,
) -> Path:
    """Write the bundle of a model of the catalogue, or of a fine-tuned one, to `output`.

    Args:
        source: The checkpoint.
        output: The bundle's folder.
        say: Called with a line about each step.
        progress: Called during a download.

    Raises:
        BundleError: The file cannot be converted; `output` is unchanged.
        DownloadError: The download failed.
    """
    content, upstream = obtain(source, progress)
    say(f"{upstream.file_name}: {upstream.bytes:,} bytes, SHA-256 {upstream.sha256}"
        f" ({upstream.verified})")  # fmt: skip
    try:
        checkpoint = read_checkpoint(content)
    except CheckpointRefused as error:
        raise BundleError(f"the file is not read: {error}") from None
    model = interpret(checkpoint, source.entry, source.labels)
    say(f"read without running it: {model.network.name}, {len(model.labels)} findings")
    for notice in model.notices:
        say(notice)

    def check(bundle: Bundle) -> None:
        for pair, difference in check_parity(bundle).items():
            say(f"{pair}: equal to {difference:.1e} in every score (allowed: {TOLERANCE:.0e})")

    write_bundle(output, model.state, describe(source, model, upstream), check)
    discard_download(source)
    return output


def interpret(
    checkpoint: Checkpoint, entry: CatalogEntry | None = None, labels: tuple[str, ...] = ()
) -> TrainedModel:
    """Find out what a checkpoint holds.

    For an entry of the catalogue, findings and operating points are those of torchxrayvision.
    For any other model the findings are `labels`, or else come from the file, and the operating
    points come from the file. Without them 0.5 is assumed: a score is then the raw probability.

    Raises:
        BundleError: The network is of no known family, or its outputs have no meaning.
    """
    found = [family.recognize(checkpoint.state) for family in FAMILIES.values()]
    network, state = next(filter(None, found), (None, {}))
    if network is None or "classifier.bias" not in state:
        raise BundleError("the file holds no DenseNet of torchxrayvision")
    count = len(state["classifier.bias"])
    notices = []
    if entry is not None:
        points: Any = OPERATING_POINTS[entry.name]
        pairs = zip(OUTPUTS, points, strict=True)
        labels = tuple(label if point is not None else "" for label, point in pairs)
    else:
        named = checkpoint.attributes.get("targets") or checkpoint.attributes.get("pathologies")
        labels = labels or tuple(map(str, named or ()))
        if not labels and count == len(OUTPUTS):
            labels = OUTPUTS
            notices.append(_ASSUMED_LABELS)
        points = _operating_points(state, checkpoint.attributes)
        if points is None:
            points = [0.5] * count
            notices.append(_ASSUMED_POINTS)
    if not len(labels) == len(points) == count:
        raise BundleError(
            f"the network has {count} outputs, but there are {len(labels)} findings and"
            f" {len(points)} operating points: give --labels A,B,..."
        )
    thresholds = [math.nan if point is None else float(np.float32(point)) for point in points]
    kept = [i for i in range(count) if labels[i] and 0 < thresholds[i] < 1]
    if not kept:
        raise BundleError("no output of the network has both a finding and an operating point")
    return TrainedModel(
        network,
        {
            name: array[kept] if name.startswith("classifier.") else array
            for name, array in state.items()
        },
        tuple(labels[i] for i in kept),
        tuple(kept),
        tuple(thresholds[i] for i in kept),
        tuple(notices),
    )


def describe(source: Source, model: TrainedModel, upstream: Upstream) -> Description:
    """Return the description of the bundle."""
    entry = source.entry
    trained_on = (f"Trained on {entry.trained_on}.",) if entry else ()
    return Description(
        name=source.name,
        version=f"1+{upstream.sha256[:12]}",
        network=model.network,
        labels=model.labels,
        class_indices=model.class_indices,
        thresholds=model.thresholds,
        license=LICENSE if entry else "Not stated.",
        notices=NOTICES + trained_on + model.notices,
        upstream=upstream,
        reliability=reliability(source.name, model.labels) if entry else {},
    )


def _operating_points(state: State, attributes: Mapping[str, Any]) -> list[float | None] | None:
    """Return the operating points of a file, a buffer or an attribute; None if it has none."""
    if "op_threshs" in state:
        return state["op_threshs"].flatten().tolist()
    points = attributes.get("op_threshs")
    if isinstance(points, list) and all(isinstance(point, float | int) for point in points):
        return points
    return None
