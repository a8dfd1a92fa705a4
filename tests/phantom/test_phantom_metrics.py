"""Metrics agree with independent implementations."""

from dataclasses import replace

import numpy as np
import pytest
from scipy.stats import mannwhitneyu
from skimage.transform import resize

from cxr_phantom.dataset import CELL_PX, draw_set
from cxr_phantom.findings import FINDINGS
from cxr_phantom.metrics import area_under_curve, evaluate, operating_point, peak_px


@pytest.mark.parametrize("seed", [0, 1, 2])
def test_auc_agrees_with_scipy_ties_included(seed: int) -> None:
    rng = np.random.default_rng(seed)
    truth = rng.random(200) < 0.3
    raw = np.round(rng.random(200) + 0.4 * truth, 2)
    assert len(np.unique(raw)) < len(raw), "there are ties"
    pairs = truth.sum() * (~truth).sum()
    expected = mannwhitneyu(raw[truth], raw[~truth]).statistic / pairs
    assert area_under_curve(raw, truth) == pytest.approx(expected, abs=1e-12)


@pytest.mark.parametrize("seed", [0, 1, 2])
def test_the_operating_point_has_the_greatest_youden_index(seed: int) -> None:
    rng = np.random.default_rng(seed)
    truth = rng.random(300) < 0.3
    raw = rng.random(300) + 0.4 * truth

    def youden(threshold: float) -> float:
        return float((raw[truth] >= threshold).mean() - (raw[~truth] >= threshold).mean())

    found = operating_point(raw, truth)
    assert youden(found) == pytest.approx(max(map(youden, raw)), abs=1e-12)
    assert found not in raw


def test_the_peak_is_where_scikit_image_puts_it() -> None:
    rng = np.random.default_rng(4)
    for _ in range(20):
        evidence = rng.normal(size=(7, 7)).astype(np.float32)
        resized = resize(
            np.maximum(evidence, 0), (224, 224), order=1, mode="edge", anti_aliasing=False
        )
        assert resized[peak_px(evidence)] == pytest.approx(resized.max(), abs=1e-6)


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
        rows = evaluate(
            [FINDINGS[k] for k in used], maps[:, used], raw[:, used], [0.5] * len(used), chosen
        )
        assert [row.pointing for row in rows] == [expected] * len(used)
        assert [row.auc for row in rows] == [1.0] * len(used)
