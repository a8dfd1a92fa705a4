"""Receive: read and parse a unary request inside the method, not before it.

gRPC calls the handler of a unary request only when the whole body has arrived. A handler of a
request stream runs at once, and on the wire the two are the same: so unary requests are served
as streams of one message. The interceptors outside of this one then run before the upload, and
a caller that vanishes during it frees its slot.
"""

import asyncio
from collections.abc import AsyncIterator
from contextlib import aclosing
from typing import Any, cast

import grpc
from google.protobuf import message

from cxr_server.errors import DeadlineExpired, InvalidField
from cxr_server.rpc.interceptors.around import (
    Continuation,
    Handler,
    handler_of,
    method_of,
    responses,
)
from cxr_server.rpc.interceptors.call_context import CallContext


class ReceiveInterceptor(grpc.aio.ServerInterceptor):
    """Innermost: reads the request of unary-request methods; request streams pass.

    Args:
        upload_timeout_s: Longest time that a request may take to arrive.
    """

    def __init__(self, upload_timeout_s: float) -> None:
        self._upload_timeout_s = upload_timeout_s

    async def intercept_service(
        self, continuation: Continuation, handler_call_details: grpc.HandlerCallDetails
    ) -> "Handler | None":
        """Return a request-streaming handler for a method with a unary request."""
        handler = await continuation(handler_call_details)
        if handler is None or handler.request_streaming:
            return handler
        inner, name = method_of(handler), handler_call_details.method
        parse = handler.request_deserializer

        # No name is kept for the request: the method can free it while it still runs.
        async def unary(_: Any, foreign: Any) -> Any:
            context = CallContext.of(foreign, name)
            return await inner(await self._received(context, parse), context)

        async def stream(_: Any, foreign: Any) -> AsyncIterator[Any]:
            context = CallContext.of(foreign, name)
            request = await self._received(context, parse)
            async with aclosing(responses(inner, request, context)) as each:
                async for response in each:
                    yield response

        return handler_of(handler, stream if handler.response_streaming else unary, True, None)

    async def _received(self, context: CallContext, parse: Any) -> Any:
        call = context.call
        try:
            async with asyncio.timeout(self._upload_timeout_s):
                # Not by iterating: gRPC's iterator keeps the message in a reference cycle.
                raw = cast(Any, await context.read())
        except TimeoutError:
            raise DeadlineExpired("the request took too long to arrive") from None
        if raw is grpc.aio.EOF:
            # Also the first sign of a cancelled or an oversized call, whose cancellation
            # arrives right after it.
            await asyncio.sleep(0.05)
            raise InvalidField("the call carried no request")
        call.request_bytes = len(raw)
        if context.slot:
            context.slot.hold(call.request_bytes)
        if call.expired:
            raise DeadlineExpired("the deadline passed while the request was received")
        try:
            return parse(raw) if parse else raw
        except message.DecodeError:
            raise InvalidField("the request is not a valid message of this method") from None
