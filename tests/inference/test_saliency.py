"""The further methods are pytorch-grad-cam's own, on the rectified map."""

from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import numpy as np
import pytest
import torch
from torch import nn

from cxr_server.bundles.load import load_bundle
from cxr_server.inference.engines.torch.engine import TorchEngine
from cxr_server.inference.engines.torch.saliency import METHODS
from random_models import random_images


@pytest.fixture(scope="module")
def engine(phantom_like_bundle: Path):
    engine = TorchEngine(load_bundle(phantom_like_bundle))
    yield engine
    engine.close()


@pytest.fixture(scope="module")
def image() -> np.ndarray:
    return random_images(1, seed=3).numpy()[0]


class Plain(nn.Module):
    """torchxrayvision's network written out, with its last ReLU as a layer."""

    def __init__(self, densenet: nn.Module) -> None:
        super().__init__()
        self.features, self.classifier = densenet.features, densenet.classifier
        self.relu = nn.ReLU()

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return self.classifier(self.relu(self.features(x)).mean((2, 3)))


@pytest.mark.parametrize("method", METHODS)
def test_a_map_equals_pytorch_grad_cams_on_the_plain_network(
    engine, small_densenet, image, method, capfd
):
    import pytorch_grad_cam as pgc

    names = ("GradCAMPlusPlus", "LayerCAM", "EigenCAM", "ScoreCAM")
    net = Plain(small_densenet).eval().requires_grad_(True)
    try:
        with getattr(pgc, names[METHODS.index(method)])(net, [net.relu]) as cam:
            target = [lambda output: output[2]]
            expected = cam(input_tensor=torch.from_numpy(image[None]), targets=target)[0]
    finally:
        net.requires_grad_(False)
    capfd.readouterr()
    found = engine.saliency(image, 2, method)
    assert found.shape == (224, 224)
    assert found.dtype == np.float32
    assert found.min() == 0
    assert found.max() == pytest.approx(1, abs=1e-3)
    assert capfd.readouterr() == ("", ""), "it must not write into the server's log"
    np.testing.assert_allclose(found, expected, atol=5e-3)


def test_maps_of_several_threads_do_not_mix(engine, image):
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


@pytest.mark.parametrize(
    ("row", "method"), [(0, "GRAD_CAM"), (0, ""), (6, "LAYER_CAM"), (-1, "LAYER_CAM")]
)
def test_what_is_not_there_is_refused(engine, image, row, method):
    with pytest.raises(ValueError, match="no such"):
        engine.saliency(image, row, method)


def test_an_image_without_any_signal_gives_a_finite_map(engine):
    found = engine.saliency(np.zeros((1, 224, 224), np.float32), 0, "EIGEN_CAM")
    assert np.isfinite(found).all()
