"""Write: weights and a description -> bundle folder. Next: bundles.load. Needs no torch."""

import os
import re
import tempfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import msgspec
from safetensors.numpy import save_file

from cxr_server.bundles.load import MANIFEST_NAME, Bundle, file_entry, load_bundle
from cxr_server.bundles.manifest import WEIGHTS_NAME, BundleError, Description, Manifest, Probe
from cxr_server.convert.architectures import FAMILIES
from cxr_server.convert.architectures.graph import Graph, State
from cxr_server.convert.probe import PROBE_NAME, probe_file, probe_scores
from cxr_server.inference.engines.openvino_runtime import openvino

OPENVINO_NAME = "openvino/model.xml"
_TRAINING_ONLY = re.compile(r"op_threshs|(?:.*\.)?num_batches_tracked")
"""Entries of a state_dict that inference does not use."""


def write_bundle(
    output: Path,
    state: State,
    description: Description,
    check: Callable[[Bundle], Any] | None = None,
) -> Path:
    """Write the bundle of a network to the folder `output`.

    The folder appears complete, after `check` has accepted the bundle, or not at all. It replaces
    a bundle that is already there. The description's labels have the order of the rows of
    `classifier.weight` in the state_dict `state`. Raises BundleError if the weights do not fit the
    description, its preprocessing is not implemented, or `output` is in use.
    """
    network = description.network
    graph = Graph(state, description.input_side_px)
    maps = FAMILIES[type(network)].features(network, graph, graph.image)
    model = graph.model(maps, len(description.labels), network.name)
    for name in sorted(state.keys() - graph.weights.keys()):
        if not _TRAINING_ONLY.fullmatch(name):
            raise BundleError(f"the weights do not fit the network: it has no {name}")
    output = output.absolute()
    empty = output.is_dir() and not any(output.iterdir())
    if output.exists() and not empty and not (output / MANIFEST_NAME).is_file():
        raise BundleError(f"{output} exists and is not a bundle: nothing was changed")
    output.parent.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(prefix=f".{output.name}.", dir=output.parent) as work:
        folder, old = Path(work, "new"), Path(work, "old")
        (folder / OPENVINO_NAME).parent.mkdir(parents=True)
        save_file(graph.weights, folder / WEIGHTS_NAME)
        # Half-precision weights would change the scores by more than engines may differ.
        openvino.save_model(model, folder / OPENVINO_NAME, compress_to_fp16=False)
        (folder / PROBE_NAME).write_bytes(probe_file())
        manifest = Manifest(
            **msgspec.structs.asdict(description),
            evidence_side=model.output(0).shape[-1],
            bias=tuple(graph.weights["classifier.bias"].tolist()),
            files={
                path.relative_to(folder).as_posix(): file_entry(path)
                for path in sorted(folder.rglob("*"))
                if path.is_file()
            },
            probe=Probe(PROBE_NAME, probe_scores(description, graph.weights)),
        )
        (folder / MANIFEST_NAME).write_text(manifest.to_json(), encoding="utf-8")
        for path in (folder, *folder.rglob("*")):  # servers may run as another user
            path.chmod(0o755 if path.is_dir() else 0o644)
        bundle = load_bundle(folder)
        if check is not None:
            check(bundle)
        if output.exists():
            os.rename(output, old)
        try:
            os.rename(folder, output)
        except BaseException:
            if old.exists():
                os.rename(old, output)
            raise
    return output
