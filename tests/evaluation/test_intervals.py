"""Intervals against confidenceinterval and statsmodels, and by their coverage."""

import confidenceinterval
import numpy as np
import pytest
from statsmodels.stats.proportion import confint_proportions_2indep, proportion_confint

from cxr_client.evaluation.bootstrap import replicate
from cxr_client.evaluation.intervals import Estimate, delong, logit_interval, percentiles, wilson
from cxr_client.evaluation.metrics import Ranking, measure
from cxr_client.evaluation.review import newcombe


def _ranking(positive: np.ndarray, scores: np.ndarray, units: np.ndarray | None = None) -> Ranking:
    labels = positive.astype(np.float32)
    return Ranking.of(
        scores, labels, scores > 0, np.arange(len(scores)) if units is None else units
    )


@pytest.mark.parametrize("n", [200, 5000])
def test_delong_equals_confidenceinterval(n: int) -> None:
    random = np.random.default_rng(n)
    positive = random.random(n) < 0.2
    scores = np.round(random.normal(positive, 1), 2)
    ranking = _ranking(positive, scores)
    auroc = float(measure(ranking, np.ones(n, np.int32))[0])
    value, (low, high) = confidenceinterval.roc_auc_score(positive.astype(int), scores)
    assert auroc == pytest.approx(value)
    # Its interval is symmetric about the area: half of its width is 1.96 standard errors.
    assert delong(ranking) == pytest.approx((high - low) / 2 / 1.959964, rel=1e-3)
    ours = logit_interval(auroc, delong(ranking))
    assert (ours.low, ours.high) == pytest.approx((low, high), abs=0.015)


@pytest.mark.parametrize(("hits", "of"), [(0, 12), (3, 12), (12, 12), (450, 1000)])
def test_wilson_equals_statsmodels(hits: int, of: int) -> None:
    found = wilson(hits, of)
    assert (found.low, found.high) == pytest.approx(proportion_confint(hits, of, method="wilson"))


def test_newcombe_equals_statsmodels() -> None:
    found = newcombe(wilson(56, 70), wilson(48, 80))
    expected = confint_proportions_2indep(56, 70, 48, 80, method="newcomb")
    assert (found.low, found.high) == pytest.approx(expected)


def test_nothing_is_stated_without_trials() -> None:
    assert wilson(0, 0) == Estimate(None)
    assert percentiles(float("nan"), np.zeros(10)) == Estimate(None)


def test_the_bootstrap_over_images_agrees_with_delong() -> None:
    random = np.random.default_rng(1)
    positive = random.random(2000) < 0.2
    ranking = _ranking(positive, random.normal(positive, 1))
    found = replicate([ranking], 2000, replicates=400, seed=0, threads=2)
    assert found[:, 0, 0].std() == pytest.approx(delong(ranking), rel=0.15)


def test_replicates_depend_on_the_seed_and_not_on_the_threads() -> None:
    random = np.random.default_rng(2)
    positive = random.random(200) < 0.4
    ranking = _ranking(positive, random.normal(positive, 1))
    one, two = (replicate([ranking], 200, replicates=20, seed=3, threads=n) for n in (1, 2))
    np.testing.assert_array_equal(one, two)
    other = replicate([ranking], 200, replicates=20, seed=4, threads=2)
    assert not np.array_equal(one, other)


def test_with_several_images_a_patient_the_patients_are_drawn() -> None:
    """Copies of an image add nothing: the interval is that of the patients, DeLong's narrower."""
    random = np.random.default_rng(5)
    positive = random.random(400) < 0.3
    scores = random.normal(positive, 1)
    patients = np.repeat(np.arange(400), 6)
    copied = _ranking(np.repeat(positive, 6), np.repeat(scores, 6), patients)
    spread = replicate([copied], 400, replicates=400, seed=0, threads=2)[:, 0, 0].std()
    assert spread == pytest.approx(delong(_ranking(positive, scores)), rel=0.2)
    assert spread > 2 * delong(copied)
