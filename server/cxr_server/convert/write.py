"""Write: weights and a description -> bundle folder. Next: bundles.load. Needs no torch."""

import hashlib
import os
import re
import shutil
import tempfile
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import msgspec
import numpy as np
from numpy.typing import NDArray
from safetensors.numpy import save_file

from cxr_server.bundles.load import MANIFEST_NAME, Bundle, load_bundle
from cxr_server.bundles.manifest import (
    WEIGHTS_NAME,
    BundleError,
    Description,
    FileEntry,
    Manifest,
)
from cxr_server.convert.architectures import FAMILIES, State
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

    The folder appears complete, after `check` has accepted it, or not at all. It replaces a
    bundle that is already there.

    Args:
        output: A new or empty folder, or an older bundle.
        state: The network's state_dict as arrays.
        description: Its labels have the order of the rows of `classifier.weight`.
        check: Called with the complete bundle; raises to reject it.

    Raises:
        BundleError: The weights do not fit the description, or `output` is in use.
    """
    network = description.network
    family = FAMILIES[type(network)]
    expected = family.shapes(network, len(description.labels))
    weights = _weights(state, expected, network.name)
    model = family.build_graph(network, weights, description.input_side_px)
    with new_folder(output) as folder:
        save_file(weights, folder / WEIGHTS_NAME)
        (folder / OPENVINO_NAME).parent.mkdir()
        # Half-precision weights would change the scores by more than engines may differ.
        openvino.save_model(model, folder / OPENVINO_NAME, compress_to_fp16=False)
        manifest = Manifest(
            **msgspec.structs.asdict(description),
            evidence_side=model.output(0).shape[-1],
            bias=tuple(weights["classifier.bias"].tolist()),
            files={
                path.relative_to(folder).as_posix(): _entry(path)
                for path in sorted(folder.rglob("*"))
                if path.is_file()
            },
        )
        (folder / MANIFEST_NAME).write_text(manifest.to_json(), encoding="utf-8")
        _make_readable(folder)
        bundle = load_bundle(folder)
        if check is not None:
            check(bundle)
    return output


def _weights(
    state: State, expected: Mapping[str, tuple[int, ...]], network: str
) -> dict[str, NDArray[np.float32]]:
    """Return what inference needs of a state, as float32 in the order of `expected`."""
    found = {name: array.shape for name, array in state.items()}
    for name in sorted(expected.keys() | found.keys()):
        if found.get(name) != expected.get(name) and not _TRAINING_ONLY.fullmatch(name):
            raise BundleError(
                f"the weights do not fit a {network} with these findings: {name} has the shape"
                f" {found.get(name)} instead of {expected.get(name)}"
            )
    weights = {name: np.ascontiguousarray(state[name], np.float32) for name in expected}
    if not all(np.isfinite(array).all() for array in weights.values()):
        raise BundleError("the weights hold numbers that are not finite")
    return weights


def _make_readable(folder: Path) -> None:
    """Let every user read the bundle: servers may run as another user."""
    for path in (folder, *folder.rglob("*")):
        path.chmod(0o755 if path.is_dir() else 0o644)


def _entry(path: Path) -> FileEntry:
    with path.open("rb") as file:
        return FileEntry(hashlib.file_digest(file, "sha256").hexdigest(), path.stat().st_size)


@contextmanager
def new_folder(output: Path) -> Iterator[Path]:
    """Yield an empty folder beside `output` that takes its place when the block succeeds."""
    output = output.absolute()
    empty = output.is_dir() and not any(output.iterdir())
    if output.exists() and not empty and not (output / MANIFEST_NAME).is_file():
        raise BundleError(f"{output} exists and is not a bundle: nothing was changed")
    output.parent.mkdir(parents=True, exist_ok=True)
    work = Path(tempfile.mkdtemp(prefix=f".{output.name}.", dir=output.parent))
    old = work / "old"
    try:
        new = work / "new"
        new.mkdir()
        yield new
        if output.exists():
            os.rename(output, old)
        os.rename(new, output)
    except BaseException:
        if old.exists() and not output.exists():
            os.rename(old, output)
        raise
    finally:
        shutil.rmtree(work, ignore_errors=True)
