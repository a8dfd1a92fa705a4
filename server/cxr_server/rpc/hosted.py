"""Hosted: the methods of the contract and of `grpc.health.v1`, for another host of gRPC.

Such as Ray Serve: it listens, parses requests, and hands them over whole.
"""

from collections.abc import AsyncIterator
from typing import Any

import grpc
from google.protobuf.message import Message
from grpc_health.v1 import health_pb2

from cxr.v1 import chest_xray_pb2 as pb
from cxr_server.rpc import health, servicer
from cxr_server.rpc.server import Server

CHECK, WATCH = f"{health.SERVICE}/Check", f"{health.SERVICE}/Watch"

_ANSWERS: dict[str, type[Message]] = {
    servicer.PREDICT: pb.PredictResponse,
    servicer.EXPLAIN: pb.ExplainResponse,
    servicer.HEALTH: pb.HealthResponse,
    servicer.DESCRIBE_MODEL: pb.DescribeModelResponse,
    CHECK: health_pb2.HealthCheckResponse,
}


class Hosted:
    """Answers calls inside the server's steps. Raises SettingsError for the tokens file.

    Contexts offer `invocation_metadata`, `peer`, `set_code`, `set_details`, `code` and
    `set_trailing_metadata`.
    """

    def __init__(self, server: Server) -> None:
        chain = server.chain(upload_timeout_s=None)
        self._max_request_bytes = server.service.memory.max_request_bytes
        chest_xray = servicer.ChestXrayServicer(server.service)
        probes = health.HealthServicer(server.lifecycle, servicer.SERVICE)
        servicers = {servicer.SERVICE: chest_xray, health.SERVICE: probes}
        handlers: dict[str, Any] = {
            method: grpc.unary_unary_rpc_method_handler(_bound(servicers, method))
            for method in _ANSWERS
        } | {WATCH: grpc.unary_stream_rpc_method_handler(_bound(servicers, WATCH))}
        self._handlers = {
            method: chain.around(handler, method) for method, handler in handlers.items()
        }

    async def answer(self, method: str, request: Message, context: Any) -> Message:
        """Answer a unary call. `method` is a full name, such as `cxr.v1.ChestXrayService/Predict`.

        Never raises for a call that fails: its status is on the context, and the answer empty.
        """
        size = request.ByteSize()
        if size > self._max_request_bytes:
            context.set_code(grpc.StatusCode.RESOURCE_EXHAUSTED)
            # gRPC's own words, since a server that listens leaves this limit to gRPC.
            limit = self._max_request_bytes
            context.set_details(f"SERVER: Received message larger than max ({size} vs. {limit})")
            return _ANSWERS[method]()
        answer = await self._handlers[method].unary_unary(request, context)
        return _ANSWERS[method]() if answer is None else answer

    async def watch(
        self, request: health_pb2.HealthCheckRequest, context: Any
    ) -> AsyncIterator[health_pb2.HealthCheckResponse]:
        """Answer the Watch of `grpc.health.v1`."""
        async for answer in self._handlers[WATCH].unary_stream(request, context):
            yield answer


def _bound(servicers: dict[str, Any], method: str) -> Any:
    service, _, name = method.partition("/")
    return getattr(servicers[service], name)
