"""Results: answers of the service, independent of the transport. Next: rpc."""

from dataclasses import dataclass

from cxr_server.bundles.manifest import Manifest
from cxr_server.explanation.methods import Explanation, ExplanationMethod
from cxr_server.imaging.radiograph import DecodeLimits, InputWarning
from cxr_server.inference.model_input import Evidence
from cxr_server.inference.scoring import Finding
from cxr_server.lifecycle import Phase
from cxr_server.model import ServedModel
from cxr_server.observability.stages import Stage, Stages


@dataclass(frozen=True, slots=True, kw_only=True)
class PredictResult:
    """What was found in an image: findings best first, and the evidence that they rest on."""

    findings: tuple[Finding, ...]
    evidence: Evidence
    stages: Stages
    model: Manifest
    precision: str
    include_embedding: bool = False

    @property
    def cached(self) -> bool:
        """Whether the evidence came from the cache."""
        return Stage.INFERENCE not in [span.stage for span in self.stages.spans]

    @property
    def warnings(self) -> tuple[InputWarning, ...]:
        """What makes the result less trustworthy."""
        of_model = (InputWarning.PHANTOM_MODEL,) if self.model.phantom else ()
        return of_model + self.evidence.warnings


@dataclass(frozen=True, slots=True, kw_only=True)
class ExplainResult(PredictResult):
    """The same, with the explanations in the order of the request's labels.

    `radiograph` is a file in `RenderOptions.format`, empty unless it was asked for.
    """

    explanations: tuple[Explanation, ...]
    radiograph: bytes


@dataclass(frozen=True, slots=True, kw_only=True)
class HealthReport:
    """The state of the service; `model` is None and the engine's names empty while loading."""

    phase: Phase
    uptime_s: float
    in_flight_count: int
    model: Manifest | None = None
    engine: str = ""
    device: str = ""
    precision: str = ""
    queue_depth: int = 0


@dataclass(frozen=True, slots=True, kw_only=True)
class ModelDescription:
    """A loaded model, the limits on requests and the options; `served` are all models by name."""

    model: Manifest
    served: dict[str, ServedModel]
    limits: DecodeLimits
    max_request_bytes: int
    max_drawn_pixels: int
    max_in_flight_count: int
    max_bulk_in_flight_count: int
    image_formats: tuple[str, ...]
    methods: tuple[ExplanationMethod, ...]
    precision: str
