"""Calibration curves and their figures, held against scikit-learn and `cxr evaluate`."""

import numpy as np
import pytest
from sklearn.base import BaseEstimator, ClassifierMixin
from sklearn.calibration import CalibratedClassifierCV
from sklearn.frozen import FrozenEstimator
from sklearn.isotonic import IsotonicRegression
from sklearn.linear_model import LogisticRegression
from sklearn.metrics import brier_score_loss

from cxr_client.evaluation.calibration import calibrate
from cxr_server.bundles.refit import Isotonic, Platt
from cxr_server.refit.calibration import calibrated, figures, fit_curve, logits


def drawn(n: int, seed: int, digits: int = 9) -> tuple[np.ndarray, np.ndarray]:
    """Return probabilities that are too high and too extreme, and labels."""
    random = np.random.default_rng(seed)
    z = random.normal(-1, 1.2, n)
    positive = random.random(n) < 1 / (1 + np.exp(-z))
    return np.round(1 / (1 + np.exp(-(2 * z + 1.5))), digits), positive


class Network(ClassifierMixin, BaseEstimator):
    """A classifier whose decision function is what it is given."""

    def fit(self, x: np.ndarray, y: np.ndarray) -> "Network":
        self.classes_ = np.array([False, True])
        return self

    def predict(self, x: np.ndarray) -> np.ndarray:
        return self.decision_function(x) > 0

    def decision_function(self, x: np.ndarray) -> np.ndarray:
        return x[:, 0]


@pytest.mark.parametrize("method", ["platt", "isotonic"])
@pytest.mark.parametrize("digits", [2, 9])
def test_calibrated_probabilities_equal_those_of_scikit_learn(method: str, digits: int) -> None:
    fit, labels = drawn(600, 1, digits)
    seen, _ = drawn(300, 2, digits)
    seen = np.concatenate([seen, [1e-9, 1 - 1e-9]])
    network = Network().fit(fit, labels)
    sigmoid = {"platt": "sigmoid"}.get(method, method)
    other = CalibratedClassifierCV(FrozenEstimator(network), method=sigmoid)
    other.fit(logits(fit)[:, None], labels)
    curve = fit_curve(method, fit, labels)
    assert isinstance(curve, Platt if method == "platt" else Isotonic)
    expected = other.predict_proba(logits(seen)[:, None])[:, 1]
    np.testing.assert_allclose(calibrated(curve, seen), expected, atol=2e-5)


def test_an_isotonic_curve_has_the_points_of_scikit_learn() -> None:
    fit, labels = drawn(600, 3)
    other = IsotonicRegression(out_of_bounds="clip").fit(logits(fit), labels)
    curve = fit_curve("isotonic", fit, labels)
    assert isinstance(curve, Isotonic)
    np.testing.assert_allclose(curve.logits, other.X_thresholds_)
    np.testing.assert_allclose(curve.probabilities, other.y_thresholds_, atol=1e-12)


def test_figures_equal_those_of_scikit_learn_and_of_an_evaluation() -> None:
    probabilities, positive = drawn(800, 4)
    found = figures(probabilities, positive)
    assert found.brier_score == pytest.approx(brier_score_loss(positive, probabilities))
    other = LogisticRegression(C=np.inf, tol=1e-10).fit(logits(probabilities)[:, None], positive)
    assert found.slope == pytest.approx(other.coef_[0, 0], abs=1e-5)
    evaluated = calibrate(probabilities, positive, np.arange(800))
    assert found.slope == pytest.approx(evaluated.slope.value)
    assert found.expected_calibration_error == pytest.approx(evaluated.ece)
    assert found.brier_score == pytest.approx(evaluated.brier)


def test_films_that_are_told_apart_by_scores_have_a_curve_and_no_slope() -> None:
    positive = np.arange(40) >= 20
    probabilities = np.linspace(0.01, 0.99, 40)
    assert figures(probabilities, positive).slope is None
    curve = fit_curve("platt", probabilities, positive)
    assert curve is not None
    assert 0 < curve.probability(-5) < 0.05 < 0.95 < curve.probability(5) < 1


def test_scores_that_fall_with_the_finding_have_no_curve_of_platt() -> None:
    probabilities, positive = drawn(200, 5)
    assert fit_curve("platt", probabilities, ~positive) is None
    assert fit_curve("platt", np.full(200, 0.5), positive) is None
