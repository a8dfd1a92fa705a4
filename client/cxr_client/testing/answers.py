"""Answers: plausible responses to any request, without a model."""

import base64
import math
from typing import Any

from google.protobuf.duration_pb2 import Duration
from google.protobuf.message import Message

from cxr.v1 import chest_xray_pb2 as pb

NOTICE = "Answered by a fake server: for tests of software only."

_MODEL = pb.Model(
    name="fake",
    version="1",
    weights_sha256="00" * 32,
    intended_use="tests",
    precision="float32",
)
_FINDINGS = (
    pb.Finding(
        label="Effusion",
        class_index=0,
        score=0.75,
        probability=0.625,
        threshold=0.25,
        above_threshold=True,
    ),
    pb.Finding(label="Cardiomegaly", class_index=1, score=0.25, probability=0.25, threshold=0.5),
    pb.Finding(label="Nodule", class_index=2, score=0.125, probability=0.0625, threshold=0.25),
)
_EMBEDDING = (0.0, 0.5, 1.25, 0.0)
_GRID_SIDE = 7
_IMAGE = pb.ImageInfo(
    format=pb.IMAGE_FORMAT_PNG,
    width_px=640,
    height_px=480,
    bit_depth=8,
    crop_box=pb.Box(x_px=80, y_px=0, width_px=480, height_px=480),
)
# Grey pictures of 8 x 8 pixels, with the mark of cxr-serve's own heat maps.
_HEATMAPS = {
    pb.RENDER_FORMAT_PNG: base64.b64decode(
        "iVBORw0KGgoAAAANSUhEUgAAAAgAAAAICAAAAADhZOFXAAAAG3RFWHRjeHItc2VydmUAeyJtb2RlbCI6ICJmYWtl"
        "In3NESakAAAAEElEQVR4nGNMYIAAJgaKGAAdKABwUSM10wAAAABJRU5ErkJggg=="
    ),
    pb.RENDER_FORMAT_JPEG: base64.b64decode(
        "/9j/4AAQSkZJRgABAQAAAQABAAD//gAdY3hyLXNlcnZlIHsibW9kZWwiOiAiZmFrZSJ9/9sAQwADAgIDAgIDAwMD"
        "BAMDBAUIBQUEBAUKBwcGCAwKDAwLCgsLDQ4SEA0OEQ4LCxAWEBETFBUVFQwPFxgWFBgSFBUU/8AACwgACAAIAQER"
        "AP/EABQAAQAAAAAAAAAAAAAAAAAAAAf/xAAUEAEAAAAAAAAAAAAAAAAAAAAA/9oACAEBAAA/ACp//9k="
    ),
}
# The same without the mark.
_RADIOGRAPHS = {
    pb.RENDER_FORMAT_PNG: base64.b64decode(
        "iVBORw0KGgoAAAANSUhEUgAAAAgAAAAICAAAAADhZOFXAAAAEElEQVR4nGNMYIAAJgaKGAAdKABwUSM10wAAAABJRU5E"
        "rkJggg=="
    ),
    pb.RENDER_FORMAT_JPEG: base64.b64decode(
        "/9j/4AAQSkZJRgABAQAAAQABAAD/2wBDAAMCAgMCAgMDAwMEAwMEBQgFBQQEBQoHBwYIDAoMDAsKCwsNDhIQDQ4RDgsL"
        "EBYQERMUFRUVDA8XGBYUGBIUFRT/wAALCAAIAAgBAREA/8QAFAABAAAAAAAAAAAAAAAAAAAAB//EABQQAQAAAAAAAAAA"
        "AAAAAAAAAAD/2gAIAQEAAD8AKn//2Q=="
    ),
}


def default_answer(request: Any) -> Message:
    """Return the default response to a request of `cxr.v1.chest_xray_pb2`.

    Predict and Explain know three findings, of which "Effusion" is above its operating point.
    Explain also explains labels that are unknown, with the numbers of "Effusion".
    """
    match request:
        case pb.PredictRequest():
            top_k = request.top_k if request.HasField("top_k") else len(_FINDINGS)
            return pb.PredictResponse(findings=_FINDINGS[:top_k], **_common(request))
        case pb.ExplainRequest():
            explanations = [
                _explanation(label, request) for label in request.labels or [_FINDINGS[0].label]
            ]
            render = request.render
            shows_radiograph = render.kind == pb.RENDER_KIND_RADIOGRAPH
            return pb.ExplainResponse(
                explanations=explanations,
                findings=_FINDINGS,
                radiograph=_RADIOGRAPHS[_format_of(render)] if shows_radiograph else b"",
                **_common(request),
            )
        case pb.HealthRequest():
            return pb.HealthResponse(
                status=pb.SERVING_STATUS_SERVING,
                model=_MODEL,
                engine="fake",
                device="CPU",
                precision="float32",
                server_version="fake",
                uptime_duration=Duration(seconds=60),
            )
        case pb.DescribeModelRequest():
            return _description()
    raise TypeError(f"no answer to a {type(request).__name__}")


def _common(request: pb.PredictRequest | pb.ExplainRequest) -> dict[str, Any]:
    return {
        "model": _MODEL,
        "image_info": _IMAGE,
        "timing": pb.Timing(
            decode_duration=Duration(nanos=1_500_000),
            queue_duration=Duration(),
            inference_duration=Duration(nanos=20_000_000),
        ),
        "notice": NOTICE,
        "typicality": 0.5,
        "embedding": _EMBEDDING if request.include_embedding else (),
    }


def _explanation(label: str, request: pb.ExplainRequest) -> pb.Explanation:
    finding = pb.Finding()
    finding.CopyFrom(next((each for each in _FINDINGS if each.label == label), _FINDINGS[0]))
    finding.label = label
    logit = math.log(finding.probability / (1 - finding.probability))
    render = request.render
    draws_maps = render.kind not in (pb.RENDER_KIND_RADIOGRAPH, pb.RENDER_KIND_NONE)
    drawn = draws_maps and label in (request.heatmap_labels or [label])
    cell_px = _IMAGE.crop_box.width_px / _GRID_SIDE
    middle = _GRID_SIDE // 2
    return pb.Explanation(
        finding=finding,
        heatmap=_HEATMAPS[_format_of(render)] if drawn else b"",
        # A single cell in the middle carries all of the evidence: the mean is 1.
        evidence=pb.EvidenceGrid(
            rows=_GRID_SIDE,
            columns=_GRID_SIDE,
            values=[
                _GRID_SIDE**2 if cell == _GRID_SIDE**2 // 2 else 0 for cell in range(_GRID_SIDE**2)
            ],
        ),
        logit=logit,
        peak=pb.Peak(x_px=_IMAGE.width_px / 2, y_px=_IMAGE.height_px / 2, value=1),
        regions=[
            pb.Region(
                box=pb.Box(
                    x_px=round(_IMAGE.crop_box.x_px + middle * cell_px),
                    y_px=round(middle * cell_px),
                    width_px=round(cell_px),
                    height_px=round(cell_px),
                ),
                peak_value=1,
                threshold=0.5,
            )
        ],
        method=request.method or pb.EXPLANATION_METHOD_GRAD_CAM,
    )


def _format_of(render: pb.RenderOptions) -> pb.RenderFormat:
    return render.format or pb.RENDER_FORMAT_PNG


def _description() -> pb.DescribeModelResponse:
    return pb.DescribeModelResponse(
        model=_MODEL,
        served_models=[pb.ServedModel(name=_MODEL.name, model=_MODEL)],
        architecture="fake",
        findings=[
            pb.FindingDescription(
                label=each.label, class_index=each.class_index, threshold=each.threshold
            )
            for each in _FINDINGS
        ],
        input_side_px=224,
        preprocessing_id="fake",
        evidence_side=_GRID_SIDE,
        limits=pb.Limits(
            max_request_bytes=32 * 2**20,
            min_side_px=32,
            max_side_px=16_384,
            max_pixel_count=100_000_000,
            max_drawn_pixels=100_000_000,
            max_in_flight_count=64,
            max_bulk_in_flight_count=32,
        ),
        image_formats=[pb.IMAGE_FORMAT_PNG, pb.IMAGE_FORMAT_JPEG],
        methods=[pb.EXPLANATION_METHOD_GRAD_CAM],
        license="Apache-2.0",
        notices=[NOTICE],
        precision="float32",
    )
