"""`cxr evaluate A B`: paired differences of two runs."""

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from sklearn.metrics import cohen_kappa_score, roc_auc_score

from cxr_command import Run
from simulated_runs import drawn_scores, header, image, write_run

N = 240
POSITIVE = np.random.default_rng(3).random(N) < 0.4
Scores = np.ndarray[Any, np.dtype[np.float64]]
Compare = Callable[..., tuple[dict[str, Any], str]]


@pytest.fixture
def compare(cxr: Run, tmp_path: Path) -> Compare:
    """Compares two runs with these scores, B in another order; returns the JSON and the page."""
    labels = tmp_path / "labels.csv"
    lines = [f"{n},{n // 2},{int(POSITIVE[n])}" for n in range(N)]
    labels.write_text("\n".join(["image,patient,Mass", *lines]) + "\n")

    def run(a: Scores, b: Scores, *argv: object) -> tuple[dict[str, Any], str]:
        runs = []
        for name, scores, order in (("a", a, range(N)), ("b", b, reversed(range(N)))):
            rows = [image(f"films/{n}.png", {"Mass": scores[n]}) for n in order]
            runs.append(write_run(tmp_path / f"{name}.jsonl", header(["Mass"], name), rows))
        page = tmp_path / "page.html"
        status, _, errors = cxr(
            *("evaluate", *runs, "--labels", labels, "--format", "csv", "--output", page),
            *("--replicates", 200, *argv),
        )
        assert (status, errors) == (0, "")
        return json.loads(page.with_suffix(".json").read_text()), page.read_text()

    return run


def test_differences_and_agreement_equal_an_independent_computation(compare: Compare) -> None:
    a, b = drawn_scores(POSITIVE, 1, 0.5), drawn_scores(POSITIVE, 2, 2.5)
    found, page = compare(a, b)
    [mass] = found["findings"]
    areas = [roc_auc_score(POSITIVE, scores) for scores in (a, b)]
    assert [mass["auroc_a"], mass["auroc_b"]] == pytest.approx(areas)
    assert mass["auroc_difference"]["value"] == pytest.approx(areas[1] - areas[0])
    assert mass["auroc_difference"]["low"] > 0
    assert mass["same_side"] == pytest.approx(((a >= 0.5) == (b >= 0.5)).mean())
    assert mass["kappa"] == pytest.approx(cohen_kappa_score(a >= 0.5, b >= 0.5))
    assert mass["raised"] == ((a < 0.5) & (b >= 0.5)).sum()
    assert mass["lowered"] == ((a >= 0.5) & (b < 0.5)).sum()
    assert (found["images"], found["patients"]) == (N, N // 2)
    assert [step["count"] for step in found["flow"]["B"]] == [N, N]
    assert "films/" not in page
    assert all(sentence in page for sentence in found["not_done"])
    assert len(found["software"]["sha256"]) == 64
    assert found["software"]["sha256"] in page


def test_pairing_makes_the_interval_of_like_runs_narrow(compare: Compare) -> None:
    a = drawn_scores(POSITIVE, 1)
    found, _ = compare(a, a)
    difference = found["findings"][0]["auroc_difference"]
    assert (difference["low"], difference["value"], difference["high"]) == (0, 0, 0)
    jittered = np.clip(a + np.random.default_rng(0).normal(0, 0.01, N), 0, 1)
    found, _ = compare(a, jittered)
    difference = found["findings"][0]["auroc_difference"]
    assert difference["low"] <= 0 <= difference["high"]
    assert difference["high"] - difference["low"] < 0.03


def test_two_runs_without_errors_are_not_said_to_be_equal_for_certain(compare: Compare) -> None:
    [mass] = compare(np.where(POSITIVE, 0.9, 0.1), np.where(POSITIVE, 0.8, 0.3))[0]["findings"]
    for name in ("auroc", "sensitivity", "specificity"):
        assert mass[f"{name}_difference"] == {"value": 0, "low": None, "high": None}


def test_films_that_changed_side_are_listed_by_their_lines(compare: Compare) -> None:
    a = np.full(N, 0.2)
    b = a.copy()
    b[[7, 9]] = 0.9, 0.7
    found, page = compare(a, b, "--names")
    changed = found["findings"][0]["changed"]
    assert [each["file"] for each in changed] == ["films/7.png", "films/9.png"]
    assert [each["line_a"] for each in changed] == [9, 11]
    assert [each["line_b"] for each in changed] == [N - 7 + 1, N - 9 + 1]
    assert "films/7.png" in page


def test_runs_without_a_common_image_are_refused(
    cxr: Run, compare: Compare, tmp_path: Path
) -> None:
    compare(drawn_scores(POSITIVE, 1), drawn_scores(POSITIVE, 2))
    halves = []
    for number in range(2):
        rows = [image(f"{2 * n + number}.png", {"Mass": 0.5}) for n in range(20)]
        halves.append(write_run(tmp_path / f"half{number}.jsonl", header(["Mass"]), rows))
    status, _, errors = cxr(
        *("evaluate", *halves, "--labels", tmp_path / "labels.csv", "--format", "csv"),
        *("--output", tmp_path / "p.html"),
    )
    assert status == 2
    assert "the runs share no image with labels" in errors
