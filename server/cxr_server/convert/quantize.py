"""Quantize: a bundle and films -> a bundle of its own with features in int8, and the proof."""

import hashlib
import os
import shutil
import tempfile
from collections.abc import Callable
from contextlib import ExitStack, closing
from datetime import UTC, datetime
from pathlib import Path

import msgspec

from cxr_server.bundles.fields import Identifier
from cxr_server.bundles.load import MANIFEST_NAME, Bundle, file_entry, load_bundle
from cxr_server.bundles.manifest import BundleError, Manifest
from cxr_server.bundles.quantization import Quantization
from cxr_server.convert.fidelity import differences, infer_by, told
from cxr_server.convert.films import find_films
from cxr_server.convert.int8 import quantized, require_nncf
from cxr_server.convert.write import OPENVINO_NAME
from cxr_server.errors import OperatorError
from cxr_server.inference.engines import Engine
from cxr_server.inference.engines.openvino_runtime import openvino
from cxr_server.inference.engines.registry import choose_engine
from cxr_server.inference.verify import probe_difference

TOLERANCE = 0.02
"""Largest allowed difference of a probability, raw or calibrated."""
PROBE_MARGIN = 0.02
"""Allowance for the kernels of other CPUs, added to the difference of a score on this one."""


class ToleranceExceeded(OperatorError):
    """Answers in int8 differ more than allowed. Nothing was written."""


def quantize(
    parent: Bundle,
    name: str,
    output: Path,
    *,
    films: Path | None = None,
    accept: bool = False,
    say: Callable[[str], None] = lambda _: None,
) -> Path:
    """Write the bundle `name` to the folder `output`, which must not exist.

    `films` is a folder of films; without one, phantoms are drawn, or the shipped samples are used.
    `say` is called with a line about each step. With `accept`, a bundle whose differences exceed
    the tolerance is written anyway. Writes nothing if it raises BundleError, OSError,
    QuantizerMissing or ToleranceExceeded.
    """
    tool, stated = require_nncf(), parent.manifest
    if stated.quantization:
        raise BundleError(f"{stated.name} is in int8: quantise {stated.quantization.parent_name}")
    if output.exists():
        raise BundleError(f"{output} exists: choose another --name, or remove it")
    found = find_films(films, stated)
    say(
        f"calibrating with {len(found.calibration)} films ({found.source}), measuring on "
        f"{len(found.measured)} others"
    )
    output.parent.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(prefix=f".{output.name}.", dir=output.parent) as work:
        folder = Path(work, "new")
        shutil.copytree(parent.path, folder)
        images = [film.image_chw for film in found.calibration]
        model = quantized(parent.file(OPENVINO_NAME), images)
        openvino.save_model(model, folder / OPENVINO_NAME, compress_to_fp16=False)
        manifest = _renamed(stated, name, folder)
        with ExitStack() as engines:
            engine = engines.enter_context(closing(_engine(Bundle(folder, manifest))))
            float32 = engines.enter_context(closing(_engine(parent)))
            made = Quantization(
                tool=tool,
                parent_name=stated.name,
                parent_version=stated.version,
                parent_sha256=file_entry(parent.path / MANIFEST_NAME).sha256,
                films=found.source,
                calibration_count=len(found.calibration),
                differences=differences(
                    stated,
                    found.measured,
                    float32=infer_by(float32),
                    reduced=infer_by(engine),
                    margin=TOLERANCE,
                ),
                tolerance=TOLERANCE,
                probe_tolerance=_probe_tolerance(engine, Bundle(folder, manifest)),
            )
        for line in told(made.differences, made.tolerance):
            say(line)
        if not (made.within_tolerance or accept):
            raise ToleranceExceeded(
                "answers in int8 differ too much (a raw or calibrated probability by "
                f"{TOLERANCE:g}, or a finding that was further than that from its operating point "
                "changed side): nothing was written; more films may help (--calibrate), or "
                "--accept it"
            )
        notices = (*manifest.notices, *_notices(made))
        manifest = msgspec.structs.replace(manifest, quantization=made, notices=notices)
        (folder / MANIFEST_NAME).write_text(manifest.to_json(), encoding="utf-8")
        load_bundle(folder)
        os.rename(folder, output)
    if stated.reference:
        say("not copied: the reference, since embeddings differ; run fit-reference again")
    return output


def _notices(made: Quantization) -> list[str]:
    """Return what answers cannot show otherwise: the contract has no field for it."""
    most = made.differences.max_calibrated_probability or 0
    if most <= made.tolerance:
        return []
    return [f"In int8, a calibrated probability differed by {most:.2g} from that in float32."]


def _renamed(stated: Manifest, name: str, folder: Path) -> Manifest:
    """Return the manifest of the folder, whose graph is another than the parent's."""
    files = dict(stated.files)
    if stated.reference:
        (folder / stated.reference.file).unlink()
        del files[stated.reference.file]
    for path in (OPENVINO_NAME, str(Path(OPENVINO_NAME).with_suffix(".bin"))):
        (folder / path).chmod(0o644)
        files[path] = file_entry(folder / path)
    graph = hashlib.sha256("".join(files[path].sha256 for path in sorted(files)).encode())
    return msgspec.structs.replace(
        stated,
        name=msgspec.convert(name, Identifier),
        version=f"{stated.version}+int8.{graph.hexdigest()[:8]}",
        files=files,
        reference=msgspec.UNSET,
        create_time=datetime.now(UTC).strftime("%Y-%m-%dT%H:%M:%SZ"),
    )


def _engine(bundle: Bundle) -> Engine:
    return choose_engine(bundle, "openvino", device="CPU")


def _probe_tolerance(engine: Engine, bundle: Bundle) -> float:
    """Return the largest allowed difference of the probe's scores on any CPU."""
    return min(1.0, round(probe_difference(engine, bundle) + PROBE_MARGIN, 3))
