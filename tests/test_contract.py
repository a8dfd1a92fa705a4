"""The contract is mapped completely by the server. Its comments and names are linted by buf."""

from collections.abc import Iterable
from typing import get_args, get_type_hints

import pytest
from google.protobuf.descriptor import EnumDescriptor

from cxr.v1 import chest_xray_pb2 as pb
from cxr_server.bundles.manifest import Reliability
from cxr_server.explanation.colormaps import ColorMap
from cxr_server.explanation.methods import ExplanationMethod
from cxr_server.explanation.options import HeatScale, RenderFormat, RenderFrame, RenderKind
from cxr_server.imaging.codecs import CODECS
from cxr_server.imaging.radiograph import DicomPresentation, InputWarning
from cxr_server.inference.cache import CacheMode
from cxr_server.lifecycle import Phase

ENUMS: list[EnumDescriptor] = list(pb.DESCRIPTOR.enum_types_by_name.values())


SERVED: dict[str, Iterable[str]] = {
    "CacheMode": CacheMode,
    "ColorMap": ColorMap,
    "DicomPresentation": DicomPresentation,
    "ExplanationMethod": ExplanationMethod,
    "HeatScale": HeatScale,
    "ImageFormat": CODECS,
    "Reliability": get_args(get_type_hints(Reliability)["level"]),
    "RenderFormat": RenderFormat,
    "RenderFrame": RenderFrame,
    "RenderKind": RenderKind,
    "ServingStatus": {phase for phase in Phase if phase is not Phase.LAME_DUCK},
    "WarningCode": InputWarning,
}
"""Names that the server has for the values of each enum of the contract."""


@pytest.mark.parametrize("enum", ENUMS, ids=lambda enum: enum.name)
def test_the_server_names_every_value_as_the_contract_does(enum: EnumDescriptor) -> None:
    prefix = enum.values[0].name.removesuffix("UNSPECIFIED")
    names = {value.name.removeprefix(prefix) for value in enum.values} - {"UNSPECIFIED"}
    assert {str(name).upper() for name in SERVED[enum.name]} - {"UNKNOWN"} == names


def test_the_stubs_serve_what_the_contract_says() -> None:
    (service,) = pb.DESCRIPTOR.services_by_name.values()
    assert service.full_name == "cxr.v1.ChestXrayService"
    assert [method.name for method in service.methods] == [
        "Predict",
        "Explain",
        "Health",
        "DescribeModel",
    ]
    for method in service.methods:
        assert method.input_type.name == f"{method.name}Request"
        assert method.output_type.name == f"{method.name}Response"
        assert not method.client_streaming
        assert not method.server_streaming
