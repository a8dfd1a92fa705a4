"""The whole served path on CUDA: the server that a GPU has, in a process of its own.

Where there is no GPU, the same tests run on torch on the CPU, which is given CUDA's batches and
precisions (`gpu_check.variant`), so that they are right when there is one.
"""

import signal
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import grpc
import numpy as np
import pytest

from cxr.v1 import chest_xray_pb2 as pb
from cxr.v1.chest_xray_pb2_grpc import ChestXrayServiceStub
from cxr_phantom.draw import draw_phantom
from cxr_server.bundles.load import Bundle
from cxr_server.bundles.manifest import Manifest
from cxr_server.explanation.methods import ExplanationMethod, explain
from cxr_server.explanation.options import RenderKind, RenderOptions
from cxr_server.imaging.radiograph import DecodeLimits
from cxr_server.inference.engines import FLOAT32, Engine
from cxr_server.inference.model_input import Evidence
from cxr_server.inference.preprocess import XRV, Job, hold_of, preprocess
from cxr_server.inference.scoring import findings
from cxr_server.inference.verify import REDUCED_TOLERANCE, TOLERANCE
from images import pixels_of, png
from process_memory import pss_mib
from scrape import scrape
from serving import PROGRAM, ServerProcess
from trust.ports import free_port

pytestmark = pytest.mark.torch

VARIANT = Path(__file__).parents[2] / "scripts" / "gpu-check" / "gpu_check" / "variant.py"
CPU, CUDA = "cpu", "cuda:0"
DEVICES = [CPU, pytest.param(CUDA, marks=pytest.mark.gpu)]
BIG_MESSAGES = (("grpc.max_receive_message_length", -1),)
FILMS = 10
LIMIT_S = 100


def serving(device: str, *flags: str) -> ServerProcess:
    """A server of torch on a device, whose engine fails when a signal says so."""
    return ServerProcess(
        *("--engine", "torch", "--device", device, "--cache-entries", "0"),
        *("--engine-threads", "1", *flags),  # a team of threads spins beside other processes
        program=(sys.executable, str(VARIANT), "faulty"),
        env={"GPU_CHECK_CPU": "1"} if device == CPU else {},
    )


class Served:
    """A server and a stub of it."""

    def __init__(self, server: ServerProcess, stub: Any, metrics: str) -> None:
        self.server, self.stub, self.metrics = server, stub, metrics

    def scores(self, films: list[bytes]) -> np.ndarray:
        """The scores [N, K] of films, asked about at the same time, in the model's order.

        Calls that come while the engine is replaced are refused, and repeated.
        """
        found: dict[int, list[float]] = {}
        until = time.monotonic() + LIMIT_S
        while len(found) < len(films):
            calls = {
                n: self.stub.Predict.future(pb.PredictRequest(image=film, top_k=100))
                for n, film in enumerate(films)
                if n not in found
            }
            for n, call in calls.items():
                if error := call.exception(LIMIT_S):
                    assert error.code() is grpc.StatusCode.UNAVAILABLE, error
                    assert time.monotonic() < until, error
                    time.sleep(0.05)
                else:
                    found[n] = scores_of(call.result().findings)
        return np.array([found[n] for n in range(len(films))])

    def events(self, name: str) -> int:
        """How often the log tells of an event."""
        return self.server.log.count(f'"event": "{name}"')


def scores_of(answered: Any) -> list[float]:
    return [each.score for each in sorted(answered, key=lambda finding: finding.class_index)]


@pytest.fixture(scope="module", params=DEVICES)
def served(request: pytest.FixtureRequest) -> Iterator[Served]:
    """A server on each device, in float32."""
    metrics = f"127.0.0.1:{free_port()}"
    with serving(request.param, "--metrics-listen", metrics) as server:
        with grpc.insecure_channel(server.address, options=BIG_MESSAGES) as channel:
            yield Served(server, ChestXrayServiceStub(channel), metrics)
        assert server.stop() == 0


@pytest.fixture(scope="module")
def films() -> list[bytes]:
    sides_px = (224, 320) * (FILMS // 2)
    return [png(draw_phantom(n, size_px=side).pixels_hw) for n, side in enumerate(sides_px)]


@pytest.fixture(scope="module")
def on_cpu(phantom_bundle: Bundle) -> Iterator[Engine]:
    """The reference: torch in float32 on the CPU, called without a server."""
    from cxr_server.inference.engines.torch.engine import TorchEngine

    engine = TorchEngine(phantom_bundle, threads=1)
    yield engine
    engine.close()


@pytest.fixture(scope="module")
def evidence(phantom_bundle: Bundle, on_cpu: Engine, films: list[bytes]) -> list[Evidence]:
    manifest = phantom_bundle.manifest
    return [evidence_of(on_cpu, input_of(film, phantom_bundle), manifest) for film in films]


@pytest.fixture(scope="module")
def expected(phantom_bundle: Bundle, evidence: list[Evidence]) -> np.ndarray:
    """The scores of the films."""
    return np.array([scores_of(each.findings) for each in evidence])


def input_of(film: bytes, bundle: Bundle) -> Any:
    from cxr_server.budget import ThreadBudget

    def check() -> None: ...

    job = Job(preprocessing=XRV, side_px=bundle.manifest.input_side_px, limits=DecodeLimits())
    return preprocess(film, job, hold=hold_of(ThreadBudget(2**28), check), check=check)


def evidence_of(engine: Engine, made: Any, manifest: Manifest) -> Evidence:
    evidence_khw = engine.evidence(made.image_chw[None])[0]
    scored = findings(evidence_khw, manifest)
    return Evidence(evidence_khw, scored, made.picture_hw, made.facts, made.warnings)


def test_device_precision_and_methods_are_told(served: Served) -> None:
    health = served.stub.Health(pb.HealthRequest())
    model = served.stub.DescribeModel(pb.DescribeModelRequest())
    assert health.engine == "torch"
    assert health.device == served.server.facts["device"]
    assert health.precision == model.precision == FLOAT32
    assert len(model.methods) == len(ExplanationMethod)
    assert model.limits.max_in_flight_count >= (64 if health.device == CPU else 4 * 64)


def test_predictions_equal_those_of_the_cpu_in_batches_too(
    served: Served, films: list[bytes], expected: np.ndarray
) -> None:
    assert np.ptp(expected, axis=0).max() > 0.5, "all films look alike"
    until = time.monotonic() + LIMIT_S
    while True:
        np.testing.assert_allclose(served.scores(films), expected, atol=TOLERANCE, rtol=0)
        found = scrape(served.metrics)
        name = 'cxr_engine_batch_images_{}{{served_as="phantom"}}'
        images, batches = (found[name.format(what)] for what in ("sum", "count"))
        if images > batches:
            break
        assert time.monotonic() < until, "no batch has had two images"


@pytest.mark.parametrize("method", list(ExplanationMethod))
def test_maps_equal_those_of_the_cpu(
    served: Served,
    films: list[bytes],
    evidence: list[Evidence],
    phantom_bundle: Bundle,
    on_cpu: Engine,
    method: ExplanationMethod,
) -> None:
    labels = [finding.label for finding in evidence[1].findings[:2]]
    (*wanted,) = explain(
        evidence[1],
        labels,
        model=phantom_bundle.manifest,
        engine=on_cpu,
        method=method,
        options=RenderOptions(kind=RenderKind.HEATMAP),
        image_chw=input_of(films[1], phantom_bundle).image_chw,
    )
    request = pb.ExplainRequest(
        image=films[1],
        labels=labels,
        method=pb.ExplanationMethod.Value(f"EXPLANATION_METHOD_{method}"),
        render=pb.RenderOptions(kind=pb.RENDER_KIND_HEATMAP),
    )
    answer = served.stub.Explain(request, timeout=LIMIT_S)
    for found, each in zip(answer.explanations, wanted, strict=True):
        assert found.no_positive_evidence == each.no_positive_evidence
        apart = pixels_of(found.heatmap).astype(int) - pixels_of(each.heatmap)
        assert np.abs(apart).mean() < 1
        np.testing.assert_allclose(found.evidence.values, each.evidence_hw.ravel(), atol=5e-3)


def test_a_failed_engine_is_rebuilt_beside_a_map_and_memory_is_given_back(
    served: Served, films: list[bytes], expected: np.ndarray
) -> None:
    served.scores(films)
    used_mib, rebuilt = [], served.events("engine rebuilt")
    for count in range(1, 5):
        score_cam = pb.EXPLANATION_METHOD_SCORE_CAM
        slow = served.stub.Explain.future(pb.ExplainRequest(image=films[0], method=score_cam))
        served.server.process.send_signal(signal.SIGUSR1)
        np.testing.assert_allclose(served.scores(films), expected, atol=TOLERANCE, rtol=0)
        assert served.events("engine rebuilt") == rebuilt + count
        if error := slow.exception(LIMIT_S):
            assert error.code() is grpc.StatusCode.UNAVAILABLE
        used_mib.append(memory_mib(served))
    assert used_mib[-1] < used_mib[0] + 64, used_mib


def memory_mib(served: Served) -> float:
    """Memory of the card, or of the server's processes on the CPU."""
    if served.server.facts["device"] == CPU:
        return pss_mib(served.server.process.pid)
    import torch

    free_bytes, all_bytes = torch.cuda.mem_get_info()
    return (all_bytes - free_bytes) / 2**20


@pytest.mark.slow
@pytest.mark.parametrize(
    ("device", "precision"),
    [
        (CPU, "float16"),
        pytest.param(CUDA, "float16", marks=pytest.mark.gpu),
        pytest.param(CUDA, "tf32", marks=pytest.mark.gpu),
    ],
)
def test_a_reduced_precision_is_told_and_stays_within_its_tolerance(
    films: list[bytes], expected: np.ndarray, device: str, precision: str
) -> None:
    with (
        serving(device, "--precision", precision) as server,
        grpc.insecure_channel(server.address) as channel,
    ):
        served = Served(server, ChestXrayServiceStub(channel), "")
        model = served.stub.DescribeModel(pb.DescribeModelRequest())
        assert model.precision == precision
        apart = np.abs(served.scores(films) - expected)
        assert 1e-5 < apart.max() < REDUCED_TOLERANCE


@pytest.mark.slow
@pytest.mark.parametrize("device", DEVICES)
def test_a_lost_device_ends_the_server_and_the_call_can_be_repeated_elsewhere(
    films: list[bytes], device: str
) -> None:
    with serving(device) as server, grpc.insecure_channel(server.address) as channel:
        predict = ChestXrayServiceStub(channel).Predict
        server.process.send_signal(signal.SIGUSR2)
        with pytest.raises(grpc.RpcError) as caught:
            predict(pb.PredictRequest(image=films[0]), timeout=LIMIT_S)
        assert caught.value.code() is grpc.StatusCode.UNAVAILABLE
        assert server.process.wait(LIMIT_S) == 1
        assert "engine given up" in server.log
        assert "engine rebuilt" not in server.log


@pytest.mark.parametrize(
    ("hidden", "chosen"),
    [
        ({"CUDA_VISIBLE_DEVICES": ""}, ("openvino", "CPU")),
        pytest.param({}, ("torch", CUDA), marks=pytest.mark.gpu),
    ],
    ids=["no GPU", "a GPU"],
)
def test_the_device_is_the_gpu_where_there_is_one(
    hidden: dict[str, str], chosen: tuple[str, str]
) -> None:
    with ServerProcess(env=hidden, program=PROGRAM) as server:
        assert (server.facts["engine"], server.facts["device"]) == chosen
