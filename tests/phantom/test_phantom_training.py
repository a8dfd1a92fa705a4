"""Claims about the measures and about learning from phantoms."""

import json
from dataclasses import replace
from functools import cache
from pathlib import Path

import cv2
import numpy as np
import pytest
import torch
from safetensors.torch import load_file
from scipy import ndimage
from sklearn.metrics import roc_auc_score, roc_curve

from cxr_phantom import network as net
from cxr_phantom import train as training
from cxr_phantom.dataset import CELL_PX, PhantomSet, draw_set
from cxr_phantom.draw import draw_phantom
from cxr_phantom.findings import FINDINGS
from cxr_phantom.measure import area_under_curve, measure, operating_point, peak_px

TINY = training.TrainingConfig(
    images=64,
    validation_images=24,
    held_out_images=24,
    large_images=16,
    large_px=240,
    epochs=3,
    focus_epochs=1,
    batch=8,
    workers=1,
)


@cache
def _drawn() -> PhantomSet:
    return draw_set(range(1000, 1064))


def _scores(seed: int) -> tuple[np.ndarray, np.ndarray]:
    rng = np.random.default_rng(seed)
    truth = rng.random(200) < 0.3
    return np.round(rng.random(200) + 0.4 * truth, 2), truth


@pytest.mark.parametrize("seed", [0, 1, 2])
def test_auc_agrees_with_scikit_learn_ties_included(seed: int) -> None:
    raw, truth = _scores(seed)
    assert area_under_curve(raw, truth) == pytest.approx(roc_auc_score(truth, raw), abs=1e-12)


@pytest.mark.parametrize("seed", [0, 1, 2])
def test_the_operating_point_has_the_greatest_youden_index(seed: int) -> None:
    rng = np.random.default_rng(seed)
    truth = rng.random(300) < 0.3
    raw = rng.random(300) + 0.4 * truth
    called = raw >= operating_point(raw, truth)
    false_positive, true_positive, _ = roc_curve(truth, raw, drop_intermediate=False)
    reached = called[truth].mean() - called[~truth].mean()
    assert reached == pytest.approx((true_positive - false_positive).max(), abs=1e-12)


def test_the_peak_is_where_opencv_puts_it() -> None:
    rng = np.random.default_rng(4)
    for _ in range(20):
        evidence = rng.normal(size=(7, 7)).astype(np.float32)
        enlarged = cv2.resize(np.maximum(evidence, 0), (224, 224), interpolation=cv2.INTER_LINEAR)
        row, column = peak_px(evidence)
        assert enlarged[row, column] == pytest.approx(enlarged.max(), abs=1e-6)


def test_pointing_counts_a_peak_beside_the_mask_and_not_one_far_away() -> None:
    data = draw_set([1000, 1001, 1002, 1003, 1004, 1005, 1006, 1007])
    labels = data.labels_nk
    raw = labels.astype(np.float64)
    masks = np.unpackbits(data.masks_nkhw, axis=-1).astype(np.float32)
    covered = masks.reshape(8, 6, 7, CELL_PX, 7, CELL_PX).mean((3, 5))
    on_it = np.where(covered > 0, covered, -1.0).astype(np.float32)
    corner = np.full_like(on_it, -1.0)
    corner[..., 0, 0] = 1
    silent = np.full_like(on_it, -1.0)
    used = [k for k in range(len(FINDINGS)) if 0 < labels[:, k].sum() < len(labels)]
    assert used
    for maps, expected in ((on_it, 1.0), (corner, 0.0), (silent, 0.0)):
        chosen = replace(data, labels_nk=labels[:, used], masks_nkhw=data.masks_nkhw[:, used])
        rows = measure(
            tuple(FINDINGS[k] for k in used),
            maps[:, used],
            raw[:, used],
            (0.5,) * len(used),
            chosen,
        )
        assert [row.pointing for row in rows] == [expected] * len(used)
        assert [row.auc for row in rows] == [1.0] * len(used)


def test_a_set_holds_what_its_seeds_draw() -> None:
    data = _drawn()
    for n in (0, 7, 33):
        phantom = draw_phantom(1000 + n)
        np.testing.assert_array_equal(data.pixels_nhw[n], phantom.pixels_hw)
        assert {FINDINGS[k] for k in np.flatnonzero(data.labels_nk[n])} == set(phantom.masks)
        for name, mask in phantom.masks.items():
            np.testing.assert_array_equal(data.mask(n, FINDINGS.index(name)), mask)


def test_a_phantom_drawn_large_and_fitted_is_the_one_drawn_at_the_inputs_size() -> None:
    small, large = draw_set([1001, 1002]), draw_set([1001, 1002], size_px=512)
    np.testing.assert_array_equal(small.labels_nk, large.labels_nk)
    # Apart from the outermost pixels, which fitting darkens as torchxrayvision does.
    difference = (large.pixels_nhw.astype(int) - small.pixels_nhw)[:, 2:-2, 2:-2]
    assert np.abs(difference).mean() < 5
    assert np.abs(difference.mean()) < 1


def test_every_planted_finding_has_a_cell_and_no_cell_is_far_from_its_mask() -> None:
    data = _drawn()
    has_cell = data.near_nkhw.any((2, 3))
    np.testing.assert_array_equal(has_cell, data.labels_nk)
    for n, k in np.argwhere(data.labels_nk)[:20]:
        distance = ndimage.distance_transform_edt(~data.mask(n, k))
        rows, columns = np.nonzero(data.near_nkhw[n, k])
        centres = distance[rows * CELL_PX + 16, columns * CELL_PX + 16]
        assert centres.max() <= CELL_PX


def test_mean_evidence_plus_bias_is_the_logit_of_torchxrayvisions_own_forward() -> None:
    torch.manual_seed(0)
    network = net.build_network().eval()
    images = net.normalised(torch.from_numpy(_drawn().pixels_nhw[:4]))
    assert images.min() >= -1024
    assert images.max() <= 1024
    with torch.inference_mode():
        evidence = net.evidence_of(network, images)
        assert evidence.shape == (4, 6, 7, 7)
        torch.testing.assert_close(
            net.logits_of(network, evidence), network(images), rtol=1e-4, atol=1e-4
        )


def test_stray_evidence_is_the_share_outside_and_ignores_absent_findings() -> None:
    evidence = torch.full((1, 2, 7, 7), -5.0)
    evidence[0, 0, 0, 0], evidence[0, 0, 3, 3], evidence[0, 1, 6, 6] = 1.0, 3.0, 9.0
    near = torch.zeros((1, 2, 7, 7), dtype=torch.bool)
    near[0, 0, 3, 3] = True
    labels = torch.tensor([[True, False]])
    assert net.stray_share(evidence, near, labels).item() == pytest.approx(0.25, abs=1e-3)


def _first(count: int) -> PhantomSet:
    data = _drawn()
    return PhantomSet(
        data.pixels_nhw[:count],
        data.labels_nk[:count],
        data.near_nkhw[:count],
        data.masks_nkhw[:count],
    )


def test_a_short_training_lowers_the_loss() -> None:
    _, losses = training.fit_network(replace(TINY, epochs=4, focus_epochs=0), _drawn())
    assert losses[-1]["bce"] < 0.85 * losses[0]["bce"]


def test_the_same_seed_trains_the_same_weights() -> None:
    config = replace(TINY, epochs=1, focus_epochs=1)
    first, second = (training.fit_network(config, _first(24))[0] for _ in range(2))
    other, _ = training.fit_network(replace(config, seed=2), _first(24))
    weights = training.weights_of(first)
    for name, value in training.weights_of(second).items():
        torch.testing.assert_close(value, weights[name], rtol=0, atol=0)
    assert not torch.equal(
        training.weights_of(other)["classifier.weight"], weights["classifier.weight"]
    )


def test_the_command_writes_weights_and_a_report(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(training, "TrainingConfig", lambda **chosen: replace(TINY, **chosen))
    arguments = ["--output", str(tmp_path), "--images", "32", "--epochs", "1", "--workers", "1"]
    assert training.main([*arguments, "--focus-epochs", "1"]) == 0
    assert sorted(p.name for p in tmp_path.iterdir()) == ["training.json", "weights.safetensors"]
    report = json.loads((tmp_path / "training.json").read_text())
    assert report["labels"] == list(FINDINGS)
    assert len(report["thresholds"]) == len(FINDINGS)
    assert all(0 < threshold < 1 for threshold in report["thresholds"])
    assert len(report["epoch_losses"]) == 2
    network = net.build_network()
    network.load_state_dict(load_file(tmp_path / "weights.safetensors"))
    assert (tmp_path / "weights.safetensors").stat().st_size < 1_000_000
