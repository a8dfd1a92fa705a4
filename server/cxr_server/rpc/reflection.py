"""Reflection: `grpc.reflection` v1 and v1alpha, with JSON names in the descriptors.

protoc leaves `json_name` out of the descriptors in Python stubs. Clients that build messages
from served descriptors (grpcurl among them) would then print `image_info` instead of
`imageInfo`, so the names are filled in here.
"""

import re
from typing import Any

import grpc
from google.protobuf import descriptor_pb2, descriptor_pool, json_format
from google.rpc import error_details_pb2
from grpc_reflection.v1alpha import reflection_pb2, reflection_pb2_grpc
from grpc_reflection.v1alpha._async import ReflectionServicer

V1 = "grpc.reflection.v1.ServerReflection"
V1ALPHA = "grpc.reflection.v1alpha.ServerReflection"


def enable(server: grpc.aio.Server, *services: str) -> None:
    """Serve the descriptors of these services, of reflection itself and of error details.

    Args:
        server: The server to add both versions of reflection to.
        services: Full names of services whose descriptors are in protobuf's default pool.
    """
    names = (*services, V1, V1ALPHA)
    servicer: Any = ReflectionServicer(names, pool=_pool(*services))
    reflection_pb2_grpc.add_ServerReflectionServicer_to_server(servicer, server)
    # Both versions have the same messages; grpcio-reflection ships only v1alpha.
    handler = grpc.stream_stream_rpc_method_handler(
        servicer.ServerReflectionInfo,
        reflection_pb2.ServerReflectionRequest.FromString,
        reflection_pb2.ServerReflectionResponse.SerializeToString,
    )
    handlers = {"ServerReflectionInfo": handler}
    server.add_generic_rpc_handlers((grpc.method_handlers_generic_handler(V1, handlers),))


def _pool(*services: str) -> descriptor_pool.DescriptorPool:
    """Return a pool of the services' files and all that they import, with JSON names."""
    known, pool = descriptor_pool.Default(), descriptor_pool.DescriptorPool()
    added: set[str] = set()

    def add(file: Any) -> None:
        if file.name in added:
            return
        added.add(file.name)
        for dependency in file.dependencies:
            add(dependency)
        proto = descriptor_pb2.FileDescriptorProto()
        file.CopyToProto(proto)
        _fill_json_names(proto)
        pool.Add(proto)

    for symbol in (*services, V1ALPHA, error_details_pb2.ErrorInfo.DESCRIPTOR.full_name):
        add(known.FindFileContainingSymbol(symbol))
    alpha = descriptor_pb2.FileDescriptorProto()
    pool.FindFileContainingSymbol(V1ALPHA).CopyToProto(alpha)
    text = json_format.MessageToJson(alpha).replace("v1alpha", "v1")
    pool.Add(json_format.Parse(text, descriptor_pb2.FileDescriptorProto()))
    return pool


def _fill_json_names(
    proto: descriptor_pb2.FileDescriptorProto | descriptor_pb2.DescriptorProto,
) -> None:
    messages = proto.message_type if hasattr(proto, "message_type") else proto.nested_type
    fields = [] if hasattr(proto, "message_type") else proto.field
    for field in (*fields, *proto.extension):
        field.json_name = field.json_name or _json_name(field.name)
    for message in messages:
        _fill_json_names(message)


def _json_name(name: str) -> str:
    """Return a field's default JSON name: `image_info` -> `imageInfo`."""
    return re.sub(r"_+(.)?", lambda found: (found[1] or "").upper(), name)
