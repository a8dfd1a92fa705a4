"""The saliency methods are pytorch-grad-cam's, on the rectified feature map."""

import sys
import threading
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import numpy as np
import pytest

from cxr_server.bundles.load import load_bundle
from cxr_server.errors import DeadlineExpired
from cxr_server.explanation.methods import ExplanationMethod, available
from cxr_server.inference.engines import SaliencyEngine
from cxr_server.inference.engines.registry import choose_engine

pytestmark = pytest.mark.torch

CLASSES = {
    "GRAD_CAM_PLUS_PLUS": "GradCAMPlusPlus",
    "LAYER_CAM": "LayerCAM",
    "EIGEN_CAM": "EigenCAM",
    "SCORE_CAM": "ScoreCAM",
}


@pytest.fixture(scope="module")
def engine(phantom_like_bundle: Path) -> Iterator[SaliencyEngine]:
    engine = choose_engine(load_bundle(phantom_like_bundle), "torch", device="cpu")
    assert isinstance(engine, SaliencyEngine)
    yield engine
    engine.close()


@pytest.fixture(scope="module")
def image() -> np.ndarray:
    from random_models import random_images

    return random_images(1, seed=3).numpy()[0]


@pytest.fixture(scope="module")
def plain_network(small_densenet):
    """torchxrayvision's network written out, with its last ReLU as a layer."""
    from torch import nn

    class Plain(nn.Module):
        def __init__(self, densenet):
            super().__init__()
            self.features, self.classifier = densenet.features, densenet.classifier
            self.relu = nn.ReLU()

        def forward(self, x):
            return self.classifier(self.relu(self.features(x)).mean((2, 3)))

    network = Plain(small_densenet).eval().requires_grad_(True)
    yield network
    network.requires_grad_(False)


def test_every_method_is_offered_where_pytorch_grad_cam_is_installed(engine):
    assert engine.saliency_methods == tuple(CLASSES)


def test_no_method_is_offered_where_pytorch_grad_cam_is_missing(phantom_like_bundle, monkeypatch):
    monkeypatch.setitem(sys.modules, "pytorch_grad_cam", None)
    engine = choose_engine(load_bundle(phantom_like_bundle), "torch", device="cpu")
    assert isinstance(engine, SaliencyEngine)
    assert engine.saliency_methods == ()
    assert available(engine) == (ExplanationMethod.GRAD_CAM,)
    engine.close()


def reference_of(method):
    """The class of pytorch-grad-cam; of EIGEN_CAM with a sign, which it leaves to chance."""
    import pytorch_grad_cam
    from pytorch_grad_cam.utils import svd_on_activations

    class Signed(pytorch_grad_cam.EigenCAM):
        def get_cam_image(self, _input, _layer, _targets, activations, *_):
            return svd_on_activations.get_2d_projection_with_sign_correction(activations)

    return Signed if method == "EIGEN_CAM" else getattr(pytorch_grad_cam, CLASSES[method])


@pytest.mark.parametrize("seed", range(5))
def test_the_map_of_eigen_cam_is_high_where_the_network_is_active(engine, plain_network, seed):
    import torch

    from random_models import random_images

    image_chw = random_images(1, seed=seed).numpy()[0]
    with torch.no_grad():
        features = plain_network.relu(plain_network.features(torch.from_numpy(image_chw[None])))
    active_hw = features[0].sum(0).numpy()
    step = 224 // len(active_hw)
    map_hw = engine.saliency(image_chw, 2, "EIGEN_CAM")[step // 2 :: step, step // 2 :: step]
    assert np.corrcoef(map_hw.ravel(), active_hw.ravel())[0, 1] > 0


@pytest.mark.parametrize("method", list(CLASSES))
def test_a_map_equals_pytorch_grad_cams_on_the_plain_network(
    engine, plain_network, image, method, capfd
):
    import torch

    with reference_of(method)(plain_network, [plain_network.relu]) as cam:
        expected = cam(torch.from_numpy(image[None]), targets=[lambda output: output[2]])[0]
    capfd.readouterr()
    found = engine.saliency(image, 2, method)
    assert found.shape == (224, 224)
    assert found.dtype == np.float32
    assert found.min() == 0
    assert found.max() == pytest.approx(1, abs=1e-3)
    assert capfd.readouterr() == ("", ""), "nothing may be printed into the server's log"
    np.testing.assert_allclose(found, expected, atol=5e-3)


def test_callers_in_many_threads_get_their_own_maps(engine, image):
    expected = [engine.saliency(image, row, "GRAD_CAM_PLUS_PLUS") for row in range(6)]
    assert not np.allclose(expected[0], expected[1], atol=0.05)
    with ThreadPoolExecutor(4) as pool:
        turns = [0, 1, 2, 3, 4, 5] * 3
        maps = pool.map(lambda row: engine.saliency(image, row, "GRAD_CAM_PLUS_PLUS"), turns)
        for row, found in zip(turns, maps, strict=True):
            np.testing.assert_allclose(found, expected[row], atol=1e-4)


def test_a_map_does_not_change_the_evidence(engine, image):
    before = engine.evidence(image[None])
    engine.saliency(image, 0, "LAYER_CAM")
    np.testing.assert_array_equal(engine.evidence(image[None]), before)


def test_a_map_whose_caller_has_gone_ends_with_its_next_forward_pass(engine, image):
    checks = []

    def check() -> None:
        checks.append(None)
        if len(checks) == 3:
            raise DeadlineExpired("gone")

    with pytest.raises(DeadlineExpired):
        engine.saliency(image, 0, "SCORE_CAM", check)
    assert len(checks) == 3
    assert engine.saliency(image, 0, "EIGEN_CAM").max() == pytest.approx(1, abs=1e-3)


def test_closing_the_engine_ends_a_map_in_the_making_and_refuses_others(
    phantom_like_bundle, image, monkeypatch
):
    from cxr_server.inference.engines.torch.network import EvidenceNet

    engine = choose_engine(load_bundle(phantom_like_bundle), "torch", device="cpu")
    begun, go_on = threading.Event(), threading.Event()
    features = EvidenceNet.features
    passes: list[object] = []

    def slow(net: EvidenceNet, image: object) -> object:
        passes.append(None)
        begun.set()
        assert go_on.wait(60)
        return features(net, image)

    monkeypatch.setattr(EvidenceNet, "features", slow)
    with ThreadPoolExecutor(2) as pool:
        score_cam = pool.submit(engine.saliency, image, 0, "SCORE_CAM")
        assert begun.wait(60)
        closing = pool.submit(engine.close)
        with pytest.raises(TimeoutError):
            closing.result(0.1)  # waits for the forward pass
        go_on.set()
        closing.result(60)
        with pytest.raises(RuntimeError, match="closed"):
            score_cam.result(60)
    assert len(passes) == 1  # of some fifty
    with pytest.raises(RuntimeError, match="closed"):
        engine.saliency(image, 0, "LAYER_CAM")


def test_a_map_of_logits_that_are_not_finite_is_an_error(engine, image):
    with pytest.raises(ArithmeticError, match="not finite"):
        engine.saliency(np.full_like(image, np.nan), 0, "LAYER_CAM")


@pytest.mark.parametrize(
    ("row", "method"), [(0, "GRAD_CAM"), (0, ""), (6, "LAYER_CAM"), (-1, "LAYER_CAM")]
)
def test_an_unknown_method_or_row_is_refused(engine, image, row, method):
    with pytest.raises(ValueError, match="no such"):
        engine.saliency(image, row, method)


def test_an_image_without_any_signal_gives_a_finite_map(engine):
    found = engine.saliency(np.zeros((1, 224, 224), np.float32), 0, "EIGEN_CAM")
    assert np.isfinite(found).all()
