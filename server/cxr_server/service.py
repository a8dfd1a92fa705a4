"""Service: what the server does, whatever the transport. gRPC is one adapter of it.

Dataflow: Radiograph -> ModelInput -> Evidence -> HeatMap -> Explanation.
"""

import difflib
from collections.abc import Callable, Iterator
from contextlib import contextmanager

from cxr_server.admission import most_bulk_calls
from cxr_server.drawing import most_drawn_px, room_to_draw
from cxr_server.errors import (
    DecoderUnavailable,
    ImageDecoderFailed,
    MethodUnavailable,
    ModelLoading,
    RequestError,
    UnknownLabel,
    UnknownModel,
)
from cxr_server.explanation.footprint import answer_bytes
from cxr_server.explanation.methods import (
    METHODS,
    available,
    explain,
)
from cxr_server.explanation.options import RenderKind, RenderOptions
from cxr_server.explanation.render import render_radiograph
from cxr_server.imaging.codecs import readable_formats
from cxr_server.inference.cache import CacheMode
from cxr_server.inference.decode_processes.forking import DecodeProcessesUnavailable
from cxr_server.inference.engines.cores import usable_cores
from cxr_server.inference.engines.registry import EngineUnavailable
from cxr_server.inference.scheduler import EngineFailure
from cxr_server.interactive_calls import InteractiveCalls
from cxr_server.lifecycle import Lifecycle, Phase
from cxr_server.memory import divide
from cxr_server.model import ServingModel
from cxr_server.models import Models
from cxr_server.observability.call import Call
from cxr_server.observability.metrics import Metrics
from cxr_server.observability.stages import Stages
from cxr_server.requests import ExplainRequest, PredictRequest
from cxr_server.results import ExplainResult, HealthReport, ModelDescription, PredictResult
from cxr_server.settings import Settings


class InferenceService:
    """Predict, Explain, Health and DescribeModel. Answers once `load` has returned.

    `in_flight` returns the number of calls that are admitted and not answered. `image_key` is that
    of the audit file.
    """

    def __init__(
        self,
        settings: Settings,
        lifecycle: Lifecycle,
        metrics: Metrics,
        in_flight: Callable[[], int],
        image_key: bytes = b"",
    ) -> None:
        self.memory = divide(settings, usable_cores())
        self._lifecycle = lifecycle
        self._metrics = metrics
        self._in_flight = in_flight
        self.interactive = InteractiveCalls()
        self.models = Models(
            settings,
            self.memory,
            lifecycle,
            metrics,
            self._warm_up,
            image_key,
            self.interactive,
        )

    async def load(self) -> None:
        """Load the models, explain an image with each to warm it up, and enter SERVING.

        Raises BundleError, DecodeProcessesUnavailable, and EngineUnavailable also if the engine
        fails on that image.
        """
        await self.models.load()
        self._lifecycle.enter(Phase.SERVING)

    async def _warm_up(self, model: ServingModel) -> None:
        image = model.warm_up_image()
        request, call = (
            ExplainRequest(image=image, render=RenderOptions(legend=True)),
            Call("", "", ""),
        )
        try:
            await self._explain(model, request, call)
        except (DecoderUnavailable, ImageDecoderFailed) as error:
            raise DecodeProcessesUnavailable(f"cannot decode while warming up: {error}") from error
        except EngineFailure as error:
            raise EngineUnavailable("the engine failed while warming up") from error
        except RequestError as error:
            raise EngineUnavailable(f"the warm-up was refused: {error}") from error
        finally:
            call.end()

    async def close(self) -> None:
        """Fail what waits, finish what runs, and release the engines."""
        await self.models.close()

    def retry_after_ms(self) -> int:
        """Return when to repeat a call that was refused for load."""
        return max((model.scheduler.retry_after_ms() for _, model in self.models), default=500)

    @contextmanager
    def using(self, name: str, call: Call) -> Iterator[ServingModel]:
        """Keep a model for several images of a call, whatever is swapped meanwhile.

        Raises ModelLoading and UnknownModel.
        """
        model = self._loaded(name, call)
        with model.in_use():
            yield model

    async def predict(
        self, request: PredictRequest, call: Call, model: ServingModel | None = None
    ) -> PredictResult:
        """Score an image. Raises RequestError; see `errors`.

        A `model` that the call is already using takes the place of the request's.
        """
        model = model or self._loaded(request.model, call)
        stages = Stages(call.stages)
        with model.in_use():
            evidence, _ = await model.source.evidence(
                request.image,
                call,
                stages,
                strict=request.strict_input,
                options=request.dicom,
                use_cache=request.cache is CacheMode.USE,
            )
        result = PredictResult(
            findings=evidence.findings[: request.top_k],
            evidence=evidence,
            stages=stages,
            model=model.manifest,
            precision=model.engine.precision,
            include_embedding=request.include_embedding,
        )
        self._metrics.answered(call, stages.seconds(), result.warnings)
        return result

    async def explain(self, request: ExplainRequest, call: Call) -> ExplainResult:
        """Explain findings of an image. Raises RequestError; see `errors`."""
        model = self._loaded(request.model, call)
        with model.in_use():
            result = await self._explain(model, request, call)
        self._metrics.answered(call, result.stages.seconds(), result.warnings)
        return result

    def health(self) -> HealthReport:
        """Report the state, whatever it is. Model and engine are those of the default model."""
        model = self.models.get("")
        return HealthReport(
            phase=self._lifecycle.phase,
            uptime_s=self._lifecycle.uptime_s,
            in_flight_count=self._in_flight(),
            model=model.manifest if model else None,
            engine=model.engine.name if model else "",
            device=model.engine.device if model else "",
            precision=model.engine.precision if model else "",
            queue_depth=sum(each.scheduler.queue_depth for _, each in self.models),
        )

    def describe(self, name: str = "") -> ModelDescription:
        """Describe a model, the limits and the options. Raises ModelLoading and UnknownModel."""
        model = self._loaded(name)
        return ModelDescription(
            model=model.manifest,
            served={known: each.identity for known, each in self.models},
            limits=model.limits,
            max_request_bytes=self.memory.max_request_bytes,
            max_drawn_pixels=most_drawn_px(model),
            max_in_flight_count=self.models.max_calls,
            max_bulk_in_flight_count=most_bulk_calls(self.models.max_calls),
            image_formats=readable_formats(),
            methods=available(model.engine),
            precision=model.engine.precision,
        )

    async def _explain(
        self, model: ServingModel, request: ExplainRequest, call: Call
    ) -> ExplainResult:
        for label in request.labels:
            if label not in model.manifest.labels:
                raise UnknownLabel(_unknown(label, model.manifest.labels))
        stages = Stages(call.stages)
        method = METHODS[request.method]
        if reason := method.why_not(model.engine):
            raise MethodUnavailable(reason)
        model.check_room(slow=method.needs_engine, bulk=call.bulk)
        pictures = len(set(request.heatmap_labels)) or len(request.labels) or 1
        share = await room_to_draw(model, pictures, request.render, request.image, call)
        evidence, made = await model.source.evidence(
            request.image,
            call,
            stages,
            strict=request.strict_input,
            options=request.dicom,
            use_cache=request.cache is CacheMode.USE,
            needs_input=method.needs_engine,
            needs_whole=request.render.needs_whole,
        )
        whole_hw = made.whole_hw if made else None
        explanations = await model.draw(
            lambda engine: explain(
                evidence,
                request.labels or (evidence.findings[0].label,),
                model=model.manifest,
                engine=engine,
                method=request.method,
                options=request.render,
                heatmap_labels=request.heatmap_labels,
                image_chw=made.image_chw if made else None,
                whole_hw=whole_hw,
                check=call.check,
            ),
            call,
            stages,
            slow=method.needs_engine,
        )
        radiograph = b""
        if request.render.kind is RenderKind.RADIOGRAPH:
            (radiograph,) = await model.draw(
                lambda _: (render_radiograph(evidence, request.render, whole_hw) for _ in "1"),
                call,
                stages,
                slow=False,
            )
        files = (radiograph, *(each.heatmap for each in explanations))
        share.shrink(answer_bytes(map(len, files)))
        return ExplainResult(
            explanations=tuple(explanations),
            radiograph=radiograph,
            findings=evidence.findings,
            evidence=evidence,
            stages=stages,
            model=model.manifest,
            precision=model.engine.precision,
            include_embedding=request.include_embedding,
        )

    def _loaded(self, name: str, call: Call | None = None) -> ServingModel:
        """Return the model of a name, which is noted on the call; "" is the default.

        Raises ModelLoading and UnknownModel.
        """
        served_as = name or self.models.default
        model = self.models.get(served_as)
        if model is None:
            known = ", ".join(known for known, _ in self.models)
            if not known:
                raise ModelLoading("the model is not ready yet", retry_after_ms=500)
            raise UnknownModel(f"no model is served as {name[:64]!r}; there are: {known}")
        if call:
            manifest = model.manifest
            call.served_as = served_as
            call.model, call.model_version = manifest.name, manifest.version
            call.weights_sha256, call.precision = manifest.weights_sha256, model.engine.precision
        return model


def _unknown(label: str, labels: tuple[str, ...]) -> str:
    label = label[:64]  # bounds the comparison, and the message
    by_lower_case = {known.lower(): known for known in labels}
    nearest = difflib.get_close_matches(label.lower(), by_lower_case, n=1, cutoff=0)[0]
    return f"the model has no finding {label!r}; the nearest is {by_lower_case[nearest]!r}"
