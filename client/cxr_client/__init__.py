"""Client of cxr-serve: chest radiographs in, findings and heatmaps out. Research use only.

`Client` blocks, `AsyncClient` awaits; both return the dataclasses of `results` and
`description` and raise the exceptions of `errors`. What happens in between, in order:
`requests` -> `calls` -> `client` -> the server -> `results` or `errors`.
"""

from cxr_client.answer import Box, Caution, Finding, ImageInfo, ModelInfo, Timing
from cxr_client.client import AsyncClient, Client
from cxr_client.description import FindingDescription, Health, Limits, ModelDescription
from cxr_client.enums import (
    ColorMap,
    ExplanationMethod,
    HeatScale,
    ImageFormat,
    Reliability,
    RenderFrame,
    RenderKind,
    ServingStatus,
    WarningCode,
)
from cxr_client.errors import (
    CallCancelledError,
    CxrError,
    DeadlineError,
    FieldViolation,
    ImageError,
    InternalError,
    InvalidRequestError,
    MethodUnavailableError,
    OverloadedError,
    ProtocolError,
    RequestTooLargeError,
    UnauthenticatedError,
    UnavailableError,
    UnknownLabelError,
)
from cxr_client.requests import ImageSource, RenderOptions
from cxr_client.results import (
    EvidenceGrid,
    Explanation,
    ExplanationSet,
    Peak,
    Prediction,
    Region,
)

__version__ = "0.1.0"

__all__ = [
    "AsyncClient",
    "Box",
    "CallCancelledError",
    "Caution",
    "Client",
    "ColorMap",
    "CxrError",
    "DeadlineError",
    "EvidenceGrid",
    "Explanation",
    "ExplanationMethod",
    "ExplanationSet",
    "FieldViolation",
    "Finding",
    "FindingDescription",
    "Health",
    "HeatScale",
    "ImageError",
    "ImageFormat",
    "ImageInfo",
    "ImageSource",
    "InternalError",
    "InvalidRequestError",
    "Limits",
    "MethodUnavailableError",
    "ModelDescription",
    "ModelInfo",
    "OverloadedError",
    "Peak",
    "Prediction",
    "ProtocolError",
    "Region",
    "Reliability",
    "RenderFrame",
    "RenderKind",
    "RenderOptions",
    "RequestTooLargeError",
    "ServingStatus",
    "Timing",
    "UnauthenticatedError",
    "UnavailableError",
    "UnknownLabelError",
    "WarningCode",
]
