"""Reflection: `grpc.reflection` v1 and v1alpha, with JSON names in the descriptors.

protoc leaves `json_name` out of the descriptors in Python stubs. Clients that build messages
from served descriptors (grpcurl among them) would then print `image_info` instead of
`imageInfo`, so the names are filled in here.
"""

import asyncio
import re
from collections.abc import AsyncIterator
from typing import Any

import grpc
from google.protobuf import descriptor_pool, json_format
from google.protobuf.descriptor_pb2 import FileDescriptorProto
from google.rpc import error_details_pb2
from grpc_reflection.v1alpha import reflection_pb2, reflection_pb2_grpc
from grpc_reflection.v1alpha._async import ReflectionServicer

from cxr_server.lifecycle import Lifecycle, Phase
from cxr_server.rpc.methods import Methods

V1 = "grpc.reflection.v1.ServerReflection"
V1ALPHA = "grpc.reflection.v1alpha.ServerReflection"
METHODS = tuple(f"{service}/ServerReflectionInfo" for service in (V1, V1ALPHA))


class _Reflection(ReflectionServicer):  # type: ignore[misc]
    """Answers until the server drains: tools keep their streams, and each would delay its end."""

    def __init__(self, lifecycle: Lifecycle, *services: str) -> None:
        super().__init__((*services, V1, V1ALPHA), pool=_pool(*services))
        self._lifecycle = lifecycle

    async def ServerReflectionInfo(
        self, request_iterator: AsyncIterator[Any], context: Any
    ) -> AsyncIterator[Any]:
        """Answer each request of a stream."""
        requests = self._until_draining(request_iterator)
        async for answer in super().ServerReflectionInfo(requests, context):
            yield answer

    async def _until_draining(self, requests: AsyncIterator[Any]) -> AsyncIterator[Any]:
        iterator, draining = aiter(requests), asyncio.ensure_future(self._draining())
        try:
            while True:
                coming = asyncio.ensure_future(anext(iterator, None))
                await asyncio.wait({coming, draining}, return_when=asyncio.FIRST_COMPLETED)
                if not coming.done():
                    coming.cancel()
                    return
                if (request := coming.result()) is None:
                    return
                yield request
        finally:
            draining.cancel()

    async def _draining(self) -> None:
        while self._lifecycle.phase is not Phase.DRAINING:
            await self._lifecycle.change.wait()


def enable(methods: Methods, lifecycle: Lifecycle, *services: str) -> None:
    """Serve the descriptors of these services, of reflection itself and of error details."""
    servicer: Any = _Reflection(lifecycle, *services)
    reflection_pb2_grpc.add_ServerReflectionServicer_to_server(servicer, methods)
    # Both versions have the same messages; grpcio-reflection ships only v1alpha.
    handler = grpc.stream_stream_rpc_method_handler(
        servicer.ServerReflectionInfo,
        reflection_pb2.ServerReflectionRequest.FromString,
        reflection_pb2.ServerReflectionResponse.SerializeToString,
    )
    methods.add(V1, {"ServerReflectionInfo": handler})


def _pool(*services: str) -> descriptor_pool.DescriptorPool:
    """Return a pool of the services' files and all that they import, with JSON names."""
    find = descriptor_pool.Default().FindFileContainingSymbol
    pool = descriptor_pool.DescriptorPool()
    for symbol in (*services, error_details_pb2.ErrorInfo.DESCRIPTOR.full_name):
        _add(pool, find(symbol))
    text = json_format.MessageToJson(_add(pool, find(V1ALPHA)))
    pool.Add(json_format.Parse(text.replace("v1alpha", "v1"), FileDescriptorProto()))
    return pool


def _add(pool: descriptor_pool.DescriptorPool, file: Any) -> FileDescriptorProto:
    """Add a file after its imports; the pool ignores files that it has. Return what was added."""
    for imported in file.dependencies:
        _add(pool, imported)
    proto = FileDescriptorProto.FromString(file.serialized_pb)
    messages = list(proto.message_type)
    while messages:
        message = messages.pop()
        messages += message.nested_type
        for field in message.field:
            camel_case = re.sub(r"_+(.?)", lambda found: found[1].upper(), field.name)
            field.json_name = field.json_name or camel_case
    pool.Add(proto)
    return proto
