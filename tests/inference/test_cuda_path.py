"""The CUDA half of the torch engine on a fake torch.cuda: its order of calls, not its numbers."""

import threading
import tracemalloc
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import closing
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from cxr_server.bundles.load import Bundle, load_bundle
from cxr_server.inference.engines import DeviceLost

pytestmark = pytest.mark.torch

SIZES = (1, 2, 4)


@pytest.fixture(scope="module")
def bundle(phantom_like_bundle: Path) -> Bundle:
    return load_bundle(phantom_like_bundle)


@pytest.fixture(scope="module")
def images() -> np.ndarray:
    from random_models import random_images

    return random_images(9, seed=11).numpy()


@pytest.fixture
def on_cuda(bundle: Bundle, monkeypatch: pytest.MonkeyPatch) -> Iterator[Callable[..., Any]]:
    """Starts the engine on "cuda:0" of a fake torch.cuda; torch's settings are put back."""
    import torch

    from cxr_server.inference.engines.torch.engine import TorchEngine
    from gpu_check import fakes

    fakes.install(monkeypatch.setattr)
    threads = torch.get_num_threads()
    torch.backends.cudnn.conv.fp32_precision = "tf32"  # torch's default for convolutions
    yield lambda **options: TorchEngine(bundle, device="cuda:0", batch_sizes=SIZES, **options)
    torch.set_num_threads(threads)


@pytest.fixture(scope="module")
def expected(bundle: Bundle, images: np.ndarray) -> np.ndarray:
    from cxr_server.inference.engines.torch.engine import TorchEngine

    with closing(TorchEngine(bundle)) as engine:
        return engine.evidence(images)


def test_float32_without_tf32_or_a_search_of_kernels_is_the_default(on_cuda):
    import torch

    with closing(on_cuda()) as engine:
        assert engine.precision == "float32"
        assert torch.backends.cudnn.conv.fp32_precision == "ieee"
        assert torch.backends.cuda.matmul.fp32_precision == "ieee"
        assert not torch.backends.cudnn.benchmark
        assert torch.get_num_threads() == 1


def test_lanes_and_paddings_give_every_image_its_own_evidence(on_cuda, images, expected):
    turns = np.random.default_rng(0).integers(0, len(images), (30, 9))
    with closing(on_cuda()) as engine, ThreadPoolExecutor(3) as pool:
        answers = pool.map(lambda turn: engine.evidence(images[turn[: 1 + turn[0]]]), turns)
        for turn, evidence in zip(turns, answers, strict=True):
            wanted = expected[turn[: 1 + turn[0]]]
            np.testing.assert_allclose(evidence, wanted, atol=2e-3, rtol=1e-4)


def test_images_are_copied_once_on_the_host(on_cuda, images):
    with closing(on_cuda()) as engine:
        engine.infer([*images[:4]])
        tracemalloc.start()
        try:
            engine.infer([*images[:4]])  # into pinned memory, which is not NumPy's
            assert tracemalloc.get_traced_memory()[1] < images[0].nbytes
        finally:
            tracemalloc.stop()


@pytest.mark.parametrize(("precision", "captured"), [("float32", "ieee"), ("tf32", "tf32")])
def test_only_graphs_of_an_engine_in_tf32_use_it(on_cuda, images, monkeypatch, precision, captured):
    import torch

    seen: list[str] = []
    capture = torch.cuda.graph

    def recording(*args: object, **options: object) -> Any:
        seen.append(torch.backends.cudnn.conv.fp32_precision)
        return capture(*args, **options)

    monkeypatch.setattr(torch.cuda, "graph", recording)
    with closing(on_cuda(precision=precision)) as engine:
        assert engine.precision == precision
        assert seen == [captured] * 2 * len(SIZES)
        assert torch.backends.cudnn.conv.fp32_precision == "ieee"  # of saliency maps


def test_no_graph_is_captured_while_a_map_is_made(on_cuda, images, monkeypatch):
    import torch

    making, free, captured = threading.Event(), threading.Event(), threading.Event()
    engine = on_cuda()
    capture = torch.cuda.graph

    def noticed(*args: object, **options: object) -> Any:
        captured.set()
        return capture(*args, **options)

    def hold() -> None:
        making.set()
        assert free.wait(60)

    monkeypatch.setattr(torch.cuda, "graph", noticed)
    with ThreadPoolExecutor(2) as pool:
        made = pool.submit(engine.saliency, images[0], 0, "LAYER_CAM", hold)
        assert making.wait(60)
        other = pool.submit(on_cuda)
        assert not captured.wait(0.3)
        free.set()
        assert made.result(60).shape == (224, 224)
        other.result(60).close()
    assert captured.is_set()
    engine.close()


def test_half_precision_is_computed_where_it_is_asked_for(on_cuda, images, expected):
    with closing(on_cuda(precision="float16")) as engine:
        found = engine.evidence(images[:1])
        assert engine.precision == "float16"
    difference = np.abs(found - expected[:1]).max()
    assert 1e-3 < difference < 1


def test_waiting_leaves_the_core_and_captures_the_work_of_other_threads_alone(on_cuda, monkeypatch):
    import torch

    seen: list[dict[str, object]] = []

    def recording(kind: Callable[..., Any]) -> Callable[..., Any]:
        def make(*args: object, **options: object) -> Any:
            seen.append(options)
            return kind(*args, **options)

        return make

    for name in ("Event", "graph"):
        monkeypatch.setattr(torch.cuda, name, recording(getattr(torch.cuda, name)))
    on_cuda().close()
    events = [options for options in seen if "blocking" in options]
    captures = [options for options in seen if "pool" in options]
    assert events == [{"blocking": True}] * 2  # one in each lane
    assert len(captures) == 2 * len(SIZES)
    assert {options["capture_error_mode"] for options in captures} == {"thread_local"}


@pytest.mark.parametrize("precision", ["float32", "float16"])
def test_the_network_on_cuda_keeps_channels_last_and_answers_in_float32(bundle, precision):
    """Traced with tensors without data, which know device, type and layout as on a card."""
    import torch
    from torch._subclasses.fake_tensor import FakeTensorMode

    from cxr_server.inference.engines.torch.network import EvidenceNet, load_module

    net = EvidenceNet(load_module(bundle), "cpu", getattr(torch, precision))
    seen: list[torch.Tensor] = []
    for module in net.modules():
        if isinstance(module, torch.nn.Conv2d):
            module.register_forward_hook(lambda _module, _input, output: seen.append(output))
    with FakeTensorMode() as mode, torch.no_grad():
        weights = {
            name: mode.from_tensor(tensor).to("cuda:0")
            for name, tensor in (*net.named_parameters(), *net.named_buffers())
        }
        images = torch.zeros(4, 1, 224, 224, device="cuda:0")
        evidence, embedding = torch.func.functional_call(net, weights, (images,))
    assert evidence.shape == (4, len(bundle.manifest.labels), 7, 7)
    assert len(seen) > 30
    for output in seen:
        assert output.device.type == "cuda"
        assert output.is_contiguous(memory_format=torch.channels_last)
    *features, last = [output.dtype for output in seen]
    assert {*features} == {getattr(torch, precision)}
    assert last == evidence.dtype == embedding.dtype == torch.float32
    assert evidence.is_contiguous()


def poisoned(monkeypatch: pytest.MonkeyPatch, *, lost: bool) -> None:
    """Let the next copy to the card fail, and if the context is lost every synchronization."""
    import torch

    from gpu_check import fakes

    def fail(*_: object) -> None:
        raise torch.AcceleratorError("CUDA error: device-side assert triggered\nadvice\nadvice")

    monkeypatch.setattr(fakes.Graph, "replay", fail)
    if lost:
        monkeypatch.setattr(torch.cuda, "synchronize", fail)


def test_an_error_that_cuda_repeats_means_that_the_device_is_lost(on_cuda, images, monkeypatch):
    engine = on_cuda()
    poisoned(monkeypatch, lost=True)
    for _ in range(3):  # a failed call gives its lane back
        with pytest.raises(DeviceLost) as caught:
            engine.evidence(images[:1])
        assert str(caught.value) == ("cuda:0 is lost: CUDA error: device-side assert triggered")


def test_an_error_that_passes_is_passed_on(on_cuda, images, monkeypatch):
    import torch

    engine = on_cuda()
    with monkeypatch.context() as patch:
        poisoned(patch, lost=False)
        with pytest.raises(torch.AcceleratorError):
            engine.evidence(images[:1])
    assert np.isfinite(engine.evidence(images[:1])).all()


def test_a_map_tells_of_a_lost_device_too(on_cuda, images, monkeypatch):
    from cxr_server.inference.engines.torch import saliency

    engine = on_cuda()
    poisoned(monkeypatch, lost=True)
    monkeypatch.setattr(saliency.Saliency, "forward", lambda *_: 1 / 0)
    with pytest.raises(DeviceLost):
        engine.saliency(images[0], 0, "LAYER_CAM")
