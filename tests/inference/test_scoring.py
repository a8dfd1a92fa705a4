"""Evidence to findings, against torchxrayvision's own numbers."""

import math
from types import SimpleNamespace

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from cxr_server.inference.scoring import Finding, findings, logits, op_norm, op_norms, ranked

RNG = np.random.default_rng(3)
MANIFEST = SimpleNamespace(
    labels=("Atelectasis", "Mass", "Nodule", "Hernia"),
    class_indices=(0, 5, 11, 13),
    thresholds=(0.07, 0.5, 0.93, 0.002),
    bias=(-1.0, 0.5, 0.0, -6.0),
    refit=None,
)
EVIDENCE_KHW = RNG.normal(0, 2, (4, 7, 7)).astype(np.float32)


def test_mean_evidence_plus_bias_is_the_logit() -> None:
    features_chw = np.maximum(RNG.normal(0, 1, (30, 7, 7)), 0)
    weight_kc = RNG.normal(0, 1, (4, 30))
    usual = weight_kc @ features_chw.mean(axis=(1, 2)) + MANIFEST.bias
    evidence_khw = np.einsum("kc,chw->khw", weight_kc, features_chw)
    assert logits(evidence_khw, MANIFEST.bias) == pytest.approx(usual, abs=1e-12)


@pytest.mark.torch
def test_scores_are_those_of_torchxrayvision() -> None:
    import torch
    import torchxrayvision

    probability_k = np.linspace(0.001, 0.999, 200)
    for threshold in (0.002, 0.07, 0.5, 0.93):
        threshold_k = np.full(200, threshold)
        probabilities, thresholds = torch.Tensor(probability_k), torch.Tensor(threshold_k)
        expected = torchxrayvision.models.op_norm(probabilities[None], thresholds)[0].numpy()
        assert op_norms(probability_k, threshold_k) == pytest.approx(expected, abs=1e-6)


@given(probability=st.floats(0, 1), other=st.floats(0, 1), threshold=st.floats(0.001, 0.999))
def test_scores_keep_the_order_and_halve_at_the_threshold(
    probability: float, other: float, threshold: float
) -> None:
    low, high = sorted((probability, other))
    scores = [op_norm(each, threshold) for each in (low, threshold, high)]
    assert 0 <= scores[0] <= scores[2] <= 1
    assert scores[1] == pytest.approx(0.5)


def test_findings_come_in_class_order_and_carry_their_numbers() -> None:
    found = findings(EVIDENCE_KHW, MANIFEST)
    assert [finding.label for finding in found] == list(MANIFEST.labels)
    assert [finding.class_index for finding in found] == [0, 5, 11, 13]
    for finding, logit in zip(found, logits(EVIDENCE_KHW, MANIFEST.bias), strict=True):
        assert finding.probability == pytest.approx(1 / (1 + math.exp(-logit)))
        assert finding.above_threshold == (finding.score > 0.5)


def test_ranking_is_by_score_and_then_by_class() -> None:
    def finding(label: str, class_index: int, score: float) -> Finding:
        return Finding(label, class_index, 0.0, score, 0.1, 0.5)

    found = (finding("a", 3, 0.2), finding("b", 2, 0.7), finding("c", 1, 0.2))
    assert [finding.label for finding in ranked(found)] == ["b", "c", "a"]


def test_enormous_evidence_does_not_overflow() -> None:
    found = findings(np.full((4, 7, 7), 1e30, dtype=np.float32), MANIFEST)
    assert [finding.score for finding in found] == [1.0] * 4
    found = findings(np.full((4, 7, 7), -1e30, dtype=np.float32), MANIFEST)
    assert [finding.score for finding in found] == [0.0] * 4
