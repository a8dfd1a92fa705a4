"""Scoring: evidence -> findings."""

import math
from collections.abc import Sequence
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from cxr_server.bundles.manifest import Manifest


class Finding(NamedTuple):
    """One finding with its scores; see `Finding` in the contract."""

    label: str
    class_index: int
    logit: float
    score: float
    probability: float
    threshold: float
    calibrated_probability: float | None = None

    @property
    def above_threshold(self) -> bool:
        """Whether the probability is above the operating point."""
        return self.probability > self.threshold


def logits(evidence_khw: NDArray[np.float32], bias_k: Sequence[float]) -> list[float]:
    """Return the logits [K]: the mean of the evidence over the grid, plus the bias.

    Equal to ReLU, global average pooling and a linear layer: the mean over the grid and the
    weighted sum over channels commute.
    """
    total_k = np.add.reduce(evidence_khw, axis=(1, 2), dtype=np.float64).tolist()
    count = evidence_khw[0].size
    return [total / count + bias for total, bias in zip(total_k, bias_k, strict=True)]


def sigmoid(logit: float) -> float:
    """Return 1 / (1 + exp(-x)) without overflow."""
    small = math.exp(-abs(logit))
    return (1.0 if logit >= 0 else small) / (1.0 + small)


def op_norm(probability: float, threshold: float) -> float:
    """Return the operating-point score: 0.5 at the threshold, linear on either side.

    torchxrayvision 1.5.7, `models.op_norm`.
    """
    if probability < threshold:
        return probability / (2 * threshold)
    return 1 - (1 - probability) / (2 * (1 - threshold))


sigmoids = np.vectorize(sigmoid, otypes=[np.float64])
op_norms = np.vectorize(op_norm, otypes=[np.float64])
"""The same of arrays."""


def findings(evidence_khw: NDArray[np.float32], manifest: Manifest) -> tuple[Finding, ...]:
    """Return every finding of one image, in the order of the evidence [K, h, w]."""
    # Number by number: for so few, NumPy takes longer, most of all with cold caches.
    found: list[Finding] = []
    rows = (
        manifest.labels,
        manifest.class_indices,
        logits(evidence_khw, manifest.bias),
        manifest.thresholds,
    )
    for label, class_index, logit, threshold in zip(*rows, strict=True):
        probability = sigmoid(logit)
        score = op_norm(probability, threshold)
        calibrated = _calibrated(label, logit, manifest) if manifest.refit else None
        found.append(Finding(label, class_index, logit, score, probability, threshold, calibrated))
    return tuple(found)


def _calibrated(label: str, logit: float, manifest: Manifest) -> float | None:
    if not (manifest.refit and manifest.refit.calibration_method):
        return None
    refit = manifest.refit.findings.get(label)
    return refit.calibration.curve.probability(logit) if refit and refit.calibration else None


def ranked(findings: tuple[Finding, ...]) -> tuple[Finding, ...]:
    """Return findings by score, best first; equal scores in class order."""
    return tuple(sorted(findings, key=lambda finding: (-finding.score, finding.class_index)))
