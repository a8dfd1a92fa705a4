"""The service without a transport: request rules, and what an adapter can rely on."""

import asyncio
import subprocess
import sys
import threading
import time
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager

import numpy as np
import pytest

from cxr_server.errors import (
    DeadlineExpired,
    InvalidField,
    MethodUnavailable,
    ModelLoading,
    QueueFull,
    RequestError,
    UnknownLabel,
)
from cxr_server.explanation.methods import ExplanationMethod
from cxr_server.explanation.options import HeatScale, RenderFrame, RenderKind, RenderOptions
from cxr_server.inference.engines.registry import ENGINES, EngineSpec
from cxr_server.lifecycle import Lifecycle, Phase
from cxr_server.observability.call import Call
from cxr_server.observability.metrics import Metrics
from cxr_server.observability.stages import Stage
from cxr_server.requests import ExplainRequest, PredictRequest
from cxr_server.resources import MAX_SLOW_EXPLANATIONS
from cxr_server.service import InferenceService
from cxr_server.settings import parse
from images import chest_like, png

IMAGE = png(chest_like())
CALL = Call("cxr.v1.ChestXrayService/Predict", "id", "caller")
IN_THREADS = ("--decode-processes", "0")  # starting processes takes longer than each test
SLOW = ExplanationMethod.SCORE_CAM
WHOLE = RenderOptions(frame=RenderFrame.ORIGINAL)


@asynccontextmanager
async def loaded(*flags: str) -> AsyncIterator[InferenceService]:
    settings = parse([*IN_THREADS, *flags], env={})
    service = InferenceService(settings, Lifecycle(), Metrics(), lambda: 3)
    await service.load()
    try:
        yield service
    finally:
        await service.close()


class SaliencyToy:
    """Knows one slow method, which waits for the gate; fails on every image when `broken`."""

    name, device, precision, max_batch, max_in_flight = "toy", "abacus", "float32", 1, 1
    saliency_methods = (SLOW.value,)

    def __init__(self) -> None:
        self.gate = threading.Event()
        self.gate.set()
        self.maps = 0
        self.broken = False

    def evidence(self, batch_nchw: np.ndarray) -> np.ndarray:
        if self.broken:
            raise RuntimeError("device lost")
        return np.ones((len(batch_nchw), 6, 7, 7), np.float32)

    def saliency(
        self, image_chw: np.ndarray, row: int, method: str, check: Callable[[], None]
    ) -> np.ndarray:
        self.maps += 1
        assert self.gate.wait(60)
        if self.broken:
            raise RuntimeError("device lost")
        return np.ones(image_chw.shape[1:], np.float32)

    def close(self) -> None: ...


@pytest.fixture
def toys(monkeypatch: pytest.MonkeyPatch, unprobed_phantom: None) -> list[SaliencyToy]:
    """The engines that `--engine toy` has started."""
    made: list[SaliencyToy] = []

    def start(*_: object) -> SaliencyToy:
        made.append(SaliencyToy())
        return made[-1]

    spec = EngineSpec(
        name="toy",
        packages=(),
        requirement="",
        bundle_file="weights.safetensors",
        devices=("abacus",),
        open=start,
    )
    monkeypatch.setitem(ENGINES, "toy", spec)
    return made


async def until(condition: Callable[[], bool]) -> None:
    async with asyncio.timeout(60):
        while not condition():
            await asyncio.sleep(0.001)


@pytest.mark.parametrize(
    ("make", "field"),
    [
        (lambda: PredictRequest(image=b"", top_k=0), "top_k"),
        (lambda: ExplainRequest(image=b"", labels=tuple(map(str, range(257)))), "labels"),
        (lambda: ExplainRequest(image=b"", labels=("Mass", "Mass")), "labels"),
        (lambda: ExplainRequest(image=b"", heatmap_labels=("Mass",)), "heatmap_labels"),
        (
            lambda: ExplainRequest(image=b"", labels=("Mass",), heatmap_labels=("Mass", "Hernia")),
            "heatmap_labels",
        ),
        *(
            (
                lambda method=method: ExplainRequest(
                    image=b"", method=method, render=RenderOptions(scale=HeatScale.FIXED)
                ),
                "render.scale",
            )
            for method in ExplanationMethod
            if method is not ExplanationMethod.GRAD_CAM
        ),
    ],
)
def test_a_wrong_request_cannot_be_made(make: Callable[[], object], field: str) -> None:
    with pytest.raises(InvalidField) as refusal:
        make()
    assert refusal.value.field == field


async def test_an_unknown_label_is_named_with_the_nearest_known_one() -> None:
    cases = {
        "Cardiomegally": "'Cardiomegaly'",
        "EFFUSION": "'Effusion'",
        "": "the nearest is",
        "x" * 5000: "the nearest is",
        "Mass\n\x1b[31m": r"'Mass\n\x1b[31m'",
    }
    async with loaded() as service:
        for asked, named in cases.items():
            with pytest.raises(UnknownLabel) as refusal:
                await service.explain(ExplainRequest(image=IMAGE, labels=(asked,)), CALL)
            assert named in refusal.value.message
            assert repr(asked[:20])[:-1] in refusal.value.message
            assert len(refusal.value.message) < 200
            assert refusal.value.message.isprintable()


async def test_an_explanation_comes_with_every_score_and_draws_what_was_asked_for() -> None:
    async with loaded() as service:
        scores = await service.predict(PredictRequest(image=IMAGE, top_k=99), CALL)
        best = await service.explain(ExplainRequest(image=IMAGE), CALL)
        labels = tuple(finding.label for finding in reversed(scores.findings))
        request = ExplainRequest(image=IMAGE, labels=labels, heatmap_labels=labels[1:3])
        every = await service.explain(request, CALL)
    assert best.findings == every.findings == scores.findings
    assert [each.finding for each in best.explanations] == [scores.findings[0]]
    assert tuple(each.finding.label for each in every.explanations) == labels
    assert [bool(each.heatmap) for each in every.explanations] == [False, True, True] + [False] * 3
    assert all(each.evidence_hw.shape == (7, 7) for each in every.explanations)


async def test_stages_carry_true_timestamps_and_only_what_ran() -> None:
    before_s = time.time()
    async with loaded() as service:
        fresh = await service.explain(ExplainRequest(image=IMAGE, render=WHOLE), CALL)
        again = await service.explain(ExplainRequest(image=IMAGE), CALL)
        whole = await service.explain(ExplainRequest(image=IMAGE, render=WHOLE), CALL)
    assert [span.stage for span in fresh.stages.spans] == [
        Stage.QUEUE,
        Stage.DECODE,
        Stage.QUEUE,
        Stage.INFERENCE,
        Stage.QUEUE,
        Stage.RENDER,
    ]
    ends = [fresh.stages.epoch_s + span.end_s for span in fresh.stages.spans]
    assert ends == sorted(ends)
    assert before_s - 1 < ends[0] <= ends[-1] < time.time() + 1
    assert set(again.stages.seconds()) == {"queue", "render"}
    assert set(whole.stages.seconds()) == {"queue", "decode", "render"}
    assert [each.cached for each in (fresh, again, whole)] == [False, True, True]
    assert whole.explanations[0].heatmap == fresh.explanations[0].heatmap


async def test_a_cached_image_that_is_decoded_again_keeps_its_deadline() -> None:
    async with loaded() as service:
        await service.predict(PredictRequest(image=IMAGE), CALL)
        late = Call("m", "id", "caller", deadline=time.monotonic() - 1)
        with pytest.raises(DeadlineExpired):
            await service.explain(ExplainRequest(image=IMAGE, render=WHOLE), late)


@pytest.mark.parametrize(
    "flags", [("--min-side-px", "500"), ("--max-side-px", "100"), ("--max-pixels", "1024")]
)
async def test_warming_up_keeps_to_any_limits_on_images(flags: tuple[str, str]) -> None:
    async with loaded(*flags) as service:
        assert service.health().phase is Phase.SERVING


async def test_before_the_model_is_loaded_only_health_answers() -> None:
    service = InferenceService(parse([], env={}), Lifecycle(), Metrics(), lambda: 3)
    report = service.health()
    assert (report.phase, report.model, report.engine) == (Phase.LOADING, None, "")
    assert report.in_flight_count == 3
    with pytest.raises(ModelLoading):
        service.describe()
    with pytest.raises(ModelLoading):
        await service.predict(PredictRequest(image=IMAGE), CALL)
    await service.close()


async def test_the_description_names_what_is_registered_and_available(
    toys: list[SaliencyToy],
) -> None:
    async with loaded("--engine", "toy") as service:
        described = service.describe()
        assert service.health().engine == "toy"
        with pytest.raises(MethodUnavailable, match="LAYER_CAM"):
            await service.explain(
                ExplainRequest(image=IMAGE, method=ExplanationMethod.LAYER_CAM), CALL
            )
    assert described.methods == (ExplanationMethod.GRAD_CAM, SLOW)
    assert {"PNG", "JPEG"} <= set(described.image_formats)
    assert described.model.labels


async def test_slow_maps_delay_nothing_else_and_are_bounded(toys: list[SaliencyToy]) -> None:
    async with loaded("--engine", "toy") as service:
        toys[0].gate.clear()
        slow = ExplainRequest(image=IMAGE, method=SLOW)
        held = {
            asyncio.ensure_future(service.explain(slow, CALL))
            for _ in range(MAX_SLOW_EXPLANATIONS + 1)
        }
        refused, held = await asyncio.wait(held, return_when=asyncio.FIRST_COMPLETED)
        with pytest.raises(QueueFull):
            refused.pop().result()
        with pytest.raises(QueueFull):  # at once: this is no image that could be decoded
            await service.explain(ExplainRequest(image=b"?", method=SLOW), CALL)
        for number in range(4):  # more than there are threads for drawing
            other = ExplainRequest(image=png(chest_like(seed=number)), render=WHOLE)
            assert (await service.explain(other, CALL)).explanations
        assert toys[0].maps == 1
        toys[0].gate.set()
        answers = await asyncio.gather(*held)
    assert all(answer.explanations[0].method is SLOW for answer in answers)
    assert toys[0].maps == MAX_SLOW_EXPLANATIONS


async def test_bulk_calls_for_slow_maps_leave_places_to_interactive_ones(
    toys: list[SaliencyToy],
) -> None:
    bulk, slow = Call("m", "id", "caller", bulk=True), ExplainRequest(image=IMAGE, method=SLOW)
    async with loaded("--engine", "toy") as service:
        model = service.models.get("")
        assert model
        toys[0].gate.clear()
        run = [
            asyncio.ensure_future(service.explain(slow, bulk)) for _ in range(MAX_SLOW_EXPLANATIONS)
        ]
        await until(
            lambda: (
                toys[0].maps + model.waiting_to_draw + sum(each.done() for each in run)
                == MAX_SLOW_EXPLANATIONS
            )
        )
        with pytest.raises(QueueFull):  # at once: this is no image that could be decoded
            await service.explain(ExplainRequest(image=b"?", method=SLOW), bulk)
        interactive = asyncio.ensure_future(service.explain(slow, CALL))
        await until(
            lambda: interactive.done() or model.waiting_to_draw == MAX_SLOW_EXPLANATIONS // 2
        )
        toys[0].gate.set()
        assert (await interactive).explanations
        ends = await asyncio.gather(*run, return_exceptions=True)
    assert sum(isinstance(end, QueueFull) for end in ends) == MAX_SLOW_EXPLANATIONS // 2


async def test_a_slow_map_of_an_engine_that_was_replaced_may_be_repeated(
    toys: list[SaliencyToy],
) -> None:
    async with loaded("--engine", "toy") as service:
        toys[0].gate.clear()
        slow = ExplainRequest(image=IMAGE, method=SLOW)
        held = asyncio.ensure_future(service.explain(slow, CALL))
        await until(lambda: toys[0].maps == 1)
        toys[0].broken = True
        other = PredictRequest(image=png(chest_like(seed=1)))
        assert (await service.predict(other, CALL)).findings  # waited for the next engine
        toys[0].gate.set()
        with pytest.raises(ModelLoading):
            await held
        assert len(toys) == 2
        assert (await service.explain(slow, CALL)).explanations


async def test_a_drawing_is_not_begun_after_the_deadline() -> None:
    async with loaded() as service:
        await service.predict(PredictRequest(image=IMAGE), CALL)
        late = Call("m", "id", "caller", deadline=time.monotonic() - 1)
        nothing = RenderOptions(kind=RenderKind.NONE)
        with pytest.raises(DeadlineExpired):
            await service.explain(ExplainRequest(image=IMAGE, render=nothing), late)


async def test_errors_are_those_of_the_contract_whatever_the_transport() -> None:
    async with loaded() as service:
        with pytest.raises(RequestError) as refusal:
            await service.predict(PredictRequest(image=b"GIF89a"), CALL)
    assert refusal.value.reason == "IMAGE_FORMAT_UNSUPPORTED"


def test_the_service_knows_no_transport() -> None:
    code = "import sys, cxr_server.service; print(sorted(sys.modules))"
    run = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert "'numpy'" in run.stdout
    for package in ("'grpc'", "'google.protobuf'", "'cxr'"):
        assert package not in run.stdout
