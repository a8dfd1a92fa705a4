"""Write: a trained network -> bundle folder. Next: load.

Imports torch and openvino, which only making a bundle needs.
"""

import hashlib
import os
import shutil
import tempfile
import warnings
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path

import msgspec
import torch
from safetensors.torch import save_file
from torch import Tensor

from cxr_server.bundles.load import MANIFEST_NAME, Bundle, load_bundle
from cxr_server.bundles.manifest import WEIGHTS_NAME, BundleError, Description, FileEntry, Manifest
from cxr_server.inference.engines.openvino_runtime import model_converter, openvino
from cxr_server.inference.engines.torch.network import MODULES, EvidenceNet, weights_of

OPENVINO_NAME = "openvino/model.xml"


def write_bundle(
    output: Path,
    state: Mapping[str, Tensor],
    description: Description,
    check: Callable[[Bundle], None] | None = None,
) -> Path:
    """Write the bundle of torchxrayvision's DenseNet with the state `state` to `output`.

    The folder appears whole, and after `check` has passed on it, or not at all; a bundle that
    is there already is replaced.

    Raises:
        BundleError: The weights do not fit the description, or `output` is no bundle's place.
    """
    weights = weights_of(state)
    try:
        densenet = MODULES[type(description.network)](
            description.network, len(description.labels), weights
        )
    except ValueError as error:
        raise BundleError(str(error)) from None
    net = EvidenceNet(densenet).eval()
    side = description.input_side_px
    example = torch.zeros(1, 1, side, side)
    with torch.inference_mode():
        evidence = net(example)
    if not all(torch.isfinite(tensor).all() for tensor in weights.values()):
        raise BundleError("the weights hold numbers that are not finite")
    with new_folder(output) as folder:
        save_file(weights, folder / WEIGHTS_NAME)
        _write_openvino(net, example, folder / OPENVINO_NAME)
        _make_readable(folder)
        files = {
            path.relative_to(folder).as_posix(): _entry(path)
            for path in sorted(folder.rglob("*"))
            if path.is_file()
        }
        manifest = Manifest(
            **msgspec.structs.asdict(description),
            evidence_side=evidence.shape[-1],
            bias=tuple(weights["classifier.bias"].tolist()),
            files=files,
        )
        (folder / MANIFEST_NAME).write_text(manifest.to_json(), encoding="utf-8")
        (folder / MANIFEST_NAME).chmod(0o644)
        bundle = load_bundle(folder)
        if check is not None:
            check(bundle)
    return output


def _write_openvino(net: EvidenceNet, example: Tensor, path: Path) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    with warnings.catch_warnings():
        # Tracing is deprecated, and what the converter reads all the same. Traced here, for the
        # converter would trace twice to compare; `prepare` compares scores instead.
        warnings.simplefilter("ignore")
        traced = torch.jit.trace(net, example, check_trace=False)  # type: ignore[no-untyped-call]
        model = model_converter()(traced, example_input=example, input=[tuple(example.shape)])
    # Half-precision weights would move the scores by more than the engines may differ.
    openvino.save_model(model, path, compress_to_fp16=False)


def _make_readable(folder: Path) -> None:
    """Let every user read what only its maker may write: servers run as another user."""
    for path in (folder, *folder.rglob("*")):
        path.chmod(0o755 if path.is_dir() else 0o644)


def _entry(path: Path) -> FileEntry:
    with path.open("rb") as file:
        return FileEntry(hashlib.file_digest(file, "sha256").hexdigest(), path.stat().st_size)


@contextmanager
def new_folder(output: Path) -> Iterator[Path]:
    """Give an empty folder beside `output` that takes its place when the block succeeds."""
    output = output.absolute()
    empty = output.is_dir() and not any(output.iterdir())
    if output.exists() and not empty and not (output / MANIFEST_NAME).is_file():
        raise BundleError(f"{output} is there already and is not a bundle: nothing was changed")
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
