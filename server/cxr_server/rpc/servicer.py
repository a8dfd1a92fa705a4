"""Servicer: the contract's four methods, each a translation to and from the service."""

from typing import Any

import grpc
from google.protobuf.timestamp_pb2 import Timestamp

from cxr.v1 import chest_xray_pb2 as pb
from cxr.v1 import chest_xray_pb2_grpc as pb_grpc
from cxr_server import __version__
from cxr_server.errors import InvalidField
from cxr_server.explanation.colormaps import ColorMap
from cxr_server.explanation.heatmap import HeatScale
from cxr_server.explanation.methods import ExplanationMethod
from cxr_server.explanation.render import RenderFormat, RenderFrame, RenderKind, RenderOptions
from cxr_server.lifecycle import Phase
from cxr_server.rpc import messages
from cxr_server.rpc.interceptors.call_context import CallContext
from cxr_server.service import ExplainRequest, InferenceService, PredictRequest

Context = grpc.aio.ServicerContext[Any, Any]

SERVICE: str = pb.DESCRIPTOR.services_by_name["ChestXrayService"].full_name
BOUNDED_METHODS = frozenset({f"{SERVICE}/Predict", f"{SERVICE}/Explain"})
"""Methods that need the model: refused while it is not ready, bounded in number and bytes."""

_STATUS = {
    Phase.LOADING: pb.SERVING_STATUS_LOADING,
    Phase.SERVING: pb.SERVING_STATUS_SERVING,
    Phase.LAME_DUCK: pb.SERVING_STATUS_DRAINING,
    Phase.DRAINING: pb.SERVING_STATUS_DRAINING,
    Phase.FAILED: pb.SERVING_STATUS_FAILED,
}


class ChestXrayServicer(pb_grpc.ChestXrayServiceServicer):
    """Translates between the contract and the service."""

    def __init__(self, service: InferenceService) -> None:
        self._service = service

    async def Predict(self, request: pb.PredictRequest, context: Context) -> pb.PredictResponse:
        """Score every finding."""
        call = CallContext.of(context, "").call
        given = {"top_k": request.top_k} if request.HasField("top_k") else {}
        asked = PredictRequest(image=request.image, strict_input=request.strict_input, **given)
        del request  # holds the image once more, and would do so for the whole wait
        result = await self._service.predict(asked, call)
        call.cached = result.cached
        return messages.predict_response(result, call.request_id)

    async def Explain(self, request: pb.ExplainRequest, context: Context) -> pb.ExplainResponse:
        """Map the evidence of findings."""
        call = CallContext.of(context, "").call
        default = ExplanationMethod.GRAD_CAM
        asked = ExplainRequest(
            image=request.image,
            labels=tuple(request.labels),
            heatmap_labels=tuple(request.heatmap_labels),
            method=ExplanationMethod(
                _chosen(pb.ExplanationMethod, request.method, "method", default)
            ),
            render=render_options(request.render),
            strict_input=request.strict_input,
        )
        del request  # as in Predict
        result = await self._service.explain(asked, call)
        call.cached = result.cached
        return messages.explain_response(result, call.request_id)

    async def Health(self, request: pb.HealthRequest, context: Context) -> pb.HealthResponse:
        """Report the state, whatever it is."""
        report = self._service.health()
        return pb.HealthResponse(
            status=_STATUS[report.phase],
            model=messages.model_of(report.model) if report.model else None,
            engine=report.engine,
            device=report.device,
            server_version=__version__,
            uptime_duration=messages.duration(report.uptime_s),
            queue_depth=report.queue_depth,
            in_flight_count=report.in_flight_count,
        )

    async def DescribeModel(
        self, request: pb.DescribeModelRequest, context: Context
    ) -> pb.DescribeModelResponse:
        """Describe the model, the limits and the options."""
        described = self._service.describe()
        manifest = described.model
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
                max_request_bytes=described.max_request_bytes,
                min_side_px=described.min_side_px,
                max_side_px=described.max_side_px,
                max_pixel_count=described.max_pixel_count,
            ),
            image_formats=[f"IMAGE_FORMAT_{name}" for name in described.image_formats],
            methods=[f"EXPLANATION_METHOD_{name}" for name in described.methods],
            license=manifest.license,
            notices=[described.notice, *manifest.notices],
            create_time=created,
        )


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
