"""Messages: the pipeline's results -> the contract's. Protos stop here."""

from collections.abc import Iterable

from google.protobuf.duration_pb2 import Duration

from cxr.v1 import chest_xray_pb2 as pb
from cxr_server.bundles.manifest import Manifest
from cxr_server.explanation.explain import Explanation
from cxr_server.geometry import Box
from cxr_server.imaging.quality import MESSAGES
from cxr_server.imaging.radiograph import InputWarning
from cxr_server.inference.model_input import Evidence, ImageFacts
from cxr_server.inference.scoring import Finding
from cxr_server.service import Explained, Predicted, Times

NOTICE = "For research use only. Not for diagnosis, and not a medical device."
PHANTOM_NOTICE = (
    "Phantom model: trained on drawings, for trying out and testing the system. "
    "Its scores say nothing about people. " + NOTICE
)


def notice_of(manifest: Manifest) -> str:
    """The sentence on the permitted use."""
    return PHANTOM_NOTICE if manifest.phantom else NOTICE


def model_of(manifest: Manifest) -> pb.Model:
    """The model, as every response names it."""
    return pb.Model(
        name=manifest.name,
        version=manifest.version,
        weights_sha256=manifest.weights_sha256,
        intended_use=manifest.intended_use,
    )


def predict_response(
    predicted: Predicted, top_k: int, manifest: Manifest, request_id: str
) -> pb.PredictResponse:
    """The best `top_k` findings and the common part."""
    return pb.PredictResponse(
        findings=[finding_of(finding) for finding in predicted.findings[:top_k]],
        model=model_of(manifest),
        image_info=_image_info(predicted.evidence.facts),
        warnings=_warnings(predicted.evidence, manifest),
        timing=_timing(predicted.times),
        request_id=request_id,
        notice=notice_of(manifest),
    )


def explain_response(
    explained: Explained, manifest: Manifest, request_id: str
) -> pb.ExplainResponse:
    """The explanations and the common part."""
    return pb.ExplainResponse(
        explanations=[_explanation(each) for each in explained.explanations],
        model=model_of(manifest),
        image_info=_image_info(explained.evidence.facts),
        warnings=_warnings(explained.evidence, manifest),
        timing=_timing(explained.times),
        request_id=request_id,
        notice=notice_of(manifest),
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


def _warnings(evidence: Evidence, manifest: Manifest) -> Iterable[pb.Warning]:
    of_model = (InputWarning.PHANTOM_MODEL,) if manifest.phantom else ()
    return [
        pb.Warning(code=f"WARNING_CODE_{warning.name}", message=MESSAGES[warning])
        for warning in (*of_model, *evidence.warnings)
    ]


def _timing(times: Times) -> pb.Timing:
    timing = pb.Timing(evidence_cached=times.cached)
    for stage in ("decode", "queue", "inference", "render"):
        seconds = getattr(times, f"{stage}_s")
        if seconds is not None:
            getattr(timing, f"{stage}_duration").CopyFrom(duration(seconds))
    return timing
