"""Verify: an engine and its bundle -> how far the engine's scores are from those in the bundle."""

import numpy as np
from numpy.typing import NDArray

from cxr_server.budget import ThreadBudget
from cxr_server.bundles.load import Bundle
from cxr_server.bundles.manifest import BundleError, Description
from cxr_server.errors import ImageError
from cxr_server.imaging.radiograph import DecodeLimits
from cxr_server.inference.engines import FLOAT32, Engine
from cxr_server.inference.engines.registry import EngineUnavailable, first_line
from cxr_server.inference.preprocess import Job, hold_of, preprocess, preprocessing_of
from cxr_server.inference.scoring import logits, op_norms, sigmoids

TOLERANCE = 1e-3
"""Largest allowed difference of a score in float32, which stays below 1e-4."""
REDUCED_TOLERANCE = 0.02
"""Largest allowed difference of a score in a reduced precision."""
PROBE_LIMIT_BYTES = 2**28
"""Memory limit of decoding a probe."""


def verify_engine(engine: Engine, bundle: Bundle, precision: str = FLOAT32) -> float | None:
    """Return the largest difference of a score of the bundle's probe, or None if it has none.

    `precision` is what was asked for, whatever the engine computes in. The probe is evaluated alone
    and as a full batch. Without a probe, an image of zeros must give finite evidence. Raises
    EngineUnavailable if the engine fails, if its evidence is not finite or if a score differs by
    more than is allowed, and BundleError.
    """
    manifest = bundle.manifest
    difference = probe_difference(engine, bundle)
    allowed = TOLERANCE if precision == FLOAT32 else REDUCED_TOLERANCE
    if manifest.quantization:
        allowed = manifest.quantization.probe_tolerance
    if difference > allowed:
        raise EngineUnavailable(
            f"{_name(engine)} does not compute what the bundle {manifest.name} states: "
            f"a score of its probe differs by {difference:.1e}, allowed are {allowed:.0e}"
        )
    return difference if manifest.probe else None


def probe_difference(engine: Engine, bundle: Bundle) -> float:
    """Return the largest difference of a score of the probe, 0 without one. Raises as above."""
    manifest = bundle.manifest
    side_px = manifest.input_side_px
    image_chw = np.zeros((1, side_px, side_px), np.float32)
    if manifest.probe:
        try:
            file = bundle.file(manifest.probe.file).read_bytes()
            image_chw = probe_input(file, manifest)
        except ImageError as error:
            raise BundleError(f"{manifest.probe.file}: {error}") from None
    difference = 0.0
    for count in sorted({1, engine.max_batch}):
        for evidence_khw in _evidence(engine, np.repeat(image_chw[None], count, axis=0)):
            if manifest.probe:
                probability_k = sigmoids(logits(evidence_khw, manifest.bias))
                found = op_norms(probability_k, manifest.probe_thresholds)
                difference = max(difference, float(np.abs(found - manifest.probe.scores).max()))
    return difference


def probe_input(file: bytes, description: Description) -> NDArray[np.float32]:
    """Return the network's input [1, S, S] for a probe's file. Raises ImageError, BundleError."""
    job = Job(
        preprocessing=preprocessing_of(description),
        side_px=description.input_side_px,
        limits=DecodeLimits(),
    )

    def check() -> None: ...

    hold = hold_of(ThreadBudget(PROBE_LIMIT_BYTES), check)
    return preprocess(file, job, hold=hold, check=check).image_chw


def _evidence(engine: Engine, batch_nchw: NDArray[np.float32]) -> NDArray[np.float32]:
    try:
        evidence_nkhw = engine.evidence(batch_nchw)
    except Exception as error:
        reason = f"{_name(engine)} fails while warming up: {first_line(error)}"
        raise EngineUnavailable(reason) from error
    if not np.isfinite(evidence_nkhw).all():
        raise EngineUnavailable(f"{_name(engine)} gives evidence that is not finite")
    return evidence_nkhw


def _name(engine: Engine) -> str:
    return f"{engine.name} on {engine.device} in {engine.precision}"
