"""Requests: requests to the service, independent of the transport. Next: service."""

from dataclasses import dataclass

from cxr_server.errors import InvalidField
from cxr_server.explanation.methods import METHODS, ExplanationMethod
from cxr_server.explanation.options import HeatScale, RenderOptions
from cxr_server.imaging.radiograph import DecodeOptions, ImageBytes
from cxr_server.inference.cache import CacheMode

MAX_LABELS = 256


@dataclass(frozen=True, slots=True, kw_only=True)
class PredictRequest:
    """Fields and defaults as in the contract. Raises InvalidField."""

    image: ImageBytes
    top_k: int = 5
    strict_input: bool = False
    dicom: DecodeOptions = DecodeOptions()  # noqa: RUF009 -- frozen
    include_embedding: bool = False
    model: str = ""
    cache: CacheMode = CacheMode.USE

    def __post_init__(self) -> None:
        if self.top_k < 1:
            raise InvalidField("top_k must be at least 1", field="top_k")


@dataclass(frozen=True, slots=True, kw_only=True)
class ExplainRequest:
    """Fields and defaults as in the contract. Raises InvalidField."""

    image: ImageBytes
    labels: tuple[str, ...] = ()
    heatmap_labels: tuple[str, ...] = ()
    method: ExplanationMethod = ExplanationMethod.GRAD_CAM
    render: RenderOptions = RenderOptions()  # noqa: RUF009 -- frozen
    strict_input: bool = False
    dicom: DecodeOptions = DecodeOptions()  # noqa: RUF009 -- frozen
    include_embedding: bool = False
    model: str = ""
    cache: CacheMode = CacheMode.USE

    def __post_init__(self) -> None:
        if len(self.labels) > MAX_LABELS:
            raise InvalidField(f"labels may be at most {MAX_LABELS}", field="labels")
        if len(set(self.labels)) < len(self.labels):
            raise InvalidField("labels must differ from each other", field="labels")
        if not set(self.heatmap_labels) <= set(self.labels):
            raise InvalidField("heatmap_labels must be among labels", field="heatmap_labels")
        if self.render.scale is HeatScale.FIXED and METHODS[self.method].needs_engine:
            raise InvalidField(
                f"{self.method} makes relative maps, without a unit: "
                "scale FIXED is for method GRAD_CAM",
                field="render.scale",
            )
