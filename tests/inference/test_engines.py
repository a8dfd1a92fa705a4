"""Every engine gives the scores of torchxrayvision's own forward pass."""

from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import closing
from pathlib import Path

import numpy as np
import pytest

from cxr_server.bundles.load import load_bundle
from cxr_server.inference.engines import Engine, SaliencyEngine
from cxr_server.inference.engines.registry import ENGINES, choose_engine
from cxr_server.inference.scoring import findings, logits
from cxr_server.inference.verify import verify_engine

pytestmark = pytest.mark.torch

COUNT = 3


@pytest.fixture(scope="module")
def images() -> np.ndarray:
    from random_models import random_images

    return random_images(COUNT, seed=7).numpy()


@pytest.fixture(scope="module")
def full_scores(full_densenet, images: np.ndarray) -> np.ndarray:
    """What `model(x)` of torchxrayvision returns, operating points included."""
    import torch

    from random_models import random_thresholds

    full_densenet.op_threshs = torch.tensor(random_thresholds(18))
    try:
        with torch.inference_mode():
            return full_densenet(torch.from_numpy(images)).numpy()
    finally:
        full_densenet.op_threshs = None


@pytest.fixture(scope="module")
def small_logits(small_densenet, images: np.ndarray) -> np.ndarray:
    import torch

    with torch.inference_mode():
        return small_densenet(torch.from_numpy(images)).numpy()


@pytest.fixture(scope="module", params=list(ENGINES))
def engine(request: pytest.FixtureRequest, phantom_like_bundle: Path) -> Iterator[Engine]:
    """Each engine on the CPU, with the small network."""
    engine = choose_engine(load_bundle(phantom_like_bundle), request.param, device="cpu")
    yield engine
    engine.close()


@pytest.fixture(scope="module")
def batching_engine(phantom_like_bundle: Path) -> Iterator[Engine]:
    """The torch engine with batches, which by default only CUDA has."""
    from cxr_server.inference.engines.torch.engine import TorchEngine

    engine = TorchEngine(load_bundle(phantom_like_bundle), batch_sizes=(1, 2, 4))
    yield engine
    engine.close()


def scores(engine: Engine, bundle: Path, images: np.ndarray) -> np.ndarray:
    manifest = load_bundle(bundle).manifest
    return np.array([[f.score for f in findings(e, manifest)] for e in engine.evidence(images)])


def logits_of(engine: Engine, bundle: Path, images: np.ndarray) -> np.ndarray:
    bias_k = load_bundle(bundle).manifest.bias
    return np.array([logits(evidence, bias_k) for evidence in engine.evidence(images)])


def test_the_reference_scores_vary(full_scores):
    """Otherwise a constant would pass the tests below."""
    assert full_scores.min() < 0.2
    assert full_scores.max() > 0.8
    assert full_scores.std(axis=0).mean() > 0.05


@pytest.mark.parametrize("name", list(ENGINES))
def test_full_size_scores_equal_torchxrayvisions(full_bundle, full_scores, images, name):
    engine = choose_engine(load_bundle(full_bundle), name, device="cpu")
    try:
        found = scores(engine, full_bundle, images)
    finally:
        engine.close()
    np.testing.assert_allclose(found, full_scores, atol=1e-4, rtol=0)


def test_the_mean_of_the_evidence_plus_the_bias_is_the_logit(
    engine, phantom_like_bundle, small_logits, images
):
    assert engine.evidence(images).shape == (COUNT, small_logits.shape[1], 7, 7)
    assert engine.evidence(images).dtype == np.float32
    found = logits_of(engine, phantom_like_bundle, images)
    np.testing.assert_allclose(found, small_logits, atol=2e-4, rtol=0)


def test_callers_in_many_threads_get_their_own_answers(engine, images):
    batch = np.concatenate([images, -images])
    expected = [engine.evidence(image[None])[0] for image in batch]
    order = list(np.random.default_rng(0).integers(0, len(batch), 60))
    with ThreadPoolExecutor(6) as pool:
        found = list(pool.map(lambda index: engine.evidence(batch[index][None])[0], order))
    for index, evidence in zip(order, found, strict=True):
        np.testing.assert_allclose(evidence, expected[index], atol=2e-3, rtol=1e-4)


@pytest.mark.parametrize("count", [2, 3, 5])
def test_the_evidence_of_an_image_does_not_depend_on_its_batch(batching_engine, images, count):
    batch = np.concatenate([images] * 2)[:count]
    alone = [batching_engine.evidence(image[None]) for image in batch]
    found = batching_engine.evidence(batch)
    np.testing.assert_allclose(found, np.concatenate(alone), atol=2e-3, rtol=1e-4)


def test_batches_are_padded_to_the_next_size_by_a_third_of_them_at_most():
    from cxr_server.inference.engines.torch.engine import CUDA_BATCH_SIZES
    from cxr_server.inference.engines.torch.runners import padded_size

    found = [padded_size(count, CUDA_BATCH_SIZES) for count in (1, 2, 3, 9, 17, 25, 33, 49, 64)]
    assert found == [1, 2, 4, 16, 24, 32, 48, 64, 64]
    sizes = [padded_size(count, CUDA_BATCH_SIZES) for count in range(17, 65)]
    assert max(size / count for size, count in zip(sizes, range(17, 65), strict=True)) < 1.5


def test_half_precision_stays_close_and_finite(phantom_like_bundle, small_logits, images):
    """The arithmetic of --precision float16, computed on the CPU."""
    from cxr_server.inference.engines.torch.engine import TorchEngine

    engine = TorchEngine(load_bundle(phantom_like_bundle), precision="float16")
    assert engine.precision == "float16"
    found = logits_of(engine, phantom_like_bundle, images)
    engine.close()
    np.testing.assert_allclose(1 / (1 + np.exp(-found)), 1 / (1 + np.exp(-small_logits)), atol=0.02)
    assert np.abs(found - small_logits).max() > 0, "nothing was computed in half precision"


def test_every_engine_computes_what_the_bundle_states(engine, phantom_like_bundle):
    assert engine.precision == "float32"
    assert verify_engine(engine, load_bundle(phantom_like_bundle)) < 1e-4


def test_only_the_torch_engine_offers_saliency_maps(engine):
    assert isinstance(engine, Engine)
    assert isinstance(engine, SaliencyEngine) == (engine.name == "torch")


@pytest.mark.gpu
def test_cuda_scores_equal_torchxrayvisions(full_bundle, full_scores, images):
    bundle = load_bundle(full_bundle)
    with closing(choose_engine(bundle, "torch", device="cuda:0")) as engine:
        assert engine.precision == "float32"
        np.testing.assert_allclose(scores(engine, full_bundle, images), full_scores, atol=1e-4)
        assert verify_engine(engine, bundle) < 1e-4


@pytest.mark.gpu
def test_cuda_scores_in_half_precision_are_close(full_bundle, full_scores, images):
    bundle = load_bundle(full_bundle)
    with closing(choose_engine(bundle, "torch", device="cuda:0", precision="float16")) as engine:
        assert engine.precision == "float16"
        np.testing.assert_allclose(scores(engine, full_bundle, images), full_scores, atol=0.02)


@pytest.mark.gpu
@pytest.mark.parametrize("method", ["GRAD_CAM_PLUS_PLUS", "LAYER_CAM", "EIGEN_CAM", "SCORE_CAM"])
def test_cuda_maps_equal_those_of_the_cpu(phantom_like_bundle, images, method):
    bundle = load_bundle(phantom_like_bundle)
    with closing(choose_engine(bundle, "torch", device="cpu")) as engine:
        expected = engine.saliency(images[0], 2, method)
    with closing(choose_engine(bundle, "torch", device="cuda:0")) as engine:
        np.testing.assert_allclose(engine.saliency(images[0], 2, method), expected, atol=5e-3)


@pytest.mark.gpu
def test_cuda_gives_every_batch_size_and_thread_its_own_answers(phantom_like_bundle, images):
    engine = choose_engine(load_bundle(phantom_like_bundle), "torch", device="cuda:0")
    expected = [engine.evidence(image[None])[0] for image in images]
    rng, most = np.random.default_rng(0), engine.max_batch + 1
    turns = [rng.integers(0, COUNT, count) for count in rng.integers(1, most, 80, endpoint=True)]
    with ThreadPoolExecutor(4) as pool:
        answers = pool.map(lambda turn: engine.evidence(images[turn]), turns)
        for turn, evidence in zip(turns, answers, strict=True):
            for row, image in zip(evidence, turn, strict=True):
                np.testing.assert_allclose(row, expected[image], atol=2e-3, rtol=1e-4)
    engine.close()
