"""Client of cxr-serve: chest radiographs in, findings and heatmaps out. Research use only.

`Client` blocks, `AsyncClient` awaits. Both return the dataclasses of `results` and `description`
and raise the exceptions of `errors`. The dataflow: `images`, `requests` -> `calls` -> `client` ->
server -> `results` or `failures`. A server that cannot be reached is logged once, as a warning of
the logger "cxr_client". `cxr_client.testing` has a fake server for the tests of callers.
"""

from cxr_client.answer import Box, Finding, ImageInfo, InputWarning, ModelInfo, Timing
from cxr_client.async_client import AsyncClient
from cxr_client.client import Client
from cxr_client.config import BalancingConfig, RetryConfig, TLSConfig
from cxr_client.description import FindingDescription, Health, Limits, ModelDescription, ServedModel
from cxr_client.enums import (
    CacheMode,
    ColorMap,
    DicomPresentation,
    ExplanationMethod,
    HeatScale,
    ImageFormat,
    Reliability,
    RenderFormat,
    RenderFrame,
    RenderKind,
    ServingStatus,
    WarningCode,
)
from cxr_client.errors import (
    CallCancelledError,
    ConfigError,
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
    ResponseTooLargeError,
    UnauthenticatedError,
    UnavailableError,
    UnknownLabelError,
    UnknownModelError,
)
from cxr_client.explanation import EvidenceGrid, Explanation, Peak, Region
from cxr_client.images import ImageSource
from cxr_client.quantization import PlantedFindings, Quantization
from cxr_client.refit import CalibrationFigures, Estimate, FindingRefit, Refit
from cxr_client.requests import RenderOptions
from cxr_client.results import ExplanationSet, Prediction

__version__ = "0.1.0"

__all__ = [
    "AsyncClient",
    "BalancingConfig",
    "Box",
    "CacheMode",
    "CalibrationFigures",
    "CallCancelledError",
    "Client",
    "ColorMap",
    "ConfigError",
    "CxrError",
    "DeadlineError",
    "DicomPresentation",
    "Estimate",
    "EvidenceGrid",
    "Explanation",
    "ExplanationMethod",
    "ExplanationSet",
    "FieldViolation",
    "Finding",
    "FindingDescription",
    "FindingRefit",
    "Health",
    "HeatScale",
    "ImageError",
    "ImageFormat",
    "ImageInfo",
    "ImageSource",
    "InputWarning",
    "InternalError",
    "InvalidRequestError",
    "Limits",
    "MethodUnavailableError",
    "ModelDescription",
    "ModelInfo",
    "OverloadedError",
    "Peak",
    "PlantedFindings",
    "Prediction",
    "ProtocolError",
    "Quantization",
    "Refit",
    "Region",
    "Reliability",
    "RenderFormat",
    "RenderFrame",
    "RenderKind",
    "RenderOptions",
    "RequestTooLargeError",
    "ResponseTooLargeError",
    "RetryConfig",
    "ServedModel",
    "ServingStatus",
    "TLSConfig",
    "Timing",
    "UnauthenticatedError",
    "UnavailableError",
    "UnknownLabelError",
    "UnknownModelError",
    "WarningCode",
]
