"""AUROC, average precision and curves against scikit-learn."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from sklearn import metrics as sklearn_metrics

from cxr_client.evaluation import metrics
from cxr_client.evaluation.metrics import Ranking, measure, predictive_values

CASES = st.lists(
    st.tuples(st.integers(0, 5), st.booleans(), st.integers(0, 3)), min_size=2, max_size=40
).filter(lambda rows: {True, False} <= {positive for _, positive, weight in rows if weight})


@settings(max_examples=50, deadline=None)
@given(CASES)
def test_weighted_areas_equal_those_of_scikit_learn_with_any_ties(
    rows: list[tuple[int, bool, int]],
) -> None:
    scores, labels, weights = (np.array(column) for column in zip(*rows, strict=True))
    ranking = Ranking.of(
        scores.astype(float), labels.astype(np.float32), scores >= 3, np.arange(len(rows))
    )
    found = measure(ranking, weights.astype(np.int32))
    expected = [
        sklearn_metrics.roc_auc_score(labels, scores, sample_weight=weights),
        sklearn_metrics.average_precision_score(labels, scores, sample_weight=weights),
        sklearn_metrics.recall_score(labels, scores >= 3, sample_weight=weights),
        sklearn_metrics.recall_score(~labels, scores < 3, sample_weight=weights),
        np.average(labels, weights=weights),
    ]
    np.testing.assert_allclose(found, expected, atol=1e-12)


def test_unknown_labels_are_left_aside() -> None:
    scores = np.array([0.1, 0.9, 0.4, 0.6])
    labels = np.array([0, 1, np.nan, np.nan], np.float32)
    ranking = Ranking.of(scores, labels, scores > 0.5, np.arange(4))
    assert metrics.counts(ranking) == {
        "true_positives": 1,
        "false_negatives": 0,
        "false_positives": 0,
        "true_negatives": 1,
    }


def test_curves_equal_those_of_scikit_learn() -> None:
    random = np.random.default_rng(0)
    positive = random.random(300) < 0.3
    scores = np.round(random.normal(positive, 1), 1)
    false, true, thresholds = metrics.roc_curve(scores, positive)
    expected = sklearn_metrics.roc_curve(positive, scores, drop_intermediate=False)
    np.testing.assert_allclose([false, true], expected[:2])
    np.testing.assert_allclose(thresholds, expected[2][1:])
    precision, recall, _ = metrics.precision_recall_curve(scores, positive)
    expected = sklearn_metrics.precision_recall_curve(positive, scores)
    np.testing.assert_allclose(precision[::-1], expected[0][:-1])
    np.testing.assert_allclose(recall[::-1], expected[1][:-1])


def test_predictive_values_at_the_own_prevalence_are_those_of_the_table() -> None:
    positive = np.array([True] * 30 + [False] * 70)
    flagged = np.array([True] * 24 + [False] * 6 + [True] * 14 + [False] * 56)
    sensitivity, specificity = np.array(24 / 30), np.array(56 / 70)
    ppv, npv = predictive_values(sensitivity, specificity, positive.mean())
    assert ppv == pytest.approx(sklearn_metrics.precision_score(positive, flagged))
    assert npv == pytest.approx(sklearn_metrics.precision_score(~positive, ~flagged))
    # A textbook case: rare disease, good test.
    ppv, _ = predictive_values(np.array(0.9), np.array(0.9), 0.01)
    assert ppv == pytest.approx(0.009 / (0.009 + 0.099))
