"""The contract is mapped completely by the server. Its comments and names are linted by buf."""

from enum import Enum
from pathlib import Path

import pytest
from google.protobuf.descriptor import EnumDescriptor

from cxr.v1 import chest_xray_pb2 as pb
from cxr_server.explanation.colormaps import ColorMap
from cxr_server.explanation.heatmap import HeatScale
from cxr_server.explanation.methods import ExplanationMethod
from cxr_server.explanation.render import RenderFormat, RenderFrame, RenderKind
from cxr_server.imaging.radiograph import InputWarning

ROOT = Path(__file__).parents[1]


@pytest.mark.parametrize(
    ("ours", "theirs", "prefix"),
    [
        (InputWarning, pb.WarningCode.DESCRIPTOR, "WARNING_CODE_"),
        (ColorMap, pb.ColorMap.DESCRIPTOR, "COLOR_MAP_"),
        (HeatScale, pb.HeatScale.DESCRIPTOR, "HEAT_SCALE_"),
        (ExplanationMethod, pb.ExplanationMethod.DESCRIPTOR, "EXPLANATION_METHOD_"),
        (RenderFormat, pb.RenderFormat.DESCRIPTOR, "RENDER_FORMAT_"),
        (RenderFrame, pb.RenderFrame.DESCRIPTOR, "RENDER_FRAME_"),
        (RenderKind, pb.RenderKind.DESCRIPTOR, "RENDER_KIND_"),
    ],
    ids=lambda value: getattr(value, "__name__", ""),
)
def test_the_pipelines_words_are_the_contracts(
    ours: type[Enum], theirs: EnumDescriptor, prefix: str
) -> None:
    names = {value.name.removeprefix(prefix) for value in theirs.values}
    assert {member.name for member in ours} == names - {"UNSPECIFIED"}


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
