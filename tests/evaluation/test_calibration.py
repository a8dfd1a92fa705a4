"""Calibration against scikit-learn and statsmodels."""

import numpy as np
import pytest
from scipy.special import expit, logit
from sklearn.calibration import calibration_curve
from sklearn.metrics import brier_score_loss

from cxr_client.evaluation.calibration import calibrate


@pytest.fixture
def sample() -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Probabilities that are too sure of themselves: their true slope is 0.5."""
    random = np.random.default_rng(0)
    probabilities = random.uniform(0.02, 0.98, 3000)
    positive = random.random(3000) < expit(0.5 * logit(probabilities) - 1)
    return probabilities, positive, np.repeat(np.arange(1000), 3)


def test_curve_and_scores_equal_scikit_learn(
    sample: tuple[np.ndarray, np.ndarray, np.ndarray],
) -> None:
    probabilities, positive, units = sample
    found = calibrate(probabilities, positive, units)
    share, mean = calibration_curve(positive, probabilities, n_bins=10, strategy="quantile")
    np.testing.assert_allclose([each.mean_probability for each in found.bins], mean)
    np.testing.assert_allclose([each.positives.value for each in found.bins], share)
    assert found.brier == pytest.approx(brier_score_loss(positive, probabilities))
    assert found.ece == pytest.approx(np.abs(share - mean).mean())


def test_slope_and_intercept_equal_those_of_statsmodels_clustered_by_patient(
    sample: tuple[np.ndarray, np.ndarray, np.ndarray],
) -> None:
    from statsmodels.discrete.discrete_model import Logit  # takes a second; others need not wait

    probabilities, positive, units = sample
    found = calibrate(probabilities, positive, units)
    design = np.column_stack([np.ones(len(probabilities)), logit(probabilities)])
    fitted = Logit(positive.astype(float), design).fit(
        disp=0, cov_type="cluster", cov_kwds={"groups": units}
    )
    assert (found.intercept.value, found.slope.value) == pytest.approx(fitted.params)
    low_high = [(each.low, each.high) for each in (found.intercept, found.slope)]
    np.testing.assert_allclose(low_high, fitted.conf_int(), rtol=1e-3)
    assert found.slope.low is not None
    assert found.slope.high is not None
    assert found.slope.low < 0.5 < found.slope.high


@pytest.mark.parametrize(("patients", "stated"), [(9, False), (10, True)])
def test_a_slope_needs_ten_patients_of_either_kind(patients: int, stated: bool) -> None:
    """20 positives, whose patients have several images."""
    random = np.random.default_rng(0)
    positive = np.arange(200) < 20
    units = np.where(positive, np.arange(200) % patients, np.arange(200))
    for labels in (positive, ~positive):
        found = calibrate(random.random(200), labels, units)
        assert (found.slope.low is not None) is stated
        assert (found.intercept.low is not None) is stated


def test_separable_scores_have_no_slope() -> None:
    probabilities = np.linspace(0.01, 0.99, 60)
    found = calibrate(probabilities, probabilities > 0.5, np.arange(60))
    assert found.slope.value is None
    assert found.brier < 0.1


def test_probabilities_of_0_and_1_are_taken() -> None:
    probabilities = np.array([0.0, 1.0] * 40)
    positive = np.array([False, True, False, True, False, True, True, False] * 10)
    found = calibrate(probabilities, positive, np.arange(80))
    assert found.slope.value is not None
    assert found.slope.value > 0
