"""Messages: the contract's messages -> the service's requests, and its results -> messages.

Enums have the same names on both sides, but for the contract's prefix.
"""

from collections.abc import Iterable
from enum import StrEnum
from functools import cache
from typing import Any, TypeVar

from google.protobuf import timestamp
from google.protobuf.descriptor import Descriptor
from google.protobuf.message import DecodeError, Message

from cxr.v1 import chest_xray_pb2 as pb
from cxr_server import __version__
from cxr_server.bundles.manifest import Manifest
from cxr_server.bundles.quantization import Quantization
from cxr_server.bundles.refit import Refit
from cxr_server.errors import InvalidField
from cxr_server.explanation.colormaps import ColorMap
from cxr_server.explanation.methods import Explanation, ExplanationMethod
from cxr_server.explanation.options import (
    HeatScale,
    RenderFormat,
    RenderFrame,
    RenderKind,
    RenderOptions,
)
from cxr_server.imaging import quality
from cxr_server.imaging.radiograph import DecodeOptions, DicomPresentation, ImageBytes
from cxr_server.inference.cache import CacheMode
from cxr_server.inference.scoring import Finding
from cxr_server.lifecycle import Phase
from cxr_server.requests import ExplainRequest, PredictRequest
from cxr_server.results import ExplainResult, HealthReport, ModelDescription, PredictResult
from cxr_server.rpc.wire import field_head, split_first

Asked = TypeVar("Asked", pb.PredictRequest, pb.ExplainRequest)

_ENUMS: dict[str, type[StrEnum]] = {
    kind.__name__: kind
    for kind in (
        CacheMode,
        ColorMap,
        DicomPresentation,
        ExplanationMethod,
        HeatScale,
        RenderFormat,
        RenderFrame,
        RenderKind,
    )
}


def predict_request(request: pb.PredictRequest | bytes) -> PredictRequest:
    """Translate a request, serialised or not; unset fields keep the service's defaults.

    Raises InvalidField.
    """
    image, message = _image_and_rest(pb.PredictRequest, request)
    fields = {"image": image, **_set_fields(message)}
    if "dicom" in fields:
        fields["dicom"] = DecodeOptions(**_set_fields(message.dicom, "dicom."))
    return PredictRequest(**fields)


def explain_request(request: pb.ExplainRequest | bytes) -> ExplainRequest:
    """Translate a request, serialised or not; unset fields keep the service's defaults.

    Raises InvalidField.
    """
    image, message = _image_and_rest(pb.ExplainRequest, request)
    fields = {"image": image, **_set_fields(message)}
    for name in fields.keys() & {"labels", "heatmap_labels"}:
        fields[name] = tuple(fields[name])
    if "render" in fields:
        fields["render"] = RenderOptions(**_set_fields(message.render, "render."))
    if "dicom" in fields:
        fields["dicom"] = DecodeOptions(**_set_fields(message.dicom, "dicom."))
    return ExplainRequest(**fields)


def _image_and_rest(kind: type[Asked], request: Asked | bytes) -> tuple[ImageBytes, Asked]:
    """Return a view of the image that bytes begin with, and a message of what follows it.

    The message has the image if it came in another way. Raises InvalidField.
    """
    if not isinstance(request, bytes):
        return b"", request
    image, rest = split_first(request, kind.IMAGE_FIELD_NUMBER)
    if not rest:
        return image, kind()
    try:
        message = kind.FromString(rest)
        if message.ByteSize() < len(rest):  # it may say again that there is no image
            return b"", kind.FromString(request)
        return image, message
    except DecodeError:
        raise InvalidField("the request is not a valid message of this method") from None


def _set_fields(message: Message, path: str = "") -> dict[str, Any]:
    """Return the fields that are set, by name; enums as the server's. `path` is for errors."""
    fields: dict[str, Any] = {}
    for field, value in message.ListFields():
        if enum := field.enum_type:
            if value not in enum.values_by_number:
                raise InvalidField(f"{field.name} is not a known value", field=path + field.name)
            prefix = enum.values_by_number[0].name.removesuffix("UNSPECIFIED")
            value = _ENUMS[enum.name](enum.values_by_number[value].name.removeprefix(prefix))
        fields[field.name] = value
    return fields


def predict_response(result: PredictResult, request_id: str) -> pb.PredictResponse:
    """Translate the result of Predict."""
    return pb.PredictResponse(**_common(result, request_id))


def explain_response(result: ExplainResult, request_id: str) -> bytes:
    """Translate the result of Explain to a serialised ExplainResponse.

    Pictures are put between the other bytes as they are: protobuf would copy each several times.
    """
    parts = [pb.ExplainResponse(**_common(result, request_id)).SerializeToString()]
    for each in result.explanations:
        message = _explanation(each).SerializeToString()
        picture_head = field_head(pb.Explanation.HEATMAP_FIELD_NUMBER, len(each.heatmap))
        size = len(message) + len(picture_head) + len(each.heatmap)
        head = field_head(pb.ExplainResponse.EXPLANATIONS_FIELD_NUMBER, size)
        parts += head, message, picture_head, each.heatmap
    head = field_head(pb.ExplainResponse.RADIOGRAPH_FIELD_NUMBER, len(result.radiograph))
    parts += head, result.radiograph
    return b"".join(parts)


def health_response(report: HealthReport) -> pb.HealthResponse:
    """Translate the state of the service."""
    # The contract knows no lame duck, which drains as well.
    phase = Phase.DRAINING if report.phase is Phase.LAME_DUCK else report.phase
    fields = _fields(
        pb.HealthResponse,
        report,
        status=f"SERVING_STATUS_{phase}",
        model=model_fields(report.model, report.precision) if report.model else None,
        server_version=__version__,
        uptime_duration=_duration(report.uptime_s),
    )
    return pb.HealthResponse(**fields)


def describe_model_response(description: ModelDescription) -> pb.DescribeModelResponse:
    """Translate the description of the model."""
    manifest, limits = description.model, description.limits
    fields = _fields(
        pb.DescribeModelResponse,
        manifest,
        model=model_fields(manifest, description.precision),
        served_models=[
            {"name": name, "model": model_fields(each.manifest, each.precision)}
            for name, each in description.served.items()
        ],
        architecture=manifest.network.name,
        findings=_finding_descriptions(manifest),
        file_sha256={path: entry.sha256 for path, entry in manifest.files.items()},
        upstream_sha256=manifest.upstream.sha256 if manifest.upstream else "",
        limits=_fields(
            pb.Limits,
            limits,
            max_request_bytes=description.max_request_bytes,
            max_drawn_pixels=description.max_drawn_pixels,
            max_in_flight_count=description.max_in_flight_count,
            max_bulk_in_flight_count=description.max_bulk_in_flight_count,
        ),
        image_formats=[f"IMAGE_FORMAT_{name}" for name in description.image_formats],
        methods=[f"EXPLANATION_METHOD_{name}" for name in description.methods],
        notices=[manifest.notice, *manifest.notices],
        create_time=timestamp.from_json_string(manifest.create_time),
        precision=description.precision,
        refit=_refit(manifest.refit) if manifest.refit else None,
        quantization=_quantization(manifest.quantization) if manifest.quantization else None,
    )
    return pb.DescribeModelResponse(**fields)


def model_fields(manifest: Manifest, precision: str) -> dict[str, Any]:
    """Return the fields of a Model, whose engine computes in a precision."""
    return _fields(pb.Model, manifest, precision=precision)


def _common(result: PredictResult, request_id: str) -> dict[str, Any]:
    """Return the fields that PredictResponse and ExplainResponse share."""
    facts, stages = result.evidence.facts, result.stages.seconds()
    durations = {f"{stage}_duration": _duration(seconds) for stage, seconds in stages.items()}
    presentation = f"DICOM_PRESENTATION_{facts.presentation or 'UNSPECIFIED'}"
    return {
        "findings": [_finding(finding) for finding in result.findings],
        "model": model_fields(result.model, result.precision),
        "image_info": _fields(
            pb.ImageInfo,
            facts,
            format=f"IMAGE_FORMAT_{facts.file_format}",
            crop_box=_fields(pb.Box, facts.crop),
            presentation=presentation,
        ),
        "warnings": [
            {
                "code": f"WARNING_CODE_{warning}",
                "message": quality.message(warning, facts.display_range, facts.presentation),
            }
            for warning in result.warnings
        ],
        "timing": {"evidence_cached": result.cached, **durations},
        "request_id": request_id,
        "notice": result.model.notice,
        "typicality": result.evidence.typicality,
        "embedding": result.evidence.embedding_c if result.include_embedding else None,
    }


def _finding(finding: Finding) -> dict[str, Any]:
    """Return the fields of a Finding, in half the time of `_fields`: an answer has many of them."""
    return {
        "label": finding.label,
        "class_index": finding.class_index,
        "score": finding.score,
        "probability": finding.probability,
        "threshold": finding.threshold,
        "above_threshold": finding.above_threshold,
        "calibrated_probability": finding.calibrated_probability,
    }


def _fields(kind: type[Message], source: object, **given: Any) -> dict[str, Any]:
    """Return a message's fields: those `given`, and all others of the source, by their names.

    Parts of a message stay such dictionaries: protobuf would copy messages.
    """
    for name in _names_besides(kind.DESCRIPTOR, tuple(given)):
        given[name] = getattr(source, name)
    return given


@cache
def _names_besides(descriptor: Descriptor, given: tuple[str, ...]) -> tuple[str, ...]:
    return tuple(name for name in descriptor.fields_by_name if name not in given)


def _finding_descriptions(manifest: Manifest) -> Iterable[dict[str, Any]]:
    for row, label in enumerate(manifest.labels):
        stated = manifest.reliability.get(label)
        level = stated.level if stated and stated.level != "unknown" else "unspecified"
        yield {
            "label": label,
            "class_index": manifest.class_indices[row],
            "threshold": manifest.thresholds[row],
            "reliability": f"RELIABILITY_{level.upper()}",
            "reliability_note": stated.note if stated else "",
            "refit": _finding_refit(manifest, label),
        }


def _refit(refit: Refit) -> dict[str, Any]:
    return _fields(
        pb.Refit,
        refit,
        labels_sha256=refit.labels_sha256 or "",
        split=refit.split_sentence,
        calibration_method=refit.calibration_method or "",
    )


def _quantization(stated: Quantization) -> dict[str, Any]:
    found = stated.differences
    return _fields(
        pb.Quantization,
        stated,
        film_count=found.film_count,
        max_probability_difference=found.max_probability,
        mean_probability_difference=found.mean_probability,
        max_score_difference=found.max_score,
        mean_score_difference=found.mean_score,
        changed_side_count=found.changed_side_count,
        far_changed_side_count=found.far_changed_side_count,
        evidence_correlation=found.evidence_correlation,
        low_evidence_correlation=found.low_evidence_correlation,
        planted=found.planted and _fields(pb.PlantedFindings, found.planted),
    )


def _finding_refit(manifest: Manifest, label: str) -> dict[str, Any] | None:
    stated = manifest.refit.findings.get(label) if manifest.refit else None
    if not stated:
        return None
    estimates = {
        name: value and _fields(pb.Estimate, value)
        for name, value in (
            ("sensitivity", stated.sensitivity),
            ("specificity", stated.specificity),
        )
    }
    figures: dict[str, Any] = {"raw": None, "calibrated": None}
    if stated.calibration:
        for name in figures:
            figures[name] = _fields(pb.CalibrationFigures, getattr(stated.calibration, name))
    return _fields(pb.FindingRefit, stated, **estimates, **figures)


def _explanation(each: Explanation) -> pb.Explanation:
    """Translate an explanation, without its picture."""
    rows, columns = each.evidence_hw.shape
    values = each.evidence_hw.ravel().tolist()
    fields = _fields(
        pb.Explanation,
        each,
        finding=_finding(each.finding),
        heatmap=b"",
        evidence={"rows": rows, "columns": columns, "values": values},
        logit=each.finding.logit,
        peak=_fields(pb.Peak, each.peak) if each.peak else None,
        regions=[_fields(pb.Region, it, box=_fields(pb.Box, it.box)) for it in each.regions],
        method=f"EXPLANATION_METHOD_{each.method}",
    )
    return pb.Explanation(**fields)


def _duration(seconds: float) -> dict[str, int]:
    whole, rest = divmod(seconds, 1)
    return {"seconds": int(whole), "nanos": int(1e9 * rest)}
