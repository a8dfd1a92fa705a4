"""Messages: the contract's messages -> the service's requests, and its results -> messages.

Enums have the same names on both sides, but for the contract's prefix.
"""

from collections.abc import Iterable
from enum import StrEnum
from typing import Any, TypeVar

from google.protobuf.duration_pb2 import Duration
from google.protobuf.message import Message
from google.protobuf.timestamp_pb2 import Timestamp

from cxr.v1 import chest_xray_pb2 as pb
from cxr_server import __version__
from cxr_server.bundles.manifest import Manifest
from cxr_server.errors import InvalidField
from cxr_server.explanation.colormaps import ColorMap
from cxr_server.explanation.explain import Explanation
from cxr_server.explanation.heatmap import HeatScale
from cxr_server.explanation.methods import ExplanationMethod
from cxr_server.explanation.regions import Region
from cxr_server.explanation.render import RenderFormat, RenderFrame, RenderKind, RenderOptions
from cxr_server.imaging.quality import MESSAGES
from cxr_server.lifecycle import Phase
from cxr_server.service import (
    ExplainRequest,
    ExplainResult,
    HealthReport,
    ModelDescription,
    PredictRequest,
    PredictResult,
)

E = TypeVar("E", bound=StrEnum)
M = TypeVar("M", bound=Message)

# --- requests ---


def predict_request(message: pb.PredictRequest) -> PredictRequest:
    """Translate a request; unset fields keep the service's defaults. Raises InvalidField."""
    return PredictRequest(image=message.image, **_set_fields(message, "top_k", "strict_input"))


def explain_request(message: pb.ExplainRequest) -> ExplainRequest:
    """Translate a request; unset fields keep the service's defaults. Raises InvalidField."""
    return ExplainRequest(
        image=message.image,
        labels=tuple(message.labels),
        heatmap_labels=tuple(message.heatmap_labels),
        render=_render_options(message.render),
        **_enum_field(message, "method", ExplanationMethod),
        **_set_fields(message, "strict_input"),
    )


def _render_options(message: pb.RenderOptions) -> RenderOptions:
    return RenderOptions(
        legend=message.legend,
        **_enum_field(message, "kind", RenderKind, "render."),
        **_enum_field(message, "frame", RenderFrame, "render."),
        **_enum_field(message, "format", RenderFormat, "render."),
        **_enum_field(message, "color_map", ColorMap, "render."),
        **_enum_field(message, "scale", HeatScale, "render."),
        **_set_fields(message, "opacity", "max_side_px"),
    )


def _set_fields(message: Any, *names: str) -> dict[str, Any]:
    return {name: getattr(message, name) for name in names if message.HasField(name)}


def _enum_field(message: Any, name: str, kind: type[E], path: str = "") -> dict[str, Any]:
    """Return the field as the server's enum; nothing if it is unspecified."""
    number = getattr(message, name)
    if number == 0:
        return {}
    enum = message.DESCRIPTOR.fields_by_name[name].enum_type
    value = enum.values_by_number.get(number)
    if value is None:
        raise InvalidField(f"{name} is not a known value", field=path + name)
    prefix = enum.values_by_number[0].name.removesuffix("UNSPECIFIED")
    return {name: kind(value.name.removeprefix(prefix))}


# --- responses ---


def predict_response(result: PredictResult, request_id: str) -> pb.PredictResponse:
    """Translate the result of Predict."""
    return pb.PredictResponse(**_common(result, request_id))


def explain_response(result: ExplainResult, request_id: str) -> pb.ExplainResponse:
    """Translate the result of Explain."""
    explanations = [_explanation(each) for each in result.explanations]
    return pb.ExplainResponse(explanations=explanations, **_common(result, request_id))


def health_response(report: HealthReport) -> pb.HealthResponse:
    """Translate the state of the service."""
    return pb.HealthResponse(
        status=_status(report.phase),
        model=_same(pb.Model, report.model) if report.model else None,
        engine=report.engine,
        device=report.device,
        server_version=__version__,
        uptime_duration=_duration(report.uptime_s),
        queue_depth=report.queue_depth,
        in_flight_count=report.in_flight_count,
    )


def describe_model_response(description: ModelDescription) -> pb.DescribeModelResponse:
    """Translate the description of the model."""
    manifest = description.model
    created = Timestamp()
    created.FromJsonString(manifest.create_time)
    return pb.DescribeModelResponse(
        model=_same(pb.Model, manifest),
        architecture=manifest.architecture,
        findings=_finding_descriptions(manifest),
        input_side_px=manifest.input_side_px,
        preprocessing_id=manifest.preprocessing_id,
        evidence_side=manifest.evidence_side,
        file_sha256={path: entry.sha256 for path, entry in manifest.files.items()},
        upstream_sha256=manifest.upstream.sha256 if manifest.upstream else "",
        limits=pb.Limits(
            max_request_bytes=description.max_request_bytes,
            min_side_px=description.limits.min_side_px,
            max_side_px=description.limits.max_side_px,
            max_pixel_count=description.limits.max_pixel_count,
        ),
        image_formats=[f"IMAGE_FORMAT_{name}" for name in description.image_formats],
        methods=[f"EXPLANATION_METHOD_{name}" for name in description.methods],
        license=manifest.license,
        notices=[description.notice, *manifest.notices],
        create_time=created,
    )


def _common(result: PredictResult, request_id: str) -> dict[str, Any]:
    """Return the fields that PredictResponse and ExplainResponse share."""
    facts = result.evidence.facts
    return {
        "findings": [_same(pb.Finding, finding) for finding in result.findings],
        "model": _same(pb.Model, result.model),
        "image_info": pb.ImageInfo(
            format=f"IMAGE_FORMAT_{facts.file_format}",
            width_px=facts.width_px,
            height_px=facts.height_px,
            bit_depth=facts.bit_depth,
            crop_box=_same(pb.Box, facts.crop),
        ),
        "warnings": [
            pb.Warning(code=f"WARNING_CODE_{warning}", message=MESSAGES[warning])
            for warning in result.warnings
        ],
        "timing": pb.Timing(
            evidence_cached=result.cached,
            **{
                f"{stage}_duration": _duration(seconds)
                for stage, seconds in result.stages.seconds().items()
            },
        ),
        "request_id": request_id,
        "notice": result.notice,
    }


def _same(kind: type[M], source: object) -> M:
    """Return a message whose fields are the source's attributes of the same names."""
    return kind(**{name: getattr(source, name) for name in kind.DESCRIPTOR.fields_by_name})


def _status(phase: Phase) -> str:
    """Return the status of a phase; the contract knows no lame duck, which drains as well."""
    shown = Phase.DRAINING if phase is Phase.LAME_DUCK else phase
    return f"SERVING_STATUS_{shown}"


def _finding_descriptions(manifest: Manifest) -> Iterable[pb.FindingDescription]:
    for row, label in enumerate(manifest.labels):
        stated = manifest.reliability.get(label)
        level = stated.level if stated and stated.level != "unknown" else "unspecified"
        yield pb.FindingDescription(
            label=label,
            class_index=manifest.class_indices[row],
            threshold=manifest.thresholds[row],
            reliability=f"RELIABILITY_{level.upper()}",
            reliability_note=stated.note if stated else "",
        )


def _explanation(each: Explanation) -> pb.Explanation:
    rows, columns = each.evidence_hw.shape
    return pb.Explanation(
        finding=_same(pb.Finding, each.finding),
        heatmap=each.heatmap,
        evidence=pb.EvidenceGrid(
            rows=rows, columns=columns, values=each.evidence_hw.ravel().tolist()
        ),
        logit=each.finding.logit,
        peak=_same(pb.Peak, each.peak) if each.peak else None,
        regions=[_region(region) for region in each.regions],
        no_positive_evidence=each.no_positive_evidence,
        method=f"EXPLANATION_METHOD_{each.method}",
    )


def _region(region: Region) -> pb.Region:
    box = _same(pb.Box, region.box)
    return pb.Region(box=box, peak_value=region.peak_value, threshold=region.threshold)


def _duration(seconds: float) -> Duration:
    message = Duration()
    message.FromNanoseconds(int(seconds * 1e9))
    return message
