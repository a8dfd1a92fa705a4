"""Chain: run every method inside steps of one job each, whatever its service and shape."""

import asyncio
from collections.abc import AsyncIterator, Callable, Sequence
from contextlib import AbstractContextManager, ExitStack, aclosing
from typing import Any

import grpc
from google.protobuf import message

from cxr_server.errors import DeadlineExpired, InvalidField
from cxr_server.rpc.interceptors.call_context import CallContext
from cxr_server.rpc.interceptors.errors import Errors
from cxr_server.rpc.interceptors.time_limit import TimeLimit

BRIEF_UPLOAD_S = 3.0
"""Time for a request of a few bytes: larger ones would take memory that no budget bounds."""

Step = Callable[[CallContext], AbstractContextManager[Any]]
"""Makes the context manager to run one call in."""


class Chain:
    """Enters the steps, receives the request, calls the method, and reports its error.

    Methods must be asynchronous. A streaming method may be an asynchronous generator or a
    coroutine that calls `context.write`. `steps` are ordered outermost first; `upload_timeout_s`
    bounds the arrival of a unary request, None where the host hands over whole requests. Those of
    methods that admission does not bound are a few bytes, and have `BRIEF_UPLOAD_S` at most.
    `client_certificates` says whether callers may have any; to look for them takes 0.01 ms a call.
    """

    def __init__(
        self,
        steps: Sequence[Step],
        upload_timeout_s: float | None,
        *,
        client_certificates: bool = True,
    ) -> None:
        self._steps = tuple(steps)
        self._upload_limit = self._brief_limit = None
        if upload_timeout_s is not None:
            self._upload_limit = TimeLimit(upload_timeout_s)
            self._brief_limit = TimeLimit(min(upload_timeout_s, BRIEF_UPLOAD_S))
        self._client_certificates = client_certificates

    def around(self, handler: Any, method: str) -> Any:
        """Return the handler of a method, `package.Service/Method`, inside the steps.

        gRPC calls the handler of a unary request only when the whole body has arrived, but that
        of a request stream at once. On the wire the two are the same, so unary requests are
        served as streams of one message, and a caller that vanishes during the upload frees its
        slot.
        """
        parse, serialize = handler.request_deserializer, handler.response_serializer
        upload_limit = None if handler.request_streaming else self._upload_limit
        brief_limit = self._brief_limit
        for_unary = handler.unary_unary or handler.unary_stream
        inner: Any = for_unary or handler.stream_unary or handler.stream_stream

        async def received(request: Any, context: CallContext, stack: ExitStack) -> Any:
            _end_with(context, stack)
            for step in self._steps:
                stack.enter_context(step(context))
            if upload_limit and brief_limit:
                limit = upload_limit if context.slot else brief_limit
                return await _receive(context, parse, limit)
            if isinstance(request, message.Message):
                # The host keeps it while the method holds a copy of the image.
                _hold(context, request.ByteSize(), copies=2)
            return request

        async def unary(request: Any, foreign: Any) -> Any:
            context = CallContext(foreign, method, self._client_certificates)
            async with Errors(context):
                with ExitStack() as stack:
                    # No name is kept for the request: the method can free it while it still runs.
                    response = await inner(await received(request, context, stack), context)
                    # Here, since gRPC would keep the message beside its bytes until they are sent.
                    if serialize and not isinstance(response, bytes):
                        response = serialize(response)
                    if isinstance(response, bytes):
                        context.call.response_bytes = len(response)
                    elif isinstance(response, message.Message):  # for a host that serializes it
                        context.call.response_bytes = response.ByteSize()
                    return response

        async def stream(request: Any, foreign: Any) -> AsyncIterator[Any]:
            context = CallContext(foreign, method, self._client_certificates)
            async with Errors(context):
                with ExitStack() as stack:
                    answer = inner(await received(request, context, stack), context)
                    if not hasattr(answer, "__aiter__"):
                        await answer
                        return
                    async with aclosing(answer):
                        async for response in answer:
                            yield response

        as_received = upload_limit is None
        requests = "unary" if as_received and not handler.request_streaming else "stream"
        responses = "stream" if handler.response_streaming else "unary"
        make = getattr(grpc, f"{requests}_{responses}_rpc_method_handler")
        return make(
            stream if handler.response_streaming else unary,
            parse if as_received else None,
            serialize if handler.response_streaming else None,
        )


def _end_with(context: CallContext, stack: ExitStack) -> None:
    """Have the call end when the RPC does: once its answer is sent, or the caller has gone.

    gRPC's callbacks run at the end of the task that runs the method and sends its answer. Theirs
    would keep each call in a reference cycle. For other hosts, it is the end of the method.
    """
    call, task = context.call, asyncio.current_task()
    if task and hasattr(context, "add_done_callback"):
        task.add_done_callback(lambda _: call.end())
    else:
        stack.callback(call.end)


def _hold(context: CallContext, request_bytes: int, copies: int = 1) -> None:
    """Count the bytes of a request that has arrived. Raises MemoryFull."""
    context.call.request_bytes = request_bytes
    if context.slot:
        context.slot.hold(copies * request_bytes)


async def _receive(context: CallContext, parse: Any, upload_limit: TimeLimit) -> Any:
    """Read and parse a unary request. Raises DeadlineExpired, InvalidField and MemoryFull."""
    call, slot = context.call, context.slot
    try:
        # Not by iterating: gRPC's iterator keeps the message in a reference cycle.
        with upload_limit.block():
            if slot and not slot.is_declared:
                async with slot.receiving():
                    raw = await context.read()
            else:
                raw = await context.read()
    except TimeoutError:
        if slot and slot.is_hurried:
            raise slot.slow_upload() from None
        raise DeadlineExpired("the request took too long to arrive") from None
    if raw is grpc.aio.EOF:
        # Also the first sign of a cancelled or an oversized call, whose cancellation arrives
        # right after it.
        await asyncio.sleep(0.05)
        raise InvalidField("the call carried no request")
    _hold(context, len(raw))
    if call.expired:
        raise DeadlineExpired("the deadline passed while the request was received")
    try:
        return parse(raw) if parse else raw
    except message.DecodeError:
        raise InvalidField("the request is not a valid message of this method") from None
