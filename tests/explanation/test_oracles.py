"""Heat maps and colours equal those of the libraries that define them."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from cxr_server.explanation.colormaps import ColorMap, colors
from cxr_server.explanation.heatmap import enlarge, from_evidence
from cxr_server.explanation.options import MIN_SCALE_LOGITS

pytestmark = pytest.mark.torch  # pytorch-grad-cam, which brings OpenCV and matplotlib


@pytest.fixture(scope="module")
def network() -> tuple:
    """A small random network of torchxrayvision, its rectified map a module of its own."""
    import torch
    import torchxrayvision

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
    torch.nn.init.normal_(densenet.classifier.weight, 0, 20)
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
    image_nchw = torch.from_numpy(np.random.default_rng(11).uniform(-1024, 1024, (1, 1, 224, 224)))
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
    import pytorch_grad_cam
    from pytorch_grad_cam.utils.model_targets import ClassifierOutputTarget

    wrapped, image_nchw, evidence_khw, _ = network
    spread = 0.0
    with getattr(pytorch_grad_cam, method)(wrapped, [wrapped.rectified]) as explainer:
        for row in range(len(evidence_khw)):
            target = ClassifierOutputTarget(row)
            expected_hw = explainer(image_nchw, [target])[0]
            evidence_hw = evidence_khw[row].astype(np.float32)
            strongest = np.ptp(np.maximum(evidence_hw, 0))
            assert strongest == 0 or strongest > MIN_SCALE_LOGITS  # else it is drawn pale
            heat = from_evidence(evidence_hw, 224)
            assert np.abs(heat.values_hw - expected_hw).max() < 1e-5
            spread = max(spread, float(expected_hw.std()))
    # At least one of the maps must be a map, or nothing was compared.
    assert spread > 0.1


@settings(max_examples=50, deadline=None)
@given(side=st.integers(1, 16), side_px=st.integers(16, 300), seed=st.integers(0, 99))
def test_enlarging_equals_opencv(side: int, side_px: int, seed: int) -> None:
    import cv2

    values_hw = np.random.default_rng(seed).random((side, side))
    expected = cv2.resize(values_hw.astype(np.float32), (side_px, side_px))
    assert np.abs(enlarge(values_hw, side_px) - expected).max() < 1e-5


@pytest.mark.parametrize("color_map", [ColorMap.INFERNO, ColorMap.VIRIDIS, ColorMap.GRAY])
def test_colours_are_those_of_matplotlib(color_map: ColorMap) -> None:
    import matplotlib

    expected = matplotlib.colormaps[color_map.lower()](np.arange(256))[:, :3] * 255
    assert np.array_equal(colors(color_map), np.rint(expected))


def test_jet_is_the_one_of_opencv() -> None:
    import cv2

    levels = np.arange(256, dtype=np.uint8)[:, None]
    expected = cv2.applyColorMap(levels, cv2.COLORMAP_JET)[:, 0, ::-1]
    assert np.abs(colors(ColorMap.JET).astype(int) - expected).max() <= 1
