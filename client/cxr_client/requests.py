"""Requests: a caller's arguments -> request messages. Next: calls."""

import os
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from cxr.v1 import chest_xray_pb2 as pb
from cxr_client.channel import StrPath
from cxr_client.enums import ColorMap, ExplanationMethod, HeatScale, RenderFrame, RenderKind

ImageSource = bytes | bytearray | memoryview | StrPath
"""The bytes of a PNG or JPEG file, or the path of one."""


@dataclass(frozen=True, slots=True, kw_only=True)
class RenderOptions:
    """How to draw a map. What is None is left to the server's default.

    Enums may be given by name: `RenderOptions(frame="original", color_map="viridis")`.

    Attributes:
        kind: What to draw; the default is heat over the radiograph.
        frame: The square that the network saw (default), or the whole image.
        color_map: Colours; the default is inferno.
        opacity: Opacity of full heat over the radiograph, in [0, 1]; the default is 0.5.
        legend: Whether to draw a colour scale beside the map; the default is not to.
        max_side_px: Longest side of the picture, from 32 to 4096 pixels; the default is 1024.
        scale: What full colour means; the default is the map's own range.
    """

    kind: RenderKind | str | None = None
    frame: RenderFrame | str | None = None
    color_map: ColorMap | str | None = None
    opacity: float | None = None
    legend: bool | None = None
    max_side_px: int | None = None
    scale: HeatScale | str | None = None

    def to_proto(self) -> pb.RenderOptions:
        """Convert to the contract.

        Raises:
            ValueError: An enum has no such member.
        """
        return pb.RenderOptions(
            kind=None if self.kind is None else RenderKind(self.kind).number,
            frame=None if self.frame is None else RenderFrame(self.frame).number,
            color_map=None if self.color_map is None else ColorMap(self.color_map).number,
            opacity=self.opacity,
            legend=self.legend,
            max_side_px=self.max_side_px,
            scale=None if self.scale is None else HeatScale(self.scale).number,
        )


def read_image(image: ImageSource, max_bytes: int) -> bytes:
    """Return the bytes of an image; of a file, never more than `max_bytes` + 1.

    Raises:
        OSError: The file cannot be read.
    """
    if isinstance(image, str | os.PathLike):
        with Path(image).open("rb") as file:
            return file.read(max_bytes + 1)
    return bytes(image)


def predict_request(
    image: bytes, *, top_k: int | None, strict_input: bool | None
) -> pb.PredictRequest:
    """Build the request of Predict."""
    return pb.PredictRequest(image=image, top_k=top_k, strict_input=strict_input)


def explain_request(
    image: bytes,
    *,
    labels: Sequence[str],
    method: ExplanationMethod | str | None,
    render: RenderOptions | None,
    strict_input: bool | None,
) -> pb.ExplainRequest:
    """Build the request of Explain.

    Raises:
        ValueError: An enum has no such member.
    """
    return pb.ExplainRequest(
        image=image,
        labels=labels,
        method=None if method is None else ExplanationMethod(method).number,
        render=None if render is None else render.to_proto(),
        strict_input=strict_input,
    )
