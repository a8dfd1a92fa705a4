"""Maps of evidence: equal to pytorch-grad-cam's, and in the right place."""

import cv2
import numpy as np
import pytest
import pytorch_grad_cam
import torch
import torchxrayvision
from hypothesis import given, settings
from hypothesis import strategies as st
from pytorch_grad_cam.utils.model_targets import ClassifierOutputTarget

from cxr_server.explanation.heatmap import (
    FIXED_FULL_SCALE_LOGITS,
    Scale,
    enlarge,
    from_saliency,
    heat_map,
    peak,
    regions,
)
from cxr_server.geometry import Box

RNG = np.random.default_rng(11)
SQUARE = Box(0, 0, 224, 224)


def one_cell(row: int, column: int, evidence: float = 10.0, side: int = 7) -> np.ndarray:
    """Evidence in one cell, and some against the finding everywhere else."""
    evidence_hw = np.full((side, side), -1.0, dtype=np.float32)
    evidence_hw[row, column] = evidence
    return evidence_hw


@pytest.fixture(scope="module")
def network() -> tuple:
    """A small random network of torchxrayvision, its rectified map a module of its own."""
    torch.manual_seed(5)
    densenet = torchxrayvision.models.DenseNet(
        growth_rate=6,
        block_config=(2, 2, 2, 2),
        num_init_features=8,
        num_classes=5,
        apply_sigmoid=False,
    )
    for module in densenet.modules():
        if isinstance(module, torch.nn.BatchNorm2d):
            module.running_mean.normal_(0, 0.3)
            module.running_var.uniform_(0.5, 2)
            torch.nn.init.normal_(module.bias, 0, 0.3)
    torch.nn.init.normal_(densenet.classifier.weight, 0, 1)
    torch.nn.init.normal_(densenet.classifier.bias, 0, 1)

    class Wrapped(torch.nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.features, self.classifier = densenet.features, densenet.classifier
            self.rectified = torch.nn.ReLU()

        def forward(self, image_nchw):
            rectified = self.rectified(self.features(image_nchw))
            return self.classifier(rectified.mean(dim=(2, 3)))

    wrapped = Wrapped().double().eval()
    image_nchw = torch.from_numpy(RNG.uniform(-1024, 1024, (1, 1, 224, 224)))
    with torch.no_grad():
        rectified = wrapped.rectified(wrapped.features(image_nchw))
        weight = densenet.classifier.weight[:, :, None, None]
        evidence_khw = torch.nn.functional.conv2d(rectified, weight)[0].numpy()
        logits_k = densenet.double()(image_nchw)[0].numpy()
    return wrapped, image_nchw, evidence_khw, logits_k


def test_mean_evidence_plus_bias_is_the_networks_logit(network: tuple) -> None:
    wrapped, _, evidence_khw, logits_k = network
    bias_k = wrapped.classifier.bias.detach().numpy()
    assert evidence_khw.shape == (5, 7, 7)
    assert evidence_khw.mean(axis=(1, 2)) + bias_k == pytest.approx(logits_k, abs=1e-9)


@pytest.mark.parametrize("method", ["GradCAM", "HiResCAM"])
def test_maps_equal_those_of_pytorch_grad_cam(network: tuple, method: str) -> None:
    wrapped, image_nchw, evidence_khw, _ = network
    spread = 0.0
    with getattr(pytorch_grad_cam, method)(wrapped, [wrapped.rectified]) as explainer:
        for row in range(len(evidence_khw)):
            target = ClassifierOutputTarget(row)
            expected_hw = explainer(image_nchw, [target])[0]
            heat = heat_map(evidence_khw[row], 224, Scale.PER_MAP)
            assert np.abs(heat.values_hw - expected_hw).max() < 1e-5
            spread = max(spread, float(expected_hw.std()))
    # At least one of the maps must be a map, or nothing was compared.
    assert spread > 0.1


@settings(max_examples=50, deadline=None)
@given(side=st.integers(1, 16), side_px=st.integers(16, 300), seed=st.integers(0, 99))
def test_enlarging_equals_opencv(side: int, side_px: int, seed: int) -> None:
    values_hw = np.random.default_rng(seed).random((side, side))
    expected = cv2.resize(values_hw.astype(np.float32), (side_px, side_px))
    assert np.abs(enlarge(values_hw, side_px) - expected).max() < 1e-5


@pytest.mark.parametrize("scale", list(Scale))
def test_no_positive_evidence_makes_an_empty_map(scale: Scale) -> None:
    for evidence_hw in (-RNG.random((7, 7)) - 0.1, np.zeros((7, 7))):
        heat = heat_map(evidence_hw.astype(np.float32), 224, scale)
        assert heat.no_positive_evidence
        assert not heat.values_hw.any()
        assert peak(heat, SQUARE) is None
        assert regions(heat, SQUARE) == ()


@pytest.mark.parametrize("scale", list(Scale))
@settings(max_examples=40, deadline=None)
@given(
    seed=st.integers(0, 999),
    exponent=st.integers(-12, 12),
    side=st.sampled_from([1, 2, 7, 14]),
)
def test_heat_lies_between_zero_and_one(scale: Scale, seed: int, exponent: int, side: int) -> None:
    evidence_hw = np.random.default_rng(seed).normal(0, 10.0**exponent, (side, side))
    heat = heat_map(evidence_hw.astype(np.float32), 96, scale)
    assert heat.values_hw.shape == (96, 96)
    assert heat.values_hw.dtype == np.float32
    assert np.isfinite(heat.values_hw).all()
    assert 0 <= heat.values_hw.min() <= heat.values_hw.max() <= 1
    assert heat.low <= heat.high


@pytest.mark.parametrize("contribution", [1e-9, 0.3, 1257.3022, 1e12])
@pytest.mark.parametrize("side", [1, 7])
def test_a_level_map_has_no_relative_heat(side: int, contribution: float) -> None:
    # pytorch-grad-cam stretches what lies above the lowest cell: here nothing does.
    evidence_hw = np.full((side, side), contribution, np.float32)
    heat = heat_map(evidence_hw, 96, Scale.PER_MAP)
    assert not heat.values_hw.any()
    assert heat.low == heat.high > 0
    assert not heat.no_positive_evidence
    assert regions(heat, SQUARE) == ()


def test_the_fixed_scale_shows_strength() -> None:
    half = FIXED_FULL_SCALE_LOGITS * 49 / 2
    weak = heat_map(one_cell(3, 3, half), 224, Scale.FIXED)
    strong = heat_map(one_cell(3, 3, 20 * half), 224, Scale.FIXED)
    assert weak.values_hw.max() == pytest.approx(0.5, rel=0.05)
    assert strong.values_hw.max() == 1
    assert (weak.low, weak.high) == (strong.low, strong.high) == (0, FIXED_FULL_SCALE_LOGITS)
    # Cut off at the top, it still knows where the top was.
    top = peak(strong, SQUARE)
    assert top is not None
    assert abs(top.x_px - 112) <= 0.5
    assert abs(top.y_px - 112) <= 0.5


def test_the_limits_are_logits_that_a_cell_adds() -> None:
    heat = heat_map(one_cell(0, 0, 4.9), 224, Scale.PER_MAP)
    assert heat.low == 0
    assert heat.high == pytest.approx(0.1, rel=1e-6)


@pytest.mark.parametrize("row", range(7))
@pytest.mark.parametrize("column", range(7))
def test_the_peak_is_the_middle_of_the_hot_cell(row: int, column: int) -> None:
    found = peak(heat_map(one_cell(row, column), 224, Scale.PER_MAP), SQUARE)
    assert found is not None
    assert abs(found.x_px - (column + 0.5) * 32) <= 0.5
    assert abs(found.y_px - (row + 0.5) * 32) <= 0.5
    assert found.value == pytest.approx(1, abs=1e-5)


def test_peak_and_region_are_given_in_the_originals_pixels() -> None:
    crop = Box(x_px=0, y_px=310, width_px=700, height_px=700)
    heat = heat_map(one_cell(1, 5), 224, Scale.PER_MAP)
    found = peak(heat, crop)
    assert found is not None
    assert found.x_px == pytest.approx(550, abs=2)
    assert found.y_px == pytest.approx(310 + 150, abs=2)
    (region,) = regions(heat, crop)
    assert region.peak_value == pytest.approx(1, abs=1e-5)
    assert region.threshold == pytest.approx(0.5, abs=1e-5)
    box = region.box
    assert box.x_px < 550 < box.x_px + box.width_px
    assert box.y_px < 460 < box.y_px + box.height_px
    # Half height lies half a cell away in either direction.
    assert abs(box.width_px - 100) <= 8
    assert abs(box.height_px - 100) <= 8


def test_regions_come_largest_first_and_stay_apart() -> None:
    evidence_hw = np.zeros((7, 7), dtype=np.float32)
    evidence_hw[0, 0] = 9
    evidence_hw[4:6, 3:6] = 8
    heat = heat_map(evidence_hw, 224, Scale.PER_MAP)
    large, small = regions(heat, SQUARE)
    assert (small.box.x_px, small.box.y_px) == (0, 0)
    assert large.box.x_px > 64
    assert large.box.width_px * large.box.height_px > small.box.width_px * small.box.height_px
    assert small.peak_value > large.peak_value


@settings(max_examples=50, deadline=None)
@given(
    seed=st.integers(0, 999),
    x_px=st.integers(0, 400),
    y_px=st.integers(0, 400),
    side_px=st.integers(1, 3000),
)
def test_regions_stay_in_the_crop_and_hold_the_peak(
    seed: int, x_px: int, y_px: int, side_px: int
) -> None:
    crop = Box(x_px, y_px, side_px, side_px)
    evidence_hw = np.random.default_rng(seed).normal(0, 3, (7, 7)).astype(np.float32)
    heat = heat_map(evidence_hw, 224, Scale.PER_MAP)
    found, boxes = peak(heat, crop), [region.box for region in regions(heat, crop)]
    assert found is not None
    for box in boxes:
        assert crop.x_px <= box.x_px < box.x_px + box.width_px <= crop.x_px + side_px
        assert crop.y_px <= box.y_px < box.y_px + box.height_px <= crop.y_px + side_px
    assert any(
        box.x_px <= found.x_px <= box.x_px + box.width_px
        and box.y_px <= found.y_px <= box.y_px + box.height_px
        for box in boxes
    )


def test_a_map_of_another_method_is_stretched_to_its_highest() -> None:
    saliency_hw = np.zeros((64, 64), dtype=np.float32)
    saliency_hw[40, 10] = 0.2
    heat = from_saliency(saliency_hw)
    assert heat.values_hw.max() == 1
    assert not heat.in_logits
    found = peak(heat, Box(0, 0, 64, 64))
    assert found is not None
    assert (found.x_px, found.y_px) == (10.5, 40.5)
    assert from_saliency(np.zeros((8, 8), dtype=np.float32)).no_positive_evidence
