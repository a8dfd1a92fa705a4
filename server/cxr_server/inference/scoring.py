"""Scoring: evidence -> findings."""

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


def logits(evidence_khw: NDArray[np.float32], bias_k: Sequence[float]) -> NDArray[np.float64]:
    """Return the logits [K]: the mean of the evidence over the grid, plus the bias.

    Equal to ReLU, global average pooling and a linear layer: the mean over the grid and the
    weighted sum over channels commute.
    """
    total_k: NDArray[np.float64] = np.add.reduce(evidence_khw, axis=(1, 2), dtype=np.float64)
    mean_k: NDArray[np.float64] = total_k / evidence_khw[0].size
    return mean_k + np.array(bias_k, np.float64)


def sigmoid(logits_k: NDArray[np.float64]) -> NDArray[np.float64]:
    """Return 1 / (1 + exp(-x)), which is exp(-log(exp(0) + exp(-x))), without overflow."""
    return np.exp(-np.logaddexp(0.0, -logits_k))


def op_norm(
    probability_k: NDArray[np.float64], threshold_k: NDArray[np.float64]
) -> NDArray[np.float64]:
    """Return operating-point scores: 0.5 at the threshold, linear on either side.

    torchxrayvision 1.5.7, `models.op_norm`: p / 2t below t, else 1 - (1 - p) / (2 (1 - t)).
    """
    below = probability_k / (2 * threshold_k)
    above = 1 - (1 - probability_k) / (2 * (1 - threshold_k))
    return np.where(probability_k < threshold_k, below, above)


def findings(evidence_khw: NDArray[np.float32], manifest: Manifest) -> tuple[Finding, ...]:
    """Return every finding of one image, in the order of the evidence [K, h, w]."""
    labels, thresholds = manifest.labels, manifest.thresholds
    logit_k = logits(evidence_khw, manifest.bias)
    probability_k = sigmoid(logit_k)
    score_k = op_norm(probability_k, np.array(thresholds))
    numbers = (each.tolist() for each in (logit_k, score_k, probability_k))
    calibrated = _calibrated(logit_k, manifest)
    rows = zip(labels, manifest.class_indices, *numbers, thresholds, calibrated, strict=True)
    return tuple(map(Finding._make, rows))


def _calibrated(logit_k: NDArray[np.float64], manifest: Manifest) -> list[float | None]:
    found: list[float | None] = [None] * len(manifest.labels)
    if manifest.refit and manifest.refit.calibration_method:
        for row, (label, logit) in enumerate(zip(manifest.labels, logit_k.tolist(), strict=True)):
            refit = manifest.refit.findings.get(label)
            if refit and refit.calibration:
                found[row] = refit.calibration.curve.probability(logit)
    return found


def ranked(findings: tuple[Finding, ...]) -> tuple[Finding, ...]:
    """Return findings by score, best first; equal scores in class order."""
    return tuple(sorted(findings, key=lambda finding: (-finding.score, finding.class_index)))
