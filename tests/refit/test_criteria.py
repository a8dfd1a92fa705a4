"""Operating points: what each criterion chooses, held against scikit-learn and by brute force."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from sklearn.metrics import f1_score, recall_score, roc_curve

from cxr_server.refit.criteria import LEAST_CALLED, Criterion, CriterionError

ALL = ["youden", "f1", "sensitivity=0.8", "specificity=0.8", "ppv=0.6", "npv=0.9"]


def drawn(n: int, seed: int, digits: int = 9) -> tuple[np.ndarray, np.ndarray]:
    """Return probabilities, with ties for few digits, and labels."""
    random = np.random.default_rng(seed)
    positive = random.random(n) < 0.4
    positive[:2] = (True, False)
    scores = 1 / (1 + np.exp(-random.normal(1.5 * positive - 1, 1.0)))
    return np.round(scores, digits), positive


def rates(positive: np.ndarray, called: np.ndarray) -> dict[str, float]:
    tp, fp = int((positive & called).sum()), int((~positive & called).sum())
    fn, tn = int(positive.sum()) - tp, int((~positive).sum()) - fp
    enough = {"ppv": tp + fp >= LEAST_CALLED, "npv": tn + fn >= LEAST_CALLED}
    return {
        "sensitivity": tp / (tp + fn),
        "specificity": tn / (tn + fp),
        "ppv": tp / (tp + fp) if enough["ppv"] else 0.0,
        "npv": tn / (tn + fn) if enough["npv"] else 0.0,
        "youden": tp / (tp + fn) + tn / (tn + fp),
        "f1": 2 * tp / (2 * tp + fp + fn),
    }


TRADED_AGAINST = {
    "sensitivity": "specificity",
    "specificity": "sensitivity",
    "ppv": "sensitivity",
    "npv": "specificity",
}


@pytest.mark.parametrize("digits", [1, 9])
@pytest.mark.parametrize("text", ALL)
def test_no_other_operating_point_meets_the_criterion_better(text: str, digits: int) -> None:
    scores, positive = drawn(80, 3, digits)
    criterion = Criterion.parse(text)
    threshold = criterion.threshold(scores, positive)
    assert threshold is not None
    found = rates(positive, scores > threshold)
    assert found["f1"] == pytest.approx(f1_score(positive, scores > threshold))
    assert found["sensitivity"] == pytest.approx(recall_score(positive, scores > threshold))
    others = [rates(positive, scores >= each) for each in np.unique(scores)]
    if criterion.value is None:
        assert found[criterion.name] == pytest.approx(max(each[text] for each in others))
        return
    name, gain = criterion.name, TRADED_AGAINST[criterion.name]
    assert found[name] >= criterion.value
    for other in others:
        assert not (
            other["sensitivity"] + other["specificity"] > found["youden"] + 1 + 1e-9
            and other["sensitivity"] >= found["sensitivity"]
            and other["specificity"] >= found["specificity"]
        )
    assert found[gain] == max(each[gain] for each in others if each[name] >= criterion.value)


def test_youden_is_the_point_of_the_roc_curve_that_is_farthest_from_chance() -> None:
    scores, positive = drawn(500, 5)
    false, true, thresholds = roc_curve(positive, scores)
    best = thresholds[np.argmax(true - false)]
    threshold = Criterion("youden").threshold(scores, positive)
    assert threshold is not None
    assert ((scores > threshold) == (scores >= best)).all()


@settings(max_examples=60, deadline=None)
@given(st.integers(2, 30), st.integers(0, 10_000), st.sampled_from(ALL), st.integers(1, 3))
def test_an_operating_point_lies_between_two_probabilities_and_flags_a_film(
    n: int, seed: int, text: str, digits: int
) -> None:
    scores, positive = drawn(n, seed, digits)
    threshold = Criterion.parse(text).threshold(scores, positive)
    if threshold is not None:
        assert 0 < threshold < 1
        assert threshold not in scores or threshold == scores.max() == 1 - 1e-12
        assert scores.max() > threshold


def test_what_cannot_be_reached_has_no_operating_point() -> None:
    scores, positive = np.array([0.9, 0.5, 0.4] * 10), np.array([False, True, False] * 10)
    assert Criterion("specificity", 0.9).threshold(scores, positive) is None
    assert Criterion("ppv", 0.9).threshold(scores, positive) is None
    assert Criterion("sensitivity", 1.0).threshold(scores, positive) == pytest.approx(0.45)
    few = np.arange(30) < LEAST_CALLED - 1
    assert Criterion("ppv", 0.95).threshold(few * 0.5 + 0.2, few) is None


@pytest.mark.parametrize(
    "text", ["", "best", "youden=0.5", "sensitivity", "ppv=0", "npv=1.1", "ppv=x", "f1=nan"]
)
def test_a_criterion_that_is_none_is_refused_with_those_there_are(text: str) -> None:
    with pytest.raises(CriterionError, match=r"sensitivity=X"):
        Criterion.parse(text)
    assert str(Criterion.parse("sensitivity=0.95")) == "sensitivity=0.95"
