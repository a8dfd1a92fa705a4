"""Description: replies of Health and DescribeModel -> frozen dataclasses. Next: the caller."""

from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Self

from cxr.v1 import chest_xray_pb2 as pb
from cxr_client.answer import ModelInfo, Result, SameFields
from cxr_client.enums import ExplanationMethod, ImageFormat, Reliability, ServingStatus
from cxr_client.errors import ProtocolError
from cxr_client.quantization import Quantization
from cxr_client.refit import FindingRefit, Refit


@dataclass(frozen=True, slots=True, kw_only=True)
class Health(Result):
    """State of the service; `model` is None while it is loading."""

    status: ServingStatus
    model: ModelInfo | None
    engine: str
    device: str
    precision: str
    server_version: str
    uptime_s: float
    queue_depth: int
    in_flight_count: int
    request_id: str

    @property
    def serving(self) -> bool:
        """Whether the service answers Predict and Explain."""
        return self.status is ServingStatus.SERVING

    @classmethod
    def of(cls, response: pb.HealthResponse, request_id: str) -> Self:
        """Convert from the contract.

        Raises:
            ProtocolError: The reply has no status.
        """
        if response.status == pb.SERVING_STATUS_UNSPECIFIED:
            raise ProtocolError("the reply to Health has no status")
        return cls(
            status=ServingStatus.of(response.status),
            model=ModelInfo.of(response.model) if response.HasField("model") else None,
            engine=response.engine,
            device=response.device,
            precision=response.precision,
            server_version=response.server_version,
            uptime_s=response.uptime_duration.ToNanoseconds() / 1e9,
            queue_depth=response.queue_depth,
            in_flight_count=response.in_flight_count,
            request_id=request_id,
        )


@dataclass(frozen=True, slots=True)
class FindingDescription:
    """One finding that the model scores, and how reliable its score is.

    `refit` is None for findings that were not refitted.
    """

    label: str
    class_index: int
    threshold: float
    reliability: Reliability
    reliability_note: str
    refit: FindingRefit | None = None

    @classmethod
    def of(cls, finding: pb.FindingDescription) -> Self:
        """Convert from the contract."""
        return cls(
            label=finding.label,
            class_index=finding.class_index,
            threshold=finding.threshold,
            reliability=Reliability.of(finding.reliability),
            reliability_note=finding.reliability_note,
            refit=FindingRefit.of(finding.refit) if finding.HasField("refit") else None,
        )


@dataclass(frozen=True, slots=True)
class ServedModel:
    """A model of the server, and the name to ask for it by."""

    name: str
    model: ModelInfo

    @classmethod
    def of(cls, served: pb.ServedModel) -> Self:
        """Convert from the contract."""
        return cls(served.name, ModelInfo.of(served.model))


@dataclass(frozen=True, slots=True)
class Limits(SameFields):
    """The server's limits on requests; `max_drawn_pixels` are of all pictures of one Explain.

    `max_bulk_in_flight_count` of the `max_in_flight_count` calls may be of the priority "bulk".
    """

    max_request_bytes: int
    min_side_px: int
    max_side_px: int
    max_pixel_count: int
    max_drawn_pixels: int
    max_in_flight_count: int
    max_bulk_in_flight_count: int


@dataclass(frozen=True, slots=True, kw_only=True)
class ModelDescription(Result):
    """The loaded model, its findings in the order of `class_index`, its limits and options.

    `refit` is None for operating points of the model's authors, `quantization` for models in float.
    """

    model: ModelInfo
    served_models: tuple[ServedModel, ...]
    """All models of the server, the default first."""
    architecture: str
    findings: tuple[FindingDescription, ...]
    input_side_px: int
    preprocessing_id: str
    evidence_side: int
    file_sha256: dict[str, str]
    upstream_sha256: str
    limits: Limits
    image_formats: tuple[ImageFormat, ...]
    methods: tuple[ExplanationMethod, ...]
    license: str
    notices: tuple[str, ...]
    create_time: datetime | None
    precision: str
    request_id: str
    refit: Refit | None = None
    quantization: Quantization | None = None

    @classmethod
    def of(cls, response: pb.DescribeModelResponse, request_id: str) -> Self:
        """Convert from the contract.

        Raises:
            ProtocolError: The reply has no model or no findings.
        """
        if not (response.findings and response.HasField("model")):
            raise ProtocolError("the reply to DescribeModel has no findings or no model")
        return cls(
            model=ModelInfo.of(response.model),
            served_models=tuple(ServedModel.of(served) for served in response.served_models),
            architecture=response.architecture,
            findings=tuple(FindingDescription.of(finding) for finding in response.findings),
            input_side_px=response.input_side_px,
            preprocessing_id=response.preprocessing_id,
            evidence_side=response.evidence_side,
            file_sha256=dict(response.file_sha256),
            upstream_sha256=response.upstream_sha256,
            limits=Limits.of(response.limits),
            image_formats=tuple(ImageFormat.of(number) for number in response.image_formats),
            methods=tuple(ExplanationMethod.of(number) for number in response.methods),
            license=response.license,
            notices=tuple(response.notices),
            create_time=(
                response.create_time.ToDatetime(tzinfo=UTC)
                if response.HasField("create_time")
                else None
            ),
            precision=response.precision,
            request_id=request_id,
            refit=Refit.of(response.refit) if response.HasField("refit") else None,
            quantization=(
                Quantization.of(response.quantization)
                if response.HasField("quantization")
                else None
            ),
        )
