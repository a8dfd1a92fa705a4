"""Every engine gives the scores of torchxrayvision's own forward pass."""

import os
import subprocess
import sys
import threading
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import numpy as np
import pytest
import torch
from torch import nn

from cxr_server.bundles.load import load_bundle
from cxr_server.inference.engines import Engine
from cxr_server.inference.engines.cores import usable_cores
from cxr_server.inference.engines.openvino import OpenVINOEngine
from cxr_server.inference.engines.registry import choose_engine
from cxr_server.inference.engines.torch.engine import TorchEngine, padded
from cxr_server.inference.scoring import findings, logits, readout
from random_models import random_images, random_thresholds

ROOT = Path(__file__).parents[2]
COUNT = 3


@pytest.fixture(scope="module")
def images() -> np.ndarray:
    return random_images(COUNT, seed=7).numpy()


@pytest.fixture(scope="module")
def full_scores(full_densenet: nn.Module, images: np.ndarray) -> np.ndarray:
    """What `model(x)` of torchxrayvision returns, operating points and all."""
    full_densenet.op_threshs = torch.tensor(random_thresholds(18))
    try:
        with torch.inference_mode():
            return full_densenet(torch.from_numpy(images)).numpy()
    finally:
        full_densenet.op_threshs = None


@pytest.fixture(scope="module")
def small_logits(small_densenet: nn.Module, images: np.ndarray) -> np.ndarray:
    with torch.inference_mode():
        return small_densenet(torch.from_numpy(images)).numpy()


def scores(engine: Engine, bundle: Path, images: np.ndarray) -> np.ndarray:
    read = readout(load_bundle(bundle).manifest)
    return np.array([[f.score for f in findings(e, read)] for e in engine.evidence(images)])


def test_the_reference_spreads_its_scores(full_scores):
    """Without this, a constant would pass the tests below."""
    assert full_scores.min() < 0.2
    assert full_scores.max() > 0.8
    assert full_scores.std(axis=0).mean() > 0.05


@pytest.mark.parametrize("name", ["openvino", "torch"])
def test_full_size_scores_equal_torchxrayvisions(full_bundle, full_scores, images, name):
    engine = choose_engine(load_bundle(full_bundle), name, device={"torch": "cpu"}.get(name))
    try:
        found = scores(engine, full_bundle, images)
    finally:
        engine.close()
    np.testing.assert_allclose(found, full_scores, atol=1e-4, rtol=0)


@pytest.fixture(scope="module")
def openvino_engine(phantom_like_bundle: Path, tmp_path_factory: pytest.TempPathFactory):
    cache = tmp_path_factory.mktemp("cache")
    engine = OpenVINOEngine(load_bundle(phantom_like_bundle), cache_dir=cache, threads=2)
    yield engine
    engine.close()


@pytest.fixture(scope="module")
def torch_engine(phantom_like_bundle: Path):
    engine = TorchEngine(load_bundle(phantom_like_bundle), batch_sizes=(1, 2, 4))
    yield engine
    engine.close()


def small_found(engine: Engine, bundle: Path, images: np.ndarray) -> np.ndarray:
    read = readout(load_bundle(bundle).manifest)
    return np.array([logits(evidence, read) for evidence in engine.evidence(images)])


def test_evidence_has_the_grid_and_the_mean_that_it_should(
    openvino_engine, phantom_like_bundle, small_logits, images
):
    assert openvino_engine.evidence(images).shape == (COUNT, 6, 7, 7)
    assert openvino_engine.evidence(images).dtype == np.float32
    found = small_found(openvino_engine, phantom_like_bundle, images)
    np.testing.assert_allclose(found, small_logits, atol=2e-4, rtol=0)


@pytest.mark.parametrize("count", [2, 3, 5])
def test_padding_changes_no_image_whatever_the_batch(torch_engine, images, count):
    batch = np.concatenate([images] * 2)[:count]
    alone = np.concatenate([torch_engine.evidence(image[None]) for image in images] * 2)[:count]
    assert torch_engine.evidence(batch).shape == alone.shape
    np.testing.assert_allclose(torch_engine.evidence(batch), alone, atol=2e-3, rtol=1e-4)


def test_batches_are_padded_to_the_next_size():
    sizes = (1, 2, 4, 8)
    lengths = {n: len(padded(np.ones((n, 1, 2, 2), np.float32), sizes)) for n in range(1, 9)}
    assert lengths == {1: 1, 2: 2, 3: 4, 4: 4, 5: 8, 6: 8, 7: 8, 8: 8}
    batch = padded(np.ones((3, 1, 2, 2), np.float32), sizes)
    assert batch[:3].all()
    assert not batch[3:].any()


def test_the_folded_network_equals_the_plain_one(
    torch_engine, phantom_like_bundle, small_logits, images
):
    found = small_found(torch_engine, phantom_like_bundle, images)
    np.testing.assert_allclose(found, small_logits, atol=2e-4, rtol=0)


def test_half_precision_stays_close_and_finite(phantom_like_bundle, small_logits, images):
    """The GPU's arithmetic, tried on the CPU."""
    engine = TorchEngine(load_bundle(phantom_like_bundle), half=True)
    found = small_found(engine, phantom_like_bundle, images)
    np.testing.assert_allclose(1 / (1 + np.exp(-found)), 1 / (1 + np.exp(-small_logits)), atol=0.02)
    assert np.abs(found - small_logits).max() > 0, "nothing was computed in half precision"


@pytest.mark.parametrize("name", ["openvino", "torch"])
def test_callers_in_many_threads_get_their_own_answers(request, images, name):
    engine = request.getfixturevalue(f"{name}_engine")
    batch = np.concatenate([images, -images])
    expected = [engine.evidence(image[None]) for image in batch]
    turns = list(np.random.default_rng(0).integers(0, len(batch), 60))
    with ThreadPoolExecutor(6) as pool:
        found = list(pool.map(lambda turn: engine.evidence(batch[turn][None]), turns))
    for turn, evidence in zip(turns, found, strict=True):
        np.testing.assert_allclose(evidence, expected[turn], atol=2e-3, rtol=1e-4)


def test_answers_are_not_views_of_memory_that_the_next_call_overwrites(openvino_engine, images):
    first = openvino_engine.evidence(images[:1])
    copy = first.copy()
    openvino_engine.evidence(images[1:2])
    np.testing.assert_array_equal(first, copy)


def test_an_image_of_another_shape_is_refused_even_of_as_many_bytes(openvino_engine):
    with pytest.raises(ValueError, match="112"):
        openvino_engine.evidence(np.zeros((1, 1, 112, 448), np.float32))


def test_images_of_other_types_and_layouts_are_taken_for_what_they_are(openvino_engine, images):
    expected = openvino_engine.evidence(images)
    turned = np.asfortranarray(images.astype(np.float64))
    np.testing.assert_allclose(openvino_engine.evidence(turned), expected, atol=1e-5)


def test_a_call_beside_another_takes_a_lane_and_a_lone_call_all_cores(
    openvino_engine, images, monkeypatch
):
    taken, entered, go_on = [], threading.Event(), threading.Event()
    monkeypatch.setattr(openvino_engine, "_company", False)
    monkeypatch.setattr("cxr_server.inference.engines.openvino.MOMENT_S", 60.0)
    for mode in ("_alone", "_lane"):
        compiled = getattr(openvino_engine, mode)

        class Spy:
            def __init__(self, mode, compiled):
                self.mode, self.compiled = mode, compiled

            def infer(self, image):
                taken.append(self.mode)
                if len(taken) == 1:
                    entered.set()
                    assert go_on.wait(20)
                return self.compiled.infer(image)

        monkeypatch.setattr(openvino_engine, mode, Spy(mode, compiled))
    with ThreadPoolExecutor(1) as pool:
        first = pool.submit(openvino_engine.evidence, images[:1])
        assert entered.wait(20)
        openvino_engine.evidence(images[:1])
        go_on.set()
        first.result()
    for _ in range(2):  # the first of them may follow two calls that ended together
        openvino_engine.evidence(images[:1])
    assert taken == ["_alone", "_lane", "_lane", "_alone"]
    openvino_engine._company = True
    monkeypatch.setattr("cxr_server.inference.engines.openvino.MOMENT_S", 0.0)
    openvino_engine.evidence(images[:1])  # company long ago
    assert taken[4:] == ["_alone"]


def test_a_failed_call_leaves_the_engine_idle_again(openvino_engine, images):
    with pytest.raises(Exception, match=r"."):
        openvino_engine.evidence(np.zeros((1, 1, 7, 9), np.float32))
    assert openvino_engine._running == 0
    assert np.isfinite(openvino_engine.evidence(images)).all()


def test_full_precision_is_asked_for_by_name(openvino_engine):
    for compiled in (openvino_engine._alone, openvino_engine._lane):
        model = compiled._model
        assert model.get_property("INFERENCE_PRECISION_HINT").get_type_name() == "f32"
    assert openvino_engine._alone._model.get_property("NUM_STREAMS") == 1
    assert openvino_engine._lane._model.get_property("NUM_STREAMS") == 2


@pytest.mark.skipif(
    not Path("/proc/self/schedstat").exists(), reason="only Linux tells threads apart so"
)
def test_the_engines_threads_stand_back_for_the_servers_others(phantom_like_bundle):
    code = f"""
import os
import sys
import numpy as np
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from pathlib import Path
from cxr_server.bundles.load import load_bundle
from cxr_server.inference.engines.openvino import STAND_BACK, OpenVINOEngine

def niceness_and_run_ns():
    found = []
    for name in os.listdir("/proc/self/task"):
        with suppress(OSError):  # a thread that has ended meanwhile
            run_ns = int(Path(f"/proc/self/task/{{name}}/schedstat").read_text().split()[0])
            found.append((os.getpriority(os.PRIO_PROCESS, int(name)), run_ns))
    return found

usual = os.getpriority(os.PRIO_PROCESS, 0)
nicer = min(usual + STAND_BACK, 19)
engine = OpenVINOEngine(load_bundle(Path({str(phantom_like_bundle)!r})), threads=2)
image = np.zeros((1, 1, 224, 224), np.float32)
with ThreadPoolExecutor(4) as callers:
    before = niceness_and_run_ns()
    list(callers.map(engine.evidence, [image] * 200))
    after = niceness_and_run_ns()
assert os.getpriority(os.PRIO_PROCESS, 0) == usual
ran = {{nice: sum(ns for n, ns in after if n == nice) - sum(ns for n, ns in before if n == nice)
       for nice, _ in after}}
assert set(ran) == {{usual, nicer}}, ran
assert ran[nicer] > ran[usual], ran
"""
    subprocess.run([sys.executable, "-c", code], check=True, timeout=120)


def test_the_compiled_model_is_cached_by_content(phantom_like_bundle, tmp_path):
    bundle = load_bundle(phantom_like_bundle)
    OpenVINOEngine(bundle, cache_dir=tmp_path).close()
    blobs = {path: path.stat().st_mtime_ns for path in tmp_path.rglob("*.blob")}
    assert blobs
    OpenVINOEngine(bundle, cache_dir=tmp_path).close()
    assert {path: path.stat().st_mtime_ns for path in tmp_path.rglob("*.blob")} == blobs
    digest = bundle.manifest.files["openvino/model.xml"].sha256[:16]
    assert all(digest in str(path) for path in blobs)


@pytest.mark.parametrize("damage", ["flip", "cut", "empty", "unsealed"])
def test_a_damaged_cache_is_thrown_away_and_changes_no_score(
    phantom_like_bundle, tmp_path, images, damage
):
    """OpenVINO by itself reads a cached model with a changed weight as if nothing were."""
    bundle = load_bundle(phantom_like_bundle)
    engine = OpenVINOEngine(bundle, cache_dir=tmp_path, threads=1)
    expected = engine.evidence(images[:1])
    engine.close()
    (blob,) = tmp_path.rglob("*.blob")
    good = blob.read_bytes()
    flipped = bytearray(good)
    for offset in range(len(good) // 4, len(good), 1000):
        flipped[offset] ^= 0x40
    content = {"flip": bytes(flipped), "cut": good[: len(good) // 2], "empty": b""}
    blob.unlink()
    blob.write_bytes(content.get(damage, bytes(flipped)))
    if damage == "unsealed":
        blob.with_suffix(".sha256").unlink()
    engine = OpenVINOEngine(bundle, cache_dir=tmp_path, threads=1)
    np.testing.assert_array_equal(engine.evidence(images[:1]), expected)
    assert len(blob.read_bytes()) == len(good), "it was written anew"


def test_a_cache_that_cannot_be_written_is_done_without(phantom_like_bundle, tmp_path, images):
    (tmp_path / "file").write_text("in the way")
    engine = OpenVINOEngine(load_bundle(phantom_like_bundle), cache_dir=tmp_path / "file")
    assert np.isfinite(engine.evidence(images)).all()


def test_openvino_serves_without_torch_telemetry_or_the_image_libraries(phantom_like_bundle):
    """And prints nothing: the server's output is its own."""
    code = f"""
import sys
from pathlib import Path
import numpy as np
from cxr_server.bundles.load import load_bundle
from cxr_server.inference.scoring import readout
from cxr_server.inference.engines.registry import choose_engine
bundle = load_bundle(Path({str(phantom_like_bundle)!r}))
engine = choose_engine(bundle, "openvino")
readout(bundle.manifest)
assert engine.evidence(np.zeros((1, 1, 224, 224), np.float32)).shape == (1, 6, 7, 7)
engine.close()
heavy = ("torch", "torchvision", "torchxrayvision", "pandas", "skimage", "safetensors", "pickle5")
loaded = [n for n in (*heavy, "openvino_telemetry", "openvino.tools.ovc") if sys.modules.get(n)]
assert not loaded, loaded
"""
    env = os.environ | {"PYTHONPATH": os.pathsep.join([str(ROOT / "client"), str(ROOT / "server")])}
    result = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, env=env)
    assert (result.returncode, result.stdout, result.stderr) == (0, "", "")


def test_a_containers_quota_bounds_the_cores(tmp_path):
    assert usable_cores(tmp_path) == len(os.sched_getaffinity(0))
    (tmp_path / "cpu.max").write_text("100000 100000\n")
    assert usable_cores(tmp_path) == 1
    (tmp_path / "cpu.max").write_text("50000 100000\n")
    assert usable_cores(tmp_path) == 1
    (tmp_path / "cpu.max").write_text("max 100000\n")
    assert usable_cores(tmp_path) == len(os.sched_getaffinity(0))
    (tmp_path / "cpu.max").write_text("nonsense")
    assert usable_cores(tmp_path) == len(os.sched_getaffinity(0))


@pytest.mark.gpu
def test_cuda_scores_are_close_to_torchxrayvisions(full_bundle, full_scores, images):
    engine = choose_engine(load_bundle(full_bundle), "torch", device="cuda:0")
    np.testing.assert_allclose(scores(engine, full_bundle, images), full_scores, atol=0.02)
    engine.close()


@pytest.mark.gpu
def test_cuda_gives_every_batch_size_and_thread_its_own_answers(phantom_like_bundle, images):
    engine = TorchEngine(load_bundle(phantom_like_bundle), device="cuda:0")
    expected = [engine.evidence(image[None])[0] for image in images]
    turns = np.random.default_rng(0).integers(0, COUNT, (40, 33))
    with ThreadPoolExecutor(4) as pool:
        answers = pool.map(lambda turn: engine.evidence(images[turn[: 1 + turn.sum() % 33]]), turns)
        for turn, evidence in zip(turns, answers, strict=True):
            for row, image in zip(evidence, turn, strict=False):
                np.testing.assert_allclose(row, expected[image], atol=0.5, rtol=0.02)
    engine.close()
