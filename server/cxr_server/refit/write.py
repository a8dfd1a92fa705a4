"""Write: a bundle and films -> a bundle with other operating points. Next: bundles.load."""

import hashlib
import os
import shutil
import tempfile
from collections.abc import Mapping
from datetime import UTC, datetime
from pathlib import Path

import msgspec
import numpy as np

from cxr_server.bundles.fields import Identifier
from cxr_server.bundles.load import MANIFEST_NAME, Bundle, file_entry, load_bundle
from cxr_server.bundles.manifest import BundleError, Manifest
from cxr_server.bundles.refit import CalibrationMethod, PatientSplit, Refit
from cxr_server.inference.engines import INT8
from cxr_server.refit.criteria import Criterion
from cxr_server.refit.films import EvaluationError, Films
from cxr_server.refit.fit import Labelled, divide, fit_finding


def refit(
    parent: Bundle,
    films: Films,
    name: str,
    *,
    criteria: Mapping[str, Criterion],
    split: PatientSplit,
    method: CalibrationMethod | None,
) -> Manifest:
    """Return the manifest of a refitted bundle.

    Args:
        parent: The bundle that the films were scored by.
        films: Scores and labels.
        name: Of the new bundle.
        criteria: By finding of the films.
        split: How films to fit to and to report on are kept apart.
        method: Of the calibration, or None for none.

    Raises EvaluationError if the films were scored by another model, such as this one in int8, and
    BundleError for a parent that is refitted itself or in int8.
    """
    stated = parent.manifest
    if stated.refit:
        raise BundleError(f"{stated.name} is refitted itself: refit {stated.refit.parent_name}")
    if stated.quantization:
        raise BundleError(
            f"{stated.name} is in int8: refit {stated.quantization.parent_name}, and quantise that"
        )
    if films.weights_sha256 != stated.weights_sha256:
        raise EvaluationError(
            f"the evaluation is of other weights ({films.weights_sha256:.12}...) than those of "
            f"{stated.name} ({stated.weights_sha256:.12}...)"
        )
    if films.precision == INT8:
        raise EvaluationError(
            f"the films were scored in int8: evaluate a run of {stated.name}, which is in float32"
        )
    if films.preprocessing_id != stated.preprocessing_id:
        raise EvaluationError(f"the run was preprocessed by {films.preprocessing_id}")
    if unknown := set(films.findings) - set(stated.labels):
        raise EvaluationError(f"{stated.name} has no finding {min(unknown)}")
    thresholds = dict(zip(stated.labels, stated.thresholds, strict=True))
    division, found = divide(films.patients, split), {}
    for column, finding in enumerate(films.findings):
        thresholds[finding], found[finding] = fit_finding(
            Labelled.of(films, column, division), criteria[finding], method, thresholds[finding]
        )
    done = Refit(
        parent_name=stated.name,
        parent_version=stated.version,
        parent_sha256=file_entry(parent.path / MANIFEST_NAME).sha256,
        weights_sha256=films.weights_sha256,
        evaluation_sha256=films.sha256,
        run_sha256=films.run_sha256,
        labels_title=films.labels_title,
        labels_sha256=films.labels_sha256,
        image_count=len(films.patients),
        patient_count=len(np.unique(films.patients)) if films.has_patients else None,
        split=split,
        calibration_method=method,
        findings=found,
    )
    # The version tells bundles of one name apart.
    content = msgspec.json.encode((tuple(thresholds.values()), done), order="deterministic")
    return msgspec.structs.replace(
        stated,
        name=msgspec.convert(name, Identifier),
        version=f"{stated.version}+refit.{hashlib.sha256(content).hexdigest()[:8]}",
        thresholds=tuple(thresholds.values()),
        refit=done,
        create_time=datetime.now(UTC).strftime("%Y-%m-%dT%H:%M:%SZ"),
    )


def write_refit(parent: Bundle, manifest: Manifest, output: Path) -> bool:
    """Write the folder of a refitted bundle; return False if it is there already.

    The folder appears complete or not at all, and is never changed. Raises BundleError if another
    bundle is there, and OSError.
    """
    if output.exists():
        there = load_bundle(output).manifest
        if msgspec.structs.replace(there, create_time=manifest.create_time) == manifest:
            return False
        raise BundleError(f"{output} exists and is another bundle: choose another name")
    output.parent.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(prefix=f".{output.name}.", dir=output.parent) as work:
        new = Path(work, "new")
        shutil.copytree(parent.path, new)
        (new / MANIFEST_NAME).write_text(manifest.to_json(), encoding="utf-8")
        load_bundle(new)
        os.rename(new, output)
    return True
