"""`cxr drift`: two runs without labels, where the shift is known."""

import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from scipy.stats import ks_2samp, mannwhitneyu, norm

from cxr_command import Run
from simulated_runs import failure, header, image, write_run

N = 200


def drawn(path: Path, seed: int, shift: float, warned: int = 0, failed: int = 0) -> Path:
    """Write a run whose Mass is shifted and whose Nodule is not."""
    random = np.random.default_rng(seed)
    scores = 1 / (1 + np.exp(-random.normal([shift, 0], 1, (N, 2))))
    rows: list[Any] = [
        image(f"{n}.png", {"Mass": mass, "Nodule": nodule}, ["CROPPED"] * (n < warned))
        for n, (mass, nodule) in enumerate(scores)
    ]
    rows += [failure(f"x{n}.png", "IMAGE_UNREADABLE") for n in range(failed)]
    return write_run(path, header(["Mass", "Nodule"]), rows)


def probabilities(run: Path, label: str) -> list[float]:
    rows = map(json.loads, run.read_text().splitlines()[1:])
    found: Sequence[Any] = [row.get("findings", ()) for row in rows]
    return [each["probability"] for row in found for each in row if each["label"] == label]


def test_a_shift_of_one_finding_is_found_and_no_other(cxr: Run, tmp_path: Path) -> None:
    a, b = drawn(tmp_path / "a.jsonl", 0, 0), drawn(tmp_path / "b.jsonl", 1, 0.8)
    status, printed, errors = cxr("drift", a, b, "--json")
    assert (status, errors) == (0, "")
    found = json.loads(printed)
    mass, nodule = found["findings"]
    x, y = probabilities(a, "Mass"), probabilities(b, "Mass")
    assert mass["higher"]["value"] == pytest.approx(mannwhitneyu(y, x).statistic / N**2)
    assert mass["ks_distance"] == pytest.approx(ks_2samp(x, y).statistic)
    assert mass["higher"]["low"] > 0.5
    assert mass["above_difference"]["low"] > 0
    assert nodule["higher"]["low"] < 0.5 < nodule["higher"]["high"]
    assert found["sentence"].startswith("1 of 2 findings score differently")
    assert "largest shift is that of Mass" in found["sentence"]
    assert found["differing"] == []
    assert "have different" not in found["sentence"]


def test_shares_of_warnings_and_failures_are_compared(cxr: Run, tmp_path: Path) -> None:
    a = drawn(tmp_path / "a.jsonl", 0, 0, warned=4)
    b = drawn(tmp_path / "b.jsonl", 1, 0, warned=60, failed=50)
    status, printed, _ = cxr("drift", a, b, "--json")
    assert status == 0
    cropped, unanswered = json.loads(printed)["shares"]
    assert (cropped["what"], unanswered["what"]) == ("CROPPED", "not answered")
    assert cropped["difference"]["value"] == pytest.approx((60 - 4) / N)
    assert cropped["difference"]["low"] > 0
    assert unanswered["share_b"]["value"] == pytest.approx(50 / (N + 50))
    status, printed, _ = cxr("drift", a, b)
    told = "Shares of images differ: CROPPED by +28 percentage points, not answered by +20"
    assert told in printed


def test_what_differs_beside_the_images_is_said(cxr: Run, tmp_path: Path) -> None:
    """A refitted model has the weights of its parent, and other operating points."""
    a = drawn(tmp_path / "a.jsonl", 0, 0)
    first, *rows = a.read_text().splitlines(keepends=True)
    fields = json.loads(first)
    fields["thresholds"]["Mass"] = 0.7
    fields["options"]["presentation"] = "STORED"
    fields["options"]["heatmaps"] = True
    b = tmp_path / "b.jsonl"
    b.write_text(json.dumps(fields) + "\n" + "".join(rows))
    status, printed, _ = cxr("drift", a, b)
    assert status == 0
    assert "The runs have different operating points and options: what" in printed
    # Nor do the weights tell a model in int8 from its parent.
    fields = json.loads(first) | {"quantized_from": "phantom"}
    b.write_text(json.dumps(fields) + "\n" + "".join(rows))
    assert "The runs have different models: what" in cxr("drift", a, b)[1]
    # Nor does anything but the header tell an engine in bfloat16.
    fields = json.loads(first) | {"precision": "bfloat16"}
    b.write_text(json.dumps(fields) + "\n" + "".join(rows))
    assert "The runs have different precisions: what" in cxr("drift", a, b)[1]


@pytest.mark.parametrize(("shift", "apart"), [(0.0, False), (1.0, True)])
def test_embeddings_tell_shifted_runs_apart_and_like_ones_not(
    cxr: Run, tmp_path: Path, shift: float, apart: bool
) -> None:
    random = np.random.default_rng(5)
    runs = []
    for name, by in (("a", 0.0), ("b", shift)):
        runs.append(drawn(tmp_path / f"{name}.jsonl", 7, 0))
        vectors = random.normal(0, 1, (N, 64)).astype(np.float32)
        vectors[:, :3] += by
        np.save(tmp_path / f"{name}.jsonl.embeddings.npy", vectors)
    status, printed, _ = cxr("drift", *runs, "--json")
    assert status == 0
    found = json.loads(printed)
    low, high = found["embeddings"]["low"], found["embeddings"]["high"]
    assert f", {low:.2f} to {high:.2f})" in found["sentence"]
    assert (low > 0.5) is apart
    assert (low <= 0.5 <= high) is not apart
    assert ("are told apart" in found["sentence"]) is apart


def test_a_run_is_not_told_apart_from_itself(cxr: Run, tmp_path: Path) -> None:
    run = drawn(tmp_path / "a.jsonl", 0, 0)
    vectors = np.random.default_rng(1).normal(0, 1, (N, 64)).astype(np.float32)
    np.save(tmp_path / "a.jsonl.embeddings.npy", vectors)
    status, printed, _ = cxr("drift", run, run)
    assert status == 0
    assert "0 of 2 findings score differently" in printed
    assert "are not told apart (AUROC 0.50" in printed


def test_the_same_films_are_told_apart_by_what_differs(cxr: Run, tmp_path: Path) -> None:
    """Of films in both halves, the other half's classifier would know each as the wrong run's."""
    films = np.random.default_rng(0).normal(0, 1, (N, 64)).astype(np.float32)
    for name, shift in (("a", 0), ("b", 1.5)):
        rows = [image(f"{n}.png", {"Mass": n / N}, embedding=n) for n in range(N)]
        write_run(tmp_path / f"{name}.jsonl", header(["Mass"]), rows)
        moved = films + np.float32(shift) * (np.arange(64) == 0)
        np.save(tmp_path / f"{name}.jsonl.embeddings.npy", moved)
    areas = {}
    for name in "ab":
        runs = (tmp_path / "a.jsonl", tmp_path / f"{name}.jsonl")
        status, printed, _ = cxr("drift", *runs, "--json")
        assert status == 0
        areas[name] = json.loads(printed)["embeddings"]["value"]
    # Of two normals that lie 1.5 apart.
    assert areas == {"a": 0.5, "b": pytest.approx(norm.cdf(1.5 / 2**0.5), abs=0.05)}


def test_a_single_film_makes_no_two_halves(cxr: Run, tmp_path: Path) -> None:
    run = drawn(tmp_path / "a.jsonl", 0, 0)
    np.save(tmp_path / "a.jsonl.embeddings.npy", np.ones((N, 8), np.float32))
    status, printed, _ = cxr("drift", run, run, "--json")
    assert status == 0
    assert json.loads(printed)["embeddings"]["value"] is None


def test_runs_that_cannot_be_compared_are_refused(cxr: Run, tmp_path: Path) -> None:
    a = drawn(tmp_path / "a.jsonl", 0, 0)
    small = write_run(
        tmp_path / "s.jsonl", header(["Mass", "Nodule"]), [image("1.png", {"Mass": 1, "Nodule": 1})]
    )
    other = write_run(
        tmp_path / "o.jsonl", header(["Hernia"]), [image(f"{n}", {"Hernia": 0.1}) for n in range(9)]
    )
    for run, words in ((small, "fewer than 10 images"), (other, "share no finding")):
        status, _, errors = cxr("drift", a, run)
        assert status == 2
        assert words in errors
