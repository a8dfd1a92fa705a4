"""Fitting: figures are of films that were not fitted to, with intervals that hold for patients."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from statsmodels.stats.proportion import proportion_confint

from cxr_server.bundles.refit import PatientSplit
from cxr_server.refit.criteria import Criterion
from cxr_server.refit.films import Films
from cxr_server.refit.fit import Labelled, clustered_wilson, divide, fit_finding

FOLDS = PatientSplit(folds=5, fit_fraction=None, seed=0)
HALF = PatientSplit(folds=None, fit_fraction=0.5, seed=0)


def films(probabilities: np.ndarray, labels: np.ndarray, patients: np.ndarray) -> Films:
    return Films(
        sha256="aa" * 32,
        run_sha256="bb" * 32,
        weights_sha256="cc" * 32,
        precision="float32",
        preprocessing_id="p",
        labels_title="t",
        labels_sha256=None,
        findings=("Mass",),
        patients=patients,
        has_patients=True,
        probabilities=probabilities[:, None],
        labels=labels[:, None].astype(float),
    )


def labelled(
    probabilities: np.ndarray, labels: np.ndarray, patients: np.ndarray, split: PatientSplit
) -> Labelled:
    return Labelled.of(films(probabilities, labels, patients), 0, divide(patients, split))


@settings(max_examples=50, deadline=None)
@given(
    st.lists(st.integers(0, 40), min_size=2, max_size=80),
    st.one_of(
        st.builds(
            PatientSplit, folds=st.integers(2, 7), fit_fraction=st.none(), seed=st.integers()
        ),
        st.builds(
            PatientSplit, folds=st.none(), fit_fraction=st.floats(0.05, 0.95), seed=st.integers()
        ),
    ),
)
def test_no_patient_is_on_both_sides_and_every_film_is_on_one(
    numbers: list[int], split: PatientSplit
) -> None:
    patients = np.array(numbers)
    division = divide(patients, split)
    reported = sum(report.astype(int) for _, report in division.parts)
    for fit, report in division.parts:
        assert (fit ^ report).all()
        assert not set(patients[fit]) & set(patients[report])
    if split.folds:
        assert len(division.parts) == split.folds
        assert (reported == 1).all()
        assert division.final.all()
    else:
        assert (division.final == division.parts[0][0]).all()
        share = len(set(patients[division.final])) / len(set(numbers))
        assert abs(share - (split.fit_fraction or 0)) <= 0.5 / len(set(numbers)) + 1e-9
    again = divide(patients, split)
    assert (again.final == division.final).all()


@pytest.mark.parametrize("split", [FOLDS, HALF])
def test_an_operating_point_of_chance_is_reported_as_chance(split: PatientSplit) -> None:
    found = []
    for seed in range(30):
        random = np.random.default_rng(seed)
        scores, positive = random.random(60), np.arange(60) % 2 == 0
        _, refit = fit_finding(
            labelled(scores, positive, np.arange(60), split), Criterion("youden"), None, 0.5
        )
        assert refit.sensitivity
        assert refit.specificity
        found.append(refit.sensitivity.value + refit.specificity.value - 1)
    # On the films that were fitted to, Youden's index would be about 0.2.
    assert abs(np.mean(found)) < 0.08


@pytest.mark.parametrize("split", [FOLDS, HALF])
def test_what_is_reported_is_what_films_of_others_show(split: PatientSplit) -> None:
    def drawn(n: int, seed: int) -> tuple[np.ndarray, np.ndarray]:
        random = np.random.default_rng(seed)
        positive = random.random(n) < 0.3
        return 1 / (1 + np.exp(-random.normal(2 * positive - 2, 1))), positive

    scores, positive = drawn(4000, 1)
    threshold, refit = fit_finding(
        labelled(scores, positive, np.arange(4000), split),
        Criterion("sensitivity", 0.9),
        "platt",
        0.5,
    )
    others, truth = drawn(200_000, 2)
    assert refit.sensitivity
    assert refit.specificity
    assert refit.sensitivity.low < (others > threshold)[truth].mean() < refit.sensitivity.high
    assert refit.specificity.low < (others <= threshold)[~truth].mean() < refit.specificity.high
    assert refit.sensitivity.value == pytest.approx(0.9, abs=0.03)
    assert (refit.image_count, refit.positive_count) == (4000, positive.sum())
    assert refit.calibration
    raw, after = refit.calibration.raw, refit.calibration.calibrated
    assert after.slope == pytest.approx(1, abs=0.1)
    assert after.expected_calibration_error < raw.expected_calibration_error / 2
    assert after.brier_score < raw.brier_score


def test_with_a_plain_split_no_film_that_is_reported_on_moves_the_operating_point() -> None:
    random = np.random.default_rng(3)
    positive = np.arange(200) % 4 == 0
    scores = np.clip(random.normal(0.3 + 0.3 * positive, 0.15), 0.01, 0.99)
    patients = np.arange(200) // 2
    before = fit_finding(labelled(scores, positive, patients, HALF), Criterion("f1"), None, 0.5)
    reported = ~divide(patients, HALF).final
    shuffled = np.where(reported, random.permutation(scores), scores)
    after = fit_finding(labelled(shuffled, positive, patients, HALF), Criterion("f1"), None, 0.5)
    assert before[0] == after[0] != 0.5
    assert before[1].sensitivity != after[1].sensitivity


@pytest.mark.parametrize(
    ("positives", "split", "kept"),
    [(9, FOLDS, True), (10, FOLDS, False), (12, HALF, True), (40, HALF, False)],
)
def test_below_ten_positives_the_operating_point_is_kept(
    positives: int, split: PatientSplit, kept: bool
) -> None:
    scores = np.linspace(0.9, 0.1, 200)
    positive = np.arange(200) < positives
    threshold, refit = fit_finding(
        labelled(scores, positive, np.arange(200), split), Criterion("youden"), "isotonic", 0.123
    )
    assert (threshold == 0.123) == kept
    assert bool(refit.kept_reason) == kept
    assert (refit.sensitivity is None) == (refit.calibration is None) == kept
    assert "fewer than 10 positives" in refit.kept_reason or not kept


def test_ten_films_of_few_patients_are_too_few() -> None:
    scores, positive = np.linspace(0.9, 0.1, 200), np.arange(200) < 30
    patients = np.arange(200) // 10
    _, refit = fit_finding(labelled(scores, positive, patients, FOLDS), Criterion("f1"), None, 0.4)
    assert refit.kept_reason == "fewer than 10 positives or negatives"


def test_what_no_operating_point_reaches_is_kept_and_said() -> None:
    random = np.random.default_rng(4)
    scores, positive = random.random(300), np.arange(300) % 10 == 0
    threshold, refit = fit_finding(
        labelled(scores, positive, np.arange(300), FOLDS), Criterion("ppv", 0.99), None, 0.4
    )
    assert threshold == 0.4
    assert refit.kept_reason == "no operating point reaches ppv=0.99"


def test_films_without_a_label_count_for_nothing() -> None:
    random = np.random.default_rng(5)
    labels = np.where(np.arange(300) % 3 == 0, np.nan, np.arange(300) % 2)
    found = labelled(random.random(300), labels, np.arange(300), FOLDS)
    assert len(found.positive) == len(found.division.final) == 200


@pytest.mark.parametrize("hits", [0, 7, 50, 93, 100])
def test_the_interval_is_wilsons_and_knows_several_films_of_a_patient(hits: int) -> None:
    right = np.random.default_rng(hits).permutation(np.arange(100) < hits)
    single = clustered_wilson(right, np.arange(100))
    low, high = proportion_confint(hits, 100, method="wilson")
    assert (single.low, single.high) == (
        pytest.approx(low, abs=2e-3),
        pytest.approx(high, abs=2e-3),
    )
    fourfold = clustered_wilson(np.repeat(right, 4), np.repeat(np.arange(100), 4))
    assert fourfold.value == single.value
    assert fourfold.low == pytest.approx(single.low, abs=2e-3)
    assert fourfold.high == pytest.approx(single.high, abs=2e-3)
