"""The OpenVINO engine alone, on the shipped phantom model. Needs no torch."""

import os
import subprocess
import sys
import threading
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from pathlib import Path

import msgspec
import numpy as np
import pytest

from cxr_server.bundles.load import Bundle, BundleError
from cxr_server.inference.engines import Interrupted, InterruptibleEngine
from cxr_server.inference.engines.cores import usable_cores
from cxr_server.inference.engines.cpu import openvino_capabilities
from cxr_server.inference.engines.openvino import OpenVINOEngine
from cxr_server.inference.engines.openvino_cache import opened

COUNT = 3


@pytest.fixture(scope="module")
def images(phantom_bundle: Bundle) -> np.ndarray:
    """Noise in patches, in [-1024, 1024]."""
    side_px = phantom_bundle.manifest.input_side_px
    cells = np.random.default_rng(7).uniform(-1024, 1024, (COUNT, 1, 8, 8))
    return np.kron(cells, np.ones((side_px // 8, side_px // 8))).astype(np.float32)


@pytest.fixture(scope="module")
def engine(
    phantom_bundle: Bundle, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[OpenVINOEngine]:
    cache_dir = tmp_path_factory.mktemp("cache")
    engine = OpenVINOEngine(phantom_bundle, cache_dir=cache_dir, threads=2)
    yield engine
    engine.close()


@pytest.fixture(scope="module")
def expected(engine: OpenVINOEngine, images: np.ndarray) -> np.ndarray:
    return engine.evidence(images)


def test_evidence_has_a_map_for_every_finding(phantom_bundle, expected):
    manifest = phantom_bundle.manifest
    side = manifest.evidence_side
    assert expected.shape == (COUNT, len(manifest.labels), side, side)
    assert expected.dtype == np.float32
    assert np.isfinite(expected).all()
    assert np.abs(expected[0] - expected[1]).max() > 0.1, "the images must be told apart"


def test_an_interrupt_ends_what_may_be_interrupted_and_nothing_else(engine, images, expected):
    assert isinstance(engine, InterruptibleEngine)

    def until_interrupted() -> str:
        try:
            while True:
                found = engine.infer_interruptibly([images[0]]).evidence_nkhw
                np.testing.assert_allclose(found[0], expected[0], atol=2e-3, rtol=1e-4)
        except Interrupted:
            return "interrupted"

    with ThreadPoolExecutor(1) as pool:
        for _ in range(3):
            end = pool.submit(until_interrupted)
            while not end.done():
                engine.interrupt()
                found = engine.infer([images[1]]).evidence_nkhw
                np.testing.assert_allclose(found[0], expected[1], atol=2e-3, rtol=1e-4)
            assert end.result() == "interrupted"


def test_callers_in_many_threads_get_their_own_answers(engine, images, expected):
    order = np.random.default_rng(0).integers(0, COUNT, 60)
    with ThreadPoolExecutor(6) as pool:
        found = list(pool.map(lambda index: engine.evidence(images[index][None])[0], order))
    np.testing.assert_allclose(np.stack(found), expected[order], atol=2e-3, rtol=1e-4)


def test_calls_that_begin_together_get_their_own_answers(engine, images, expected):
    for _ in range(5):
        barrier = threading.Barrier(COUNT)

        def call(index: int, barrier: threading.Barrier = barrier) -> np.ndarray:
            barrier.wait(20)
            return engine.evidence(images[index][None])[0]

        with ThreadPoolExecutor(COUNT) as pool:
            found = np.stack(list(pool.map(call, range(COUNT))))
        np.testing.assert_allclose(found, expected, atol=2e-3, rtol=1e-4)


def test_later_calls_change_neither_answers_nor_images(engine, images):
    given = images[:1].copy()
    first = engine.evidence(given)
    kept = first.copy()
    engine.evidence(images[1:2])
    np.testing.assert_array_equal(first, kept)
    np.testing.assert_array_equal(given, images[:1])


def test_an_image_may_be_overwritten_after_its_call(engine, images, expected):
    image = images[:1].copy()
    engine.evidence(image)
    image[...] = 0
    np.testing.assert_array_equal(engine.evidence(images[:1]), expected[:1])


def test_images_of_other_dtypes_and_layouts_give_the_same_evidence(engine, images, expected):
    found = engine.evidence(np.asfortranarray(images.astype(np.float64)))
    np.testing.assert_allclose(found, expected, atol=1e-5)
    read_only = images.copy()
    read_only.flags.writeable = False
    np.testing.assert_allclose(engine.evidence(read_only), expected, atol=1e-5)


@pytest.mark.parametrize("shape", [(1, 1, 112, 448), (1, 1, 7, 9), (1, 3, 224, 224)])
def test_a_wrong_shape_is_refused_and_the_next_call_works(engine, images, expected, shape):
    with pytest.raises(ValueError, match=str(shape[-1])):
        engine.evidence(np.zeros(shape, np.float32))
    np.testing.assert_array_equal(engine.evidence(images[:1]), expected[:1])


@pytest.mark.parametrize("device", ["CPU", "AUTO", "HETERO:CPU"])
def test_the_precision_in_force_is_told_and_is_float32(phantom_bundle, device):
    """CPUs with bfloat16 would use it otherwise."""
    engine = OpenVINOEngine(phantom_bundle, device=device, threads=1)
    assert engine.precision == "float32"
    engine.close()


def test_bfloat16_differs_by_little_and_is_told_where_the_cpu_has_it(
    phantom_bundle, images, expected, tmp_path
):
    """Elsewhere OpenVINO computes in float32. Both are compiled into one cache, then read."""
    has_it = "BF16" in openvino_capabilities()
    for _ in range(2):
        for precision in ("float32", "bfloat16"):
            engine = OpenVINOEngine(
                phantom_bundle, precision=precision, cache_dir=tmp_path, threads=1
            )
            assert engine.precision == (precision if has_it else "float32")
            found = engine.evidence(images)
            spread = np.corrcoef(found.ravel(), expected.ravel())[0, 1]
            is_exact = np.allclose(found, expected, atol=2e-3, rtol=1e-4)
            assert is_exact == (engine.precision == "float32")
            assert spread > 0.999
            engine.close()


def test_one_core_gives_the_evidence_of_two(phantom_bundle, images, expected):
    engine = OpenVINOEngine(phantom_bundle, threads=1)
    assert engine.max_in_flight == 1
    np.testing.assert_allclose(engine.evidence(images), expected, atol=2e-3, rtol=1e-4)
    engine.close()


def test_a_closed_engine_can_be_replaced(phantom_bundle, images):
    for _ in range(2):
        engine = OpenVINOEngine(phantom_bundle, threads=1)
        assert np.isfinite(engine.evidence(images)).all()
        engine.close()


def test_the_compiled_model_is_cached_by_content(phantom_bundle, tmp_path):
    OpenVINOEngine(phantom_bundle, cache_dir=tmp_path).close()
    blobs = {path: path.stat().st_mtime_ns for path in tmp_path.rglob("*.blob")}
    assert blobs
    OpenVINOEngine(phantom_bundle, cache_dir=tmp_path).close()
    assert {path: path.stat().st_mtime_ns for path in tmp_path.rglob("*.blob")} == blobs
    digest = phantom_bundle.manifest.files["openvino/model.xml"].sha256[:16]
    assert all(digest in str(path) for path in blobs)


@pytest.mark.parametrize("name", ["openvino/model.xml", "openvino/model.bin"])
def test_a_bundle_without_a_file_of_the_model_is_refused_by_name(phantom_bundle, tmp_path, name):
    files = {key: entry for key, entry in phantom_bundle.manifest.files.items() if key != name}
    manifest = msgspec.structs.replace(phantom_bundle.manifest, files=files)
    with pytest.raises(BundleError, match=f"has no {name}"):
        OpenVINOEngine(replace(phantom_bundle, manifest=manifest), cache_dir=tmp_path)


@pytest.mark.parametrize("damage", ["flip", "cut", "empty", "unsealed"])
def test_a_damaged_cache_is_discarded_and_changes_no_score(
    phantom_bundle, tmp_path, images, damage
):
    """OpenVINO itself reads a cached model with changed weights without an error."""
    engine = OpenVINOEngine(phantom_bundle, cache_dir=tmp_path, threads=1)
    expected = engine.evidence(images[:1])
    engine.close()
    (blob,) = tmp_path.rglob("*.blob")
    good = blob.read_bytes()
    flipped = bytearray(good)
    for offset in range(len(good) // 4, len(good), 1000):
        flipped[offset] ^= 0x40
    content = {"cut": good[: len(good) // 2], "empty": b""}.get(damage, bytes(flipped))
    blob.unlink()
    blob.write_bytes(content)
    if damage == "unsealed":
        blob.with_suffix(".sha256").unlink()
    engine = OpenVINOEngine(phantom_bundle, cache_dir=tmp_path, threads=1)
    np.testing.assert_array_equal(engine.evidence(images[:1]), expected)
    engine.close()
    assert blob.read_bytes() != content, "the model must be compiled and cached again"


def test_a_cache_is_open_to_one_process_at_a_time(tmp_path):
    folder = tmp_path / "cache"
    with opened(folder) as first, opened(folder, timeout_s=0.05) as second:
        assert (first, second) == (folder, None), "the second goes without"
    with opened(folder, timeout_s=0.05) as third:
        assert third == folder


@pytest.mark.slow
def test_processes_that_start_together_share_an_empty_cache(phantom_bundle, tmp_path):
    """OpenVINO maps files that are still being written: one of such processes ended by SIGBUS."""
    program = """if True:
        import os, sys
        from pathlib import Path
        from cxr_server.bundles.load import load_bundle
        from cxr_server.inference.engines.openvino import OpenVINOEngine
        bundle = load_bundle(Path(sys.argv[1]))
        print("ready", flush=True)
        sys.stdin.readline()
        OpenVINOEngine(bundle, cache_dir=Path(sys.argv[2]), threads=2)
        print("loaded", flush=True)
        os._exit(0)
    """
    for turn in range(5):
        folder = tmp_path / str(turn)
        command = [sys.executable, "-c", program, str(phantom_bundle.path), str(folder)]
        pipes = {"stdin": subprocess.PIPE, "stdout": subprocess.PIPE}
        together = [subprocess.Popen(command, text=True, **pipes) for _ in range(3)]
        for each in together:
            assert each.stdout.readline() == "ready\n"
        ends = [each.communicate("go\n", timeout=120)[0] for each in together]
        assert ends == ["loaded\n"] * 3


def test_a_cache_folder_that_cannot_be_created_is_not_needed(phantom_bundle, tmp_path, images):
    (tmp_path / "file").write_text("not a folder")
    engine = OpenVINOEngine(phantom_bundle, cache_dir=tmp_path / "file", threads=1)
    assert np.isfinite(engine.evidence(images)).all()
    engine.close()


def test_openvino_loads_no_torch_telemetry_or_image_libraries_and_prints_nothing(phantom_bundle):
    code = f"""
import sys
from pathlib import Path
import numpy as np
from cxr_server.bundles.load import load_bundle
from cxr_server.inference.engines.registry import choose_engine
bundle = load_bundle(Path({str(phantom_bundle.path)!r}))
engine = choose_engine(bundle, "openvino")
side_px = bundle.manifest.input_side_px
assert engine.evidence(np.zeros((1, 1, side_px, side_px), np.float32)).any()
engine.close()
heavy = ("torch", "torchvision", "torchxrayvision", "pandas", "skimage", "safetensors", "scipy")
loaded = [n for n in (*heavy, "openvino_telemetry", "openvino.tools.ovc") if sys.modules.get(n)]
assert not loaded, loaded
"""
    result = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True)
    assert (result.returncode, result.stdout, result.stderr) == (0, "", "")


def test_the_first_calls_of_a_process_may_come_at_once(phantom_bundle):
    code = f"""
import sys
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from threading import Barrier
import numpy as np
from cxr_server.bundles.load import load_bundle
from cxr_server.inference.engines.registry import choose_engine
engine = choose_engine(load_bundle(Path({str(phantom_bundle.path)!r})), "openvino")
image = np.zeros((1, 1, 224, 224), np.float32)
together = Barrier(4)
def call(_):
    together.wait()
    return engine.evidence(image)
sys.setswitchinterval(1e-6)
with ThreadPoolExecutor(4) as pool:
    assert len(list(pool.map(call, range(4)))) == 4
engine.close()
"""
    command = [sys.executable, "-c", code]
    result = subprocess.run(command, capture_output=True, text=True, timeout=120)
    assert (result.returncode, result.stderr) == (0, "")


def test_a_cgroup_quota_limits_the_cores(tmp_path: Path):
    available = len(os.sched_getaffinity(0))
    assert usable_cores(tmp_path) == available
    for text, cores in {
        "100000 100000\n": 1,
        "50000 100000\n": 1,
        "max 100000\n": available,
        "nonsense": available,
    }.items():
        (tmp_path / "cpu.max").write_text(text)
        assert usable_cores(tmp_path) == cores
