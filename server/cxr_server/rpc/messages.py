"""Messages: the service's results -> the contract's responses."""

from google.protobuf.duration_pb2 import Duration

from cxr.v1 import chest_xray_pb2 as pb
from cxr_server.bundles.manifest import Manifest
from cxr_server.explanation.explain import Explanation
from cxr_server.geometry import Box
from cxr_server.imaging.quality import MESSAGES
from cxr_server.inference.model_input import ImageFacts
from cxr_server.inference.scoring import Finding
from cxr_server.service import ExplainResult, PredictResult, Result


def model_of(manifest: Manifest) -> pb.Model:
    """The model, as every response names it."""
    return pb.Model(
        name=manifest.name,
        version=manifest.version,
        weights_sha256=manifest.weights_sha256,
        intended_use=manifest.intended_use,
    )


def predict_response(result: PredictResult, request_id: str) -> pb.PredictResponse:
    """Return the response to Predict."""
    return pb.PredictResponse(
        findings=[finding_of(finding) for finding in result.findings],
        model=model_of(result.model),
        image_info=_image_info(result.evidence.facts),
        warnings=_warnings(result),
        timing=_timing(result),
        request_id=request_id,
        notice=result.notice,
    )


def explain_response(result: ExplainResult, request_id: str) -> pb.ExplainResponse:
    """Return the response to Explain."""
    return pb.ExplainResponse(
        explanations=[_explanation(each) for each in result.explanations],
        findings=[finding_of(finding) for finding in result.findings],
        model=model_of(result.model),
        image_info=_image_info(result.evidence.facts),
        warnings=_warnings(result),
        timing=_timing(result),
        request_id=request_id,
        notice=result.notice,
    )


def finding_of(finding: Finding) -> pb.Finding:
    """One finding."""
    return pb.Finding(
        label=finding.label,
        class_index=finding.class_index,
        score=finding.score,
        probability=finding.probability,
        threshold=finding.threshold,
        above_threshold=finding.above_threshold,
    )


def duration(seconds: float) -> Duration:
    """Seconds as a Duration."""
    message = Duration()
    message.FromNanoseconds(int(seconds * 1e9))
    return message


def _explanation(each: Explanation) -> pb.Explanation:
    rows, columns = each.evidence_hw.shape
    message = pb.Explanation(
        finding=finding_of(each.finding),
        heatmap=each.heatmap,
        evidence=pb.EvidenceGrid(
            rows=rows, columns=columns, values=each.evidence_hw.ravel().tolist()
        ),
        logit=each.finding.logit,
        regions=[
            pb.Region(
                box=_box(region.box), peak_value=region.peak_value, threshold=region.threshold
            )
            for region in each.regions
        ],
        no_positive_evidence=each.no_positive_evidence,
        method=f"EXPLANATION_METHOD_{each.method}",
    )
    if each.peak:
        message.peak.CopyFrom(
            pb.Peak(x_px=each.peak.x_px, y_px=each.peak.y_px, value=each.peak.value)
        )
    return message


def _image_info(facts: ImageFacts) -> pb.ImageInfo:
    return pb.ImageInfo(
        format=f"IMAGE_FORMAT_{facts.file_format}",
        width_px=facts.width_px,
        height_px=facts.height_px,
        bit_depth=facts.bit_depth,
        crop_box=_box(facts.crop),
    )


def _box(box: Box) -> pb.Box:
    return pb.Box(x_px=box.x_px, y_px=box.y_px, width_px=box.width_px, height_px=box.height_px)


def _warnings(result: Result) -> list[pb.Warning]:
    return [
        pb.Warning(code=f"WARNING_CODE_{warning.name}", message=MESSAGES[warning])
        for warning in result.warnings
    ]


def _timing(result: Result) -> pb.Timing:
    timing = pb.Timing(evidence_cached=result.cached)
    for stage, seconds in result.stages.seconds().items():
        getattr(timing, f"{stage}_duration").CopyFrom(duration(seconds))
    return timing
