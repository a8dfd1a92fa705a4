"""Parts that several replies share, as frozen dataclasses. Next: explanation, results."""

import dataclasses
import difflib
from collections.abc import Iterable
from dataclasses import dataclass
from datetime import datetime
from typing import Any, Self

from google.protobuf.duration_pb2 import Duration
from google.protobuf.message import Message

from cxr.v1 import chest_xray_pb2 as pb
from cxr_client.enums import DicomPresentation, ImageFormat, WarningCode
from cxr_client.picture import shown


class Result:
    """A dataclass that a call returns."""

    __slots__ = ()

    def to_dict(self) -> dict[str, Any]:
        """Return the fields as JSON values, without pictures."""
        fields: dict[str, Any] = _plain(dataclasses.asdict(self))  # type: ignore[call-overload]
        return fields

    def __repr__(self) -> str:
        # A picture has hundreds of kilobytes, and belongs neither on a terminal nor in a log.
        names = [field.name for field in dataclasses.fields(self)]  # type: ignore[arg-type]
        values = ((name, getattr(self, name)) for name in names)
        texts = (
            f"{name}={shown(value) if isinstance(value, bytes) else repr(value)}"
            for name, value in values
        )
        return f"{type(self).__name__}({', '.join(texts)})"


class SameFields:
    """A dataclass with the fields of its message in the contract."""

    __slots__ = ()

    @classmethod
    def of(cls, message: Message) -> Self:
        """Convert from the contract."""
        names = cls.__dataclass_fields__  # type: ignore[attr-defined]
        return cls(**{name: getattr(message, name) for name in names})


@dataclass(frozen=True, slots=True)
class Box(SameFields):
    """A box in the original (upright) image; its right and lower edges are exclusive."""

    x_px: int
    y_px: int
    width_px: int
    height_px: int


@dataclass(frozen=True, slots=True)
class Finding:
    """One finding with its scores on one radiograph.

    `score` in [0, 1] is the operating-point score: 0.5 is the decision boundary. It is not a
    probability, and not comparable between findings as one. `probability` is the network's raw
    sigmoid output, uncalibrated; `threshold` is the `probability` at which `score` is 0.5.
    `calibrated_probability` is the share of positives among films of that `probability` that the
    model was calibrated with, `ModelDescription.refit`; None if it was not.
    """

    label: str
    class_index: int
    score: float
    probability: float
    threshold: float
    above_threshold: bool
    calibrated_probability: float | None = None

    @classmethod
    def of(cls, finding: pb.Finding) -> Self:
        """Convert from the contract."""
        calibrated = finding.HasField("calibrated_probability")
        return cls(
            label=finding.label,
            class_index=finding.class_index,
            score=finding.score,
            probability=finding.probability,
            threshold=finding.threshold,
            above_threshold=finding.above_threshold,
            calibrated_probability=finding.calibrated_probability if calibrated else None,
        )


@dataclass(frozen=True, slots=True)
class ModelInfo(SameFields):
    """The model that answered. The engine computes in `precision`, as `Health` tells it, too."""

    name: str
    version: str
    weights_sha256: str
    intended_use: str
    precision: str

    @property
    def reduced_precision(self) -> str:
        """What a model in float32 is computed in if that is less: "tf32", "float16" or "bfloat16".

        Empty otherwise: name, version and hash tell a model in int8 from one in float32.
        """
        return "" if self.precision in ("", "float32", "int8") else self.precision


@dataclass(frozen=True, slots=True)
class ImageInfo:
    """Facts about the decoded image; sizes are of the upright image.

    The network saw only `crop_box`. `presentation` says how stored values became grey; it is
    UNSPECIFIED for files other than DICOM.
    """

    format: ImageFormat
    width_px: int
    height_px: int
    bit_depth: int
    crop_box: Box
    presentation: DicomPresentation

    @classmethod
    def of(cls, info: pb.ImageInfo) -> Self:
        """Convert from the contract."""
        return cls(
            format=ImageFormat.of(info.format),
            width_px=info.width_px,
            height_px=info.height_px,
            bit_depth=info.bit_depth,
            crop_box=Box.of(info.crop_box),
            presentation=DicomPresentation.of(info.presentation),
        )


@dataclass(frozen=True, slots=True)
class InputWarning:
    """Something that makes an answer less trustworthy: `Warning` in the contract."""

    code: WarningCode
    message: str

    @classmethod
    def of(cls, warning: Any) -> Self:
        """Convert from the contract; its type stub mistakes `Warning` for Python's."""
        return cls(WarningCode.of(warning.code), warning.message)


@dataclass(frozen=True, slots=True)
class Timing:
    """Time spent in each stage on the server, in ms; None for a stage that did not run."""

    decode_ms: float | None
    queue_ms: float | None
    inference_ms: float | None
    render_ms: float | None
    evidence_cached: bool

    @classmethod
    def of(cls, timing: pb.Timing) -> Self:
        """Convert from the contract."""

        def ms(stage: str, duration: Duration) -> float | None:
            return duration.ToNanoseconds() / 1e6 if timing.HasField(stage) else None

        return cls(
            decode_ms=ms("decode_duration", timing.decode_duration),
            queue_ms=ms("queue_duration", timing.queue_duration),
            inference_ms=ms("inference_duration", timing.inference_duration),
            render_ms=ms("render_duration", timing.render_duration),
            evidence_cached=timing.evidence_cached,
        )


def no_such_label(label: object, labels: Iterable[str], otherwise: str) -> KeyError:
    """Return the error for a label that is not among those of a reply.

    Args:
        label: What was asked for.
        labels: Those that the reply has.
        otherwise: What to say where none of them resembles it.
    """
    near = difflib.get_close_matches(str(label).title(), labels, n=1, cutoff=0.75)
    hint = f"did you mean {near[0]!r}?" if near else otherwise
    return KeyError(f"this answer has no {label!r}: {hint}")


def _plain(value: Any) -> Any:
    match value:
        case dict():
            return {key: _plain(each) for key, each in value.items() if not isinstance(each, bytes)}
        case list() | tuple():
            return [_plain(each) for each in value]
        case datetime():
            return value.isoformat()
        case _:
            return value
