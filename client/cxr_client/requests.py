"""Requests: a caller's arguments -> request messages. Next: calls."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from cxr.v1 import chest_xray_pb2 as pb
from cxr_client.enums import (
    CacheMode,
    CacheModeName,
    ColorMap,
    ColorMapName,
    ContractEnum,
    DicomPresentation,
    DicomPresentationName,
    ExplanationMethod,
    ExplanationMethodName,
    HeatScale,
    HeatScaleName,
    RenderFormat,
    RenderFormatName,
    RenderFrame,
    RenderFrameName,
    RenderKind,
    RenderKindName,
)


@dataclass(frozen=True, slots=True, kw_only=True)
class RenderOptions:
    """How to draw a map. None leaves an option to the server's default.

    Enums may be given by name: `RenderOptions(frame="ORIGINAL", color_map="VIRIDIS")`.
    """

    kind: RenderKind | RenderKindName | None = None
    """What to draw. Default: OVERLAY, heat over the radiograph. With RADIOGRAPH no map is drawn:
    `ExplanationSet.radiograph` is the radiograph as the server reads it."""

    frame: RenderFrame | RenderFrameName | None = None
    """The frame to draw in. Default: MODEL_INPUT, the square that the network saw."""

    color_map: ColorMap | ColorMapName | None = None
    """Colours. Default: INFERNO."""

    opacity: float | None = None
    """Opacity of full heat over the radiograph, in [0, 1]. Default: 0.5."""

    legend: bool | None = None
    """Whether to draw a panel beside the map with finding, score, model and scale. Default: no."""

    max_side_px: int | None = None
    """Longest side of the picture, from 32 to 4096 pixels. Default: 1024."""

    scale: HeatScale | HeatScaleName | None = None
    """What full colour means. Default: PER_MAP, the map's own range, but of at least 10 logits."""

    format: RenderFormat | RenderFormatName | None = None
    """Format of the picture. Default: PNG. An overlay as JPEG is about a fifth as large."""

    fixed_scale_logits: float | None = None
    """Evidence of full colour with scale FIXED, from 10 to 1000 logits. Default: 25."""

    contours: bool | None = None
    """Whether to draw the outlines of the regions. Default: no."""

    def to_proto(self) -> pb.RenderOptions:
        """Convert to the contract.

        Raises:
            ValueError: An enum has no such member.
        """
        return pb.RenderOptions(
            kind=_number(RenderKind, self.kind),
            frame=_number(RenderFrame, self.frame),
            color_map=_number(ColorMap, self.color_map),
            opacity=self.opacity,
            legend=_optional(self.legend),
            max_side_px=self.max_side_px,
            scale=_number(HeatScale, self.scale),
            format=_number(RenderFormat, self.format),
            fixed_scale_logits=self.fixed_scale_logits,
            contours=_optional(self.contours),
        )


def predict_request(
    image: bytes,
    *,
    top_k: int | None,
    strict_input: bool | None,
    presentation: DicomPresentation | DicomPresentationName | None,
    include_embedding: bool | None,
    cache: CacheMode | CacheModeName | None,
    model: str = "",
) -> pb.PredictRequest:
    """Build the request of Predict.

    Raises:
        ValueError: An enum has no such member.
    """
    return pb.PredictRequest(
        image=image,
        top_k=top_k,
        strict_input=_optional(strict_input),
        dicom=_dicom_options(presentation),
        include_embedding=_optional(include_embedding),
        cache=_number(CacheMode, cache),
        model=model,
    )


def explain_request(
    image: bytes,
    *,
    labels: Sequence[str],
    heatmap_labels: Sequence[str],
    method: ExplanationMethod | ExplanationMethodName | None,
    render: RenderOptions | None,
    strict_input: bool | None,
    presentation: DicomPresentation | DicomPresentationName | None,
    include_embedding: bool | None,
    cache: CacheMode | CacheModeName | None,
    model: str = "",
) -> pb.ExplainRequest:
    """Build the request of Explain.

    Raises:
        TypeError: `render` is not a `RenderOptions`.
        ValueError: An enum has no such member.
    """
    if not isinstance(render, RenderOptions | None):
        raise TypeError(
            f"render is of the type {type(render).__name__}; pass RenderOptions(frame=...)"
        )
    return pb.ExplainRequest(
        image=image,
        labels=labels,
        heatmap_labels=heatmap_labels,
        method=_number(ExplanationMethod, method),
        render=None if render is None else render.to_proto(),
        strict_input=_optional(strict_input),
        dicom=_dicom_options(presentation),
        include_embedding=_optional(include_embedding),
        cache=_number(CacheMode, cache),
        model=model,
    )


def _dicom_options(
    presentation: DicomPresentation | DicomPresentationName | None,
) -> pb.DicomOptions | None:
    if presentation is None:
        return None
    return pb.DicomOptions(presentation=_number(DicomPresentation, presentation))


def _number(enum: type[ContractEnum], value: ContractEnum | str | None) -> Any:
    if value is None:
        return None
    member = enum(value)
    if member.name == "UNSPECIFIED":
        raise ValueError(f"{value!r} is not one of {', '.join(enum.choices())}")
    return member.number


def _optional(value: bool | None) -> Any:
    """Return the value; the type stubs omit that an optional bool may be None."""
    return value
