"""The contract is whole: commented throughout, mapped by the server, fit to be evolved."""

from collections.abc import Iterator
from enum import Enum
from pathlib import Path

import pytest
from google.protobuf import descriptor_pb2
from google.protobuf.descriptor import EnumDescriptor
from grpc_tools import __file__ as grpc_tools_file
from grpc_tools import protoc

from cxr.v1 import chest_xray_pb2 as pb
from cxr_server.explanation.colormaps import ColorMap
from cxr_server.explanation.heatmap import HeatScale
from cxr_server.explanation.methods import ExplanationMethod
from cxr_server.explanation.render import RenderFormat, RenderFrame, RenderKind
from cxr_server.imaging.radiograph import InputWarning

ROOT = Path(__file__).parents[1]
PROTO = "cxr/v1/chest_xray.proto"
ENUMS: list[EnumDescriptor] = list(pb.DESCRIPTOR.enum_types_by_name.values())


@pytest.fixture(scope="module")
def described(tmp_path_factory: pytest.TempPathFactory) -> descriptor_pb2.FileDescriptorProto:
    """The contract with its comments, which the stubs do not carry."""
    out = tmp_path_factory.mktemp("contract") / "set.binpb"
    known = Path(grpc_tools_file).with_name("_proto")  # google/protobuf/*.proto
    words = [f"-I{ROOT / 'protos'}", f"-I{known}", f"-o{out}", "--include_source_info", PROTO]
    assert protoc.main(["protoc", *words]) == 0
    (file,) = descriptor_pb2.FileDescriptorSet.FromString(out.read_bytes()).file
    return file


def paths(file: descriptor_pb2.FileDescriptorProto) -> Iterator[tuple[tuple[int, ...], str]]:
    """Path (in the sense of SourceCodeInfo) and name of everything that is to be commented."""
    for i, service in enumerate(file.service):
        yield (6, i), service.name
        yield from (((6, i, 2, j), method.name) for j, method in enumerate(service.method))
    for i, message in enumerate(file.message_type):
        yield (4, i), message.name
        for j, field in enumerate(message.field):
            yield (4, i, 2, j), f"{message.name}.{field.name}"
    for i, enum in enumerate(file.enum_type):
        yield (5, i), enum.name
        yield from (((5, i, 2, j), value.name) for j, value in enumerate(enum.value))


def test_every_element_is_commented(described: descriptor_pb2.FileDescriptorProto) -> None:
    commented = {
        tuple(place.path)
        for place in described.source_code_info.location
        if len(place.leading_comments.strip()) > 5
    }
    elements = dict(paths(described))
    assert len(elements) > 150
    assert [name for path, name in elements.items() if path not in commented] == []


@pytest.mark.parametrize("enum", ENUMS, ids=lambda enum: enum.name)
def test_every_enum_starts_unspecified_and_carries_its_prefix(enum: EnumDescriptor) -> None:
    prefix = "".join("_" + c if c.isupper() else c for c in enum.name).lstrip("_").upper() + "_"
    assert enum.values[0].number == 0
    assert all(value.name.startswith(prefix) for value in enum.values)
    assert enum.values[0].name.endswith("_UNSPECIFIED")


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
