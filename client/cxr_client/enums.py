"""Enums: the contract's enums as strings, so that they read and print well."""

import re
from enum import StrEnum, auto
from typing import Any, Self

from cxr.v1 import chest_xray_pb2 as pb


class ContractEnum(StrEnum):
    """An enum of the contract of the same name; `INFERNO` is `COLOR_MAP_INFERNO` there."""

    @classmethod
    def of(cls, number: int) -> Self:
        """Return the member of a received number; one newer than this client: `UNSPECIFIED`."""
        value = pb.DESCRIPTOR.enum_types_by_name[cls.__name__].values_by_number.get(number)
        name = value.name.removeprefix(cls._prefix()) if value else "UNSPECIFIED"
        return cls[name] if name in cls.__members__ else cls["UNSPECIFIED"]

    @property
    def number(self) -> Any:
        """The number to send, an int; the stubs want a type of its own for each enum."""
        values = pb.DESCRIPTOR.enum_types_by_name[type(self).__name__].values_by_name
        return values[self._prefix() + self.name].number

    @classmethod
    def _prefix(cls) -> str:
        return re.sub(r"(?<=[a-z])(?=[A-Z])", "_", cls.__name__).upper() + "_"

    @classmethod
    def _missing_(cls, value: object) -> Self:
        """Read "Grad-CAM" as well; refuse the rest with the list of what there is."""
        key = str(value).lower().replace("-", "_")
        for member in cls:
            if member.value == key:
                return member
        choices = ", ".join(member.value for member in cls if member.name != "UNSPECIFIED")
        raise ValueError(f"{value!r} is none of {choices}")


class ServingStatus(ContractEnum):
    """State of the service."""

    UNSPECIFIED = auto()
    LOADING = auto()
    SERVING = auto()
    DRAINING = auto()
    FAILED = auto()


class ExplanationMethod(ContractEnum):
    """How a map is made. All but `GRAD_CAM` need the server's torch engine."""

    UNSPECIFIED = auto()
    GRAD_CAM = auto()
    GRAD_CAM_PLUS_PLUS = auto()
    LAYER_CAM = auto()
    EIGEN_CAM = auto()
    SCORE_CAM = auto()


class RenderKind(ContractEnum):
    """What to draw: heat over the radiograph, heat alone, or nothing."""

    UNSPECIFIED = auto()
    OVERLAY = auto()
    HEATMAP = auto()
    NONE = auto()


class RenderFrame(ContractEnum):
    """The frame to draw in: the square that the network saw, or the whole image."""

    UNSPECIFIED = auto()
    MODEL_INPUT = auto()
    ORIGINAL = auto()


class ColorMap(ContractEnum):
    """Colours of a map."""

    UNSPECIFIED = auto()
    INFERNO = auto()
    VIRIDIS = auto()
    JET = auto()
    GRAY = auto()


class RenderFormat(ContractEnum):
    """Format of a picture."""

    UNSPECIFIED = auto()
    PNG = auto()
    JPEG = auto()


class HeatScale(ContractEnum):
    """What full colour means: the map's own range, or a fixed one in logits."""

    UNSPECIFIED = auto()
    PER_MAP = auto()
    FIXED = auto()


class ImageFormat(ContractEnum):
    """Format of an image file."""

    UNSPECIFIED = auto()
    PNG = auto()
    JPEG = auto()


class Reliability(ContractEnum):
    """How well a finding is known to be recognised."""

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
