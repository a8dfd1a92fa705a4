"""Results: replies of Predict and Explain -> frozen dataclasses. Next: the caller."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Self

from cxr.v1 import chest_xray_pb2 as pb
from cxr_client.answer import (
    Finding,
    ImageInfo,
    InputWarning,
    ModelInfo,
    Result,
    Timing,
    no_such_label,
)
from cxr_client.errors import ProtocolError
from cxr_client.explanation import Explanation
from cxr_client.picture import format_of


@dataclass(frozen=True, slots=True, kw_only=True)
class Prediction(Result):
    """The findings on one radiograph, best first.

    `prediction["Effusion"]` is the finding with that label; iterating yields all findings.
    `notice` is a sentence on the permitted use: show it wherever results are shown. `typicality`
    in [0, 1] is the share of the model's reference films that are less typical, None if it has no
    reference. `embedding` is empty unless it was asked for.
    """

    findings: tuple[Finding, ...]
    model: ModelInfo
    image_info: ImageInfo
    warnings: tuple[InputWarning, ...]
    timing: Timing
    request_id: str
    notice: str
    typicality: float | None = None
    embedding: tuple[float, ...] = ()

    @classmethod
    def of(cls, response: pb.PredictResponse, request_id: str) -> Self:
        """Convert from the contract.

        Raises:
            ProtocolError: The reply is incomplete.
        """
        if not (response.findings and response.HasField("model")):
            raise ProtocolError("the reply to Predict has no findings or no model")
        return cls(
            findings=tuple(Finding.of(finding) for finding in response.findings),
            model=ModelInfo.of(response.model),
            image_info=ImageInfo.of(response.image_info),
            warnings=tuple(InputWarning.of(warning) for warning in response.warnings),
            timing=Timing.of(response.timing),
            request_id=response.request_id or request_id,
            notice=response.notice,
            typicality=_typicality(response),
            embedding=tuple(response.embedding),
        )

    def __getitem__(self, label: str) -> Finding:
        """Return the finding with this label.

        Raises:
            KeyError: The answer has none.
        """
        for finding in self.findings:
            if finding.label == label:
                return finding
        labels = [finding.label for finding in self.findings]
        limit = f"it has the {len(labels)} with the highest scores; raise top_k for more"
        raise no_such_label(label, labels, limit)

    def __contains__(self, label: object) -> bool:
        return any(finding.label == label for finding in self.findings)

    def __iter__(self) -> Iterator[Finding]:
        return iter(self.findings)


@dataclass(frozen=True, slots=True, kw_only=True, repr=False)
class ExplanationSet(Result):
    """The explanations of one radiograph, one for each requested label, in that order.

    `explained["Effusion"]` is the explanation of that finding; iterating yields all explanations.
    `findings` are all findings that the model scores, best first, explained or not. `notice` is
    a sentence on the permitted use: show it wherever results are shown. `typicality` and
    `embedding` are as in `Prediction`. `radiograph` is a PNG or JPEG file of the radiograph as the
    server reads it, upright and grey; it is empty unless `RenderKind.RADIOGRAPH` was asked for.
    """

    explanations: tuple[Explanation, ...]
    findings: tuple[Finding, ...]
    model: ModelInfo
    image_info: ImageInfo
    warnings: tuple[InputWarning, ...]
    timing: Timing
    request_id: str
    notice: str
    typicality: float | None = None
    embedding: tuple[float, ...] = ()
    radiograph: bytes = b""

    @classmethod
    def of(cls, response: pb.ExplainResponse, request_id: str, labels: Sequence[str]) -> Self:
        """Convert from the contract.

        Raises:
            ProtocolError: The reply is incomplete, or explains other findings.
        """
        explanations = tuple(Explanation.of(each) for each in response.explanations)
        explained = [explanation.finding.label for explanation in explanations]
        if not (explanations and response.findings and response.HasField("model")):
            raise ProtocolError("the reply to Explain has no explanations, findings or model")
        if response.radiograph and format_of(response.radiograph) is None:
            raise ProtocolError("the radiograph in the reply is neither a PNG nor a JPEG file")
        if labels and explained != list(labels):
            raise ProtocolError("the reply to Explain explains other findings than requested")
        return cls(
            explanations=explanations,
            findings=tuple(Finding.of(finding) for finding in response.findings),
            model=ModelInfo.of(response.model),
            image_info=ImageInfo.of(response.image_info),
            warnings=tuple(InputWarning.of(warning) for warning in response.warnings),
            timing=Timing.of(response.timing),
            request_id=response.request_id or request_id,
            notice=response.notice,
            typicality=_typicality(response),
            embedding=tuple(response.embedding),
            radiograph=response.radiograph,
        )

    def __getitem__(self, label: str) -> Explanation:
        """Return the explanation of the finding with this label.

        Raises:
            KeyError: The answer has none.
        """
        for each in self.explanations:
            if each.finding.label == label:
                return each
        labels = [finding.label for finding in self.findings]
        if label in labels:
            raise KeyError(f"{label!r} is not explained in this answer: name it in labels")
        raise no_such_label(label, labels, "the model has no such finding")

    def __contains__(self, label: object) -> bool:
        return any(each.finding.label == label for each in self.explanations)

    def __iter__(self) -> Iterator[Explanation]:
        return iter(self.explanations)


def _typicality(response: pb.PredictResponse | pb.ExplainResponse) -> float | None:
    return response.typicality if response.HasField("typicality") else None
