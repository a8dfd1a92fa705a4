"""Enums of the contract as string enums. The value is the contract's name without its prefix."""

import re
from enum import StrEnum, auto
from typing import Any, Literal, Self

from cxr.v1 import chest_xray_pb2 as pb


class ContractEnum(StrEnum):
    """The enum of the same name in the contract; `INFERNO` is `COLOR_MAP_INFERNO` there.

    Python, the command line, JSON, CSV and the contract use one spelling: `INFERNO`. Input is
    case-insensitive and may contain hyphens: `ExplanationMethod("grad-cam")`. Type checkers accept
    the one spelling only, which the `Literal` beside an enum lists. Enums that a server answers
    with also have UNSPECIFIED, for values that are newer than this client.
    """

    @staticmethod
    def _generate_next_value_(name: str, *_: object) -> str:
        return name

    @classmethod
    def choices(cls) -> list[str]:
        """Return the names that a caller may choose: all but UNSPECIFIED."""
        return [member.value for member in cls if member.name != "UNSPECIFIED"]

    @classmethod
    def of(cls, number: int) -> Self:
        """Return the member of a received number; UNSPECIFIED for one that is unknown here.

        Raises:
            KeyError: It is unknown, and servers do not answer with this enum.
        """
        value = pb.DESCRIPTOR.enum_types_by_name[cls.__name__].values_by_number.get(number)
        name = value.name.removeprefix(cls._prefix()) if value else "UNSPECIFIED"
        return cls[name] if name in cls.__members__ else cls["UNSPECIFIED"]

    @property
    def number(self) -> Any:
        """The number to send, an int; the type stubs declare a type for each enum."""
        values = pb.DESCRIPTOR.enum_types_by_name[type(self).__name__].values_by_name
        return values[self._prefix() + self.name].number

    @classmethod
    def _prefix(cls) -> str:
        return re.sub(r"(?<=[a-z])(?=[A-Z])", "_", cls.__name__).upper() + "_"

    @classmethod
    def _missing_(cls, value: object) -> Self:
        """Accept "Grad-CAM" as well; refuse other values with the list of choices."""
        member = cls.__members__.get(str(value).upper().replace("-", "_"))
        if member is None:
            raise ValueError(f"{value!r} is not one of {', '.join(cls.choices())}")
        return member


class ServingStatus(ContractEnum):
    """State of the service."""

    UNSPECIFIED = auto()
    LOADING = auto()
    SERVING = auto()
    DRAINING = auto()
    FAILED = auto()


class ExplanationMethod(ContractEnum):
    """How a map is made. Every server offers GRAD_CAM; see `ModelDescription.methods`."""

    UNSPECIFIED = auto()
    GRAD_CAM = auto()
    GRAD_CAM_PLUS_PLUS = auto()
    LAYER_CAM = auto()
    EIGEN_CAM = auto()
    SCORE_CAM = auto()


ExplanationMethodName = Literal[
    "GRAD_CAM", "GRAD_CAM_PLUS_PLUS", "LAYER_CAM", "EIGEN_CAM", "SCORE_CAM"
]
"""The names of `ExplanationMethod`."""


class RenderKind(ContractEnum):
    """What to draw: heat over the radiograph, heat alone, nothing, or the radiograph alone."""

    OVERLAY = auto()
    HEATMAP = auto()
    NONE = auto()
    RADIOGRAPH = auto()


RenderKindName = Literal["OVERLAY", "HEATMAP", "NONE", "RADIOGRAPH"]
"""The names of `RenderKind`."""


class RenderFrame(ContractEnum):
    """The frame to draw in: the square that the network saw, or the whole image."""

    MODEL_INPUT = auto()
    ORIGINAL = auto()


RenderFrameName = Literal["MODEL_INPUT", "ORIGINAL"]
"""The names of `RenderFrame`."""


class ColorMap(ContractEnum):
    """Colours of a map."""

    INFERNO = auto()
    VIRIDIS = auto()
    JET = auto()
    GRAY = auto()


ColorMapName = Literal["INFERNO", "VIRIDIS", "JET", "GRAY"]
"""The names of `ColorMap`."""


class RenderFormat(ContractEnum):
    """Format of a picture."""

    PNG = auto()
    JPEG = auto()


RenderFormatName = Literal["PNG", "JPEG"]
"""The names of `RenderFormat`."""


class HeatScale(ContractEnum):
    """What full colour means: the map's own range, or a fixed one in logits."""

    PER_MAP = auto()
    FIXED = auto()


HeatScaleName = Literal["PER_MAP", "FIXED"]
"""The names of `HeatScale`."""


class ImageFormat(ContractEnum):
    """Format of an image file."""

    UNSPECIFIED = auto()
    PNG = auto()
    JPEG = auto()
    DICOM = auto()


class CacheMode(ContractEnum):
    """Whether the server may use evidence that it keeps of earlier calls."""

    UNSPECIFIED = auto()
    USE = auto()
    BYPASS = auto()


CacheModeName = Literal["USE", "BYPASS"]
"""The names of `CacheMode`."""


class DicomPresentation(ContractEnum):
    """How stored values of a DICOM image become grey: as viewers show it, or unchanged."""

    UNSPECIFIED = auto()
    AS_SHOWN = auto()
    STORED = auto()


DicomPresentationName = Literal["AS_SHOWN", "STORED"]
"""The names of `DicomPresentation`."""


class Reliability(ContractEnum):
    """How reliably a finding is recognised."""

    UNSPECIFIED = auto()
    CONSISTENT = auto()
    UNEVEN = auto()
    WEAK = auto()


class WarningCode(ContractEnum):
    """What makes an answer less trustworthy."""

    UNSPECIFIED = auto()
    PHANTOM_MODEL = auto()
    CROPPED = auto()
    LOW_RESOLUTION = auto()
    LOW_CONTRAST = auto()
    CLIPPED = auto()
    POSSIBLY_INVERTED = auto()
    COLOR = auto()
    TRANSPARENT = auto()
    UNUSUAL_ASPECT_RATIO = auto()
    REORIENTED = auto()
    RANGE_UNUSED = auto()
    LATERAL_VIEW = auto()
    MIRRORED = auto()
    NOT_CHEST = auto()
    FOR_PROCESSING = auto()
    BURNED_IN_ANNOTATION = auto()
    PIXELS_NOT_SQUARE = auto()
    PRESENTATION_CONFLICT = auto()
    POSSIBLY_ROTATED = auto()
    POSSIBLY_NOT_CHEST = auto()
    LETTERBOXED = auto()
    UNTYPICAL_IMAGE = auto()
    POSSIBLY_PHOTOGRAPH = auto()
