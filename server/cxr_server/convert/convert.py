"""Convert: source -> checkpoint -> description and weights -> bundle.

No code of the checkpoint runs, and torch is not needed.
"""

import math
from collections.abc import Callable, Sequence
from pathlib import Path

import numpy as np

from cxr_server.bundles.load import Bundle
from cxr_server.bundles.manifest import BundleError, Description, Upstream
from cxr_server.convert.allow_list import CheckpointRefused
from cxr_server.convert.architectures import FAMILIES
from cxr_server.convert.architectures.graph import State
from cxr_server.convert.catalog import LICENSE, NOTICES, OUTPUTS
from cxr_server.convert.checkpoint import Checkpoint, read_checkpoint
from cxr_server.convert.download import Progress
from cxr_server.convert.parity import TOLERANCE, check_parity
from cxr_server.convert.source import Source, obtain
from cxr_server.convert.write import write_bundle

ASSUMED_LABELS = "The file names no findings: torchxrayvision's order is assumed."
ASSUMED_POINTS = "No operating points: 0.5 is assumed, so a score is the raw probability."


def prepare(
    source: Source,
    output: Path,
    *,
    say: Callable[[str], None] = lambda _: None,
    progress: Progress | None = None,
) -> Path:
    """Write the bundle of a model of the catalogue, or of a fine-tuned one, to the folder `output`.

    `say` is called with a line about each step, `progress` during a download. `output` is unchanged
    after BundleError and DownloadError. A download is kept until the bundle is written.
    """
    content, upstream = obtain(source, progress)
    say(f"{upstream.file_name}: {upstream.bytes:,} bytes, SHA-256 {upstream.sha256}")
    try:
        description, state = interpret(read_checkpoint(content), source, upstream, say)
    except (CheckpointRefused, ArithmeticError, LookupError, TypeError, ValueError) as error:
        raise BundleError(f"the file cannot be converted: {error}") from None
    kind = f"{description.network.name}, {len(description.labels)} findings"
    say(f"{upstream.verified}, read without running it: {kind}")
    for assumed in set(description.notices) & {ASSUMED_LABELS, ASSUMED_POINTS}:
        say(assumed)

    def check(bundle: Bundle) -> None:
        for pair, difference in check_parity(bundle).items():
            say(f"{pair}: equal to {difference:.1e} in every score (allowed: {TOLERANCE:.0e})")

    folder = write_bundle(output, state, description, check)
    if downloaded := source.download_file:
        downloaded.unlink(missing_ok=True)
    return folder


def interpret(
    checkpoint: Checkpoint,
    source: Source,
    upstream: Upstream,
    say: Callable[[str], None] = lambda _: None,
) -> tuple[Description, State]:
    """Return what a checkpoint holds, without the outputs that have no meaning.

    For an entry of the catalogue, findings and operating points are those of torchxrayvision.
    For any other model they come from the file, unless `source.labels` names the findings. Without
    operating points 0.5 is assumed: a score is then the raw probability. `say` is called with a
    line about each output of one's own model that is left out. Raises BundleError, and others
    where the file contradicts itself.
    """
    known = (family.recognize(checkpoint.state) for family in FAMILIES.values())
    network, state = next(filter(None, known), (None, {}))
    if network is None or "classifier.bias" not in state:
        raise BundleError("the file holds no DenseNet of torchxrayvision")
    count = len(state["classifier.bias"])
    entry, notices = source.entry, list(NOTICES)
    labels: Sequence[str]
    points: Sequence[float | None]
    if entry is not None:
        notices.append(f"Trained on {entry.trained_on}; see cxr-serve's {entry.card}.")
        labels, points = OUTPUTS, [entry.operating_points.get(label) for label in OUTPUTS]
    else:
        found = checkpoint.lists
        labels = source.labels or found.get("targets") or found.get("pathologies") or ()
        if not labels and count == len(OUTPUTS):
            labels = OUTPUTS
            notices.append(ASSUMED_LABELS)
        buffer = state.get("op_threshs")
        points = found.get("op_threshs", ()) if buffer is None else buffer.flatten().tolist()
        if not points or not all(isinstance(point, float | int) for point in points):
            points = [0.5] * count
            notices.append(ASSUMED_POINTS)
    if not len(labels) == len(points) == count:
        raise BundleError(
            f"the network has {count} outputs, but there are {len(labels)} findings and"
            f" {len(points)} operating points: give --labels A,B,..."
        )
    thresholds = [math.nan if point is None else float(np.float32(point)) for point in points]
    kept = [i for i in range(count) if labels[i] and 0 < thresholds[i] < 1]
    if not kept:
        raise BundleError("no output of the network has both a finding and an operating point")
    if entry is None:
        for i in sorted(set(range(count)) - set(kept)):
            lacks = f"the operating point {thresholds[i]:g}" if labels[i] else "no finding"
            say(f"left out: output {i}, {labels[i] or 'unnamed'}, which has {lacks}")
    description = Description(
        name=source.name,
        version=f"1+{upstream.sha256[:12]}",
        network=network,
        labels=tuple(str(labels[i]) for i in kept),
        class_indices=tuple(kept),
        thresholds=tuple(thresholds[i] for i in kept),
        license=LICENSE if entry else "Not stated.",
        notices=tuple(notices),
        upstream=upstream,
        reliability=entry.reliability if entry else {},
    )
    return description, {
        name: array[kept] if name.startswith("classifier.") else array
        for name, array in state.items()
    }
