"""Servicer: the contract's four methods, each a translation to and from the pipeline."""

from typing import Any

import grpc
from google.protobuf.timestamp_pb2 import Timestamp

from cxr.v1 import chest_xray_pb2 as pb
from cxr.v1 import chest_xray_pb2_grpc as pb_grpc
from cxr_server import __version__
from cxr_server.admission import Admission
from cxr_server.errors import InvalidField, ModelLoading
from cxr_server.explanation.colormaps import ColorMap
from cxr_server.explanation.heatmap import HeatScale
from cxr_server.explanation.methods import ExplanationMethod, available
from cxr_server.explanation.render import RenderFormat, RenderFrame, RenderKind, RenderOptions
from cxr_server.lifecycle import Lifecycle, Phase
from cxr_server.model import LoadedModel
from cxr_server.observability.call import Call
from cxr_server.observability.metrics import Metrics
from cxr_server.rpc import messages
from cxr_server.rpc.interceptors.call_context import CallContext
from cxr_server.service import Times
from cxr_server.settings import MIB, Settings

Context = grpc.aio.ServicerContext[Any, Any]

SERVICE: str = pb.DESCRIPTOR.services_by_name["ChestXrayService"].full_name
BOUNDED_METHODS = frozenset({f"{SERVICE}/Predict", f"{SERVICE}/Explain"})
"""Methods that need the model: refused while it is not ready, bounded in number and bytes."""

DEFAULT_TOP_K = 5
MAX_LABELS = 256
_STATUS = {
    Phase.LOADING: pb.SERVING_STATUS_LOADING,
    Phase.SERVING: pb.SERVING_STATUS_SERVING,
    Phase.LAME_DUCK: pb.SERVING_STATUS_DRAINING,
    Phase.DRAINING: pb.SERVING_STATUS_DRAINING,
    Phase.FAILED: pb.SERVING_STATUS_FAILED,
}


class ChestXrayServicer(pb_grpc.ChestXrayServiceServicer):
    """Answers from the loaded model; `model` is None until there is one."""

    def __init__(
        self, settings: Settings, lifecycle: Lifecycle, admission: Admission, metrics: Metrics
    ) -> None:
        self.model: LoadedModel | None = None
        self._settings = settings
        self._lifecycle = lifecycle
        self._admission = admission
        self._metrics = metrics

    async def Predict(self, request: pb.PredictRequest, context: Context) -> pb.PredictResponse:
        """Score every finding."""
        top_k = request.top_k if request.HasField("top_k") else DEFAULT_TOP_K
        if top_k < 1:
            raise InvalidField("top_k must be at least 1", field="top_k")
        model, this = self._loaded(), CallContext.of(context, "").call
        image, strict = request.image, request.strict_input
        del request  # holds the image once more, and would do so for the whole wait
        predicted = await model.pipeline.predict(
            image, strict=strict, caller=this.caller, deadline=this.deadline
        )
        self._observe(this, predicted.times)
        return messages.predict_response(predicted, top_k, model.manifest, this.request_id)

    async def Explain(self, request: pb.ExplainRequest, context: Context) -> pb.ExplainResponse:
        """Map the evidence of findings."""
        if len(request.labels) > MAX_LABELS:
            raise InvalidField(f"labels may be at most {MAX_LABELS}", field="labels")
        if len(set(request.labels)) < len(request.labels):
            raise InvalidField("labels must differ from each other", field="labels")
        default = ExplanationMethod.GRAD_CAM
        method = ExplanationMethod(_chosen(pb.ExplanationMethod, request.method, "method", default))
        options = render_options(request.render)
        model, this = self._loaded(), CallContext.of(context, "").call
        image, labels, strict = request.image, list(request.labels), request.strict_input
        del request  # as in Predict
        explained = await model.pipeline.explain(
            image,
            labels=labels,
            method=method,
            options=options,
            strict=strict,
            caller=this.caller,
            deadline=this.deadline,
        )
        self._observe(this, explained.times)
        return messages.explain_response(explained, model.manifest, this.request_id)

    async def Health(self, request: pb.HealthRequest, context: Context) -> pb.HealthResponse:
        """Report the state, whatever it is."""
        response = pb.HealthResponse(
            status=_STATUS[self._lifecycle.phase],
            server_version=__version__,
            uptime_duration=messages.duration(self._lifecycle.uptime_s),
            in_flight_count=self._admission.calls,
        )
        if model := self.model:
            response.model.CopyFrom(messages.model_of(model.manifest))
            response.engine, response.device = model.engine.name, model.engine.device
            response.queue_depth = model.scheduler.queue_depth
        return response

    async def DescribeModel(
        self, request: pb.DescribeModelRequest, context: Context
    ) -> pb.DescribeModelResponse:
        """Describe the model, the limits and the options."""
        model = self._loaded()
        manifest, settings = model.manifest, self._settings
        created = Timestamp()
        created.FromJsonString(manifest.create_time)
        findings = []
        for row, label in enumerate(manifest.labels):
            stated = manifest.reliability.get(label)
            findings.append(
                pb.FindingDescription(
                    label=label,
                    class_index=manifest.class_indices[row],
                    threshold=manifest.thresholds[row],
                    reliability=f"RELIABILITY_{stated.level.upper() if stated else 'UNSPECIFIED'}",
                    reliability_note=stated.note if stated else "",
                )
            )
        return pb.DescribeModelResponse(
            model=messages.model_of(manifest),
            architecture=manifest.architecture,
            findings=findings,
            input_side_px=manifest.input_side_px,
            preprocessing_id=manifest.preprocessing_id,
            evidence_side=manifest.evidence_side,
            file_sha256={path: entry.sha256 for path, entry in manifest.files.items()},
            upstream_sha256=manifest.upstream.sha256 if manifest.upstream else "",
            limits=pb.Limits(
                max_request_bytes=settings.max_request_mib * MIB,
                min_side_px=settings.min_side_px,
                max_side_px=settings.max_side_px,
                max_pixel_count=settings.max_pixels,
            ),
            image_formats=[pb.IMAGE_FORMAT_PNG, pb.IMAGE_FORMAT_JPEG],
            methods=[f"EXPLANATION_METHOD_{name}" for name in available(model.engine)],
            license=manifest.license,
            notices=[messages.notice_of(manifest), *manifest.notices],
            create_time=created,
        )

    def _loaded(self) -> LoadedModel:
        if self.model is None:
            raise ModelLoading("the model is not ready yet", retry_after_ms=500)
        return self.model

    def _observe(self, this: Call, times: Times) -> None:
        this.cached = times.cached
        durations = {
            stage: getattr(times, f"{stage}_s")
            for stage in ("decode", "queue", "inference", "render")
        }
        self._metrics.stages({name: s for name, s in durations.items() if s is not None})


def render_options(message: pb.RenderOptions) -> RenderOptions:
    """Translate the request's options; what is unset has the default. Raises InvalidField."""
    defaults = RenderOptions()
    kind = _chosen(pb.RenderKind, message.kind, "render.kind", defaults.kind)
    frame = _chosen(pb.RenderFrame, message.frame, "render.frame", defaults.frame)
    colors = _chosen(pb.ColorMap, message.color_map, "render.color_map", defaults.color_map)
    scale = _chosen(pb.HeatScale, message.scale, "render.scale", defaults.scale)
    format_ = _chosen(pb.RenderFormat, message.format, "render.format", defaults.format)
    has = message.HasField
    return RenderOptions(
        kind=RenderKind(kind),
        frame=RenderFrame(frame),
        color_map=ColorMap(colors),
        opacity=message.opacity if has("opacity") else defaults.opacity,
        legend=message.legend,
        max_side_px=message.max_side_px if has("max_side_px") else defaults.max_side_px,
        scale=HeatScale(scale),
        format=RenderFormat(format_),
    )


def _chosen(enum: Any, number: int, field: str, default: str) -> str:
    """Name of an enum value without its prefix; the default for 0. Raises InvalidField."""
    if number == 0:
        return str(default)
    if number not in enum.values():
        raise InvalidField(f"{field} is not a known value", field=field)
    prefix = enum.Name(0).removesuffix("UNSPECIFIED")
    return str(enum.Name(number)).removeprefix(prefix)
