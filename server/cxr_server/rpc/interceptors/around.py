"""Around: run every method, whatever its service and shape, inside a context manager."""

from abc import ABC, abstractmethod
from collections.abc import AsyncGenerator, AsyncIterator, Awaitable, Callable
from contextlib import AbstractAsyncContextManager, aclosing
from typing import Any, TypeAlias, cast

import grpc

from cxr_server.rpc.interceptors.call_context import CallContext

Handler: TypeAlias = "grpc.RpcMethodHandler[Any, Any]"
Continuation: TypeAlias = "Callable[[grpc.HandlerCallDetails], Awaitable[Handler | None]]"


class Around(grpc.aio.ServerInterceptor, ABC):
    """An interceptor that does its job before and after a method, not on its messages.

    Methods must be asynchronous. A streaming method may be an asynchronous generator or a
    coroutine that calls `context.write`.
    """

    @abstractmethod
    def around(self, context: CallContext) -> AbstractAsyncContextManager[Any]:
        """Return the context manager to run one call in. It may suppress the call's error."""

    async def intercept_service(
        self, continuation: Continuation, handler_call_details: grpc.HandlerCallDetails
    ) -> "Handler | None":
        """Return the method's handler with `around` around it; None for unknown methods."""
        handler = await continuation(handler_call_details)
        if handler is None:
            return None
        inner = behaviour(handler)
        method = handler_call_details.method

        async def unary(request: Any, foreign: Any) -> Any:
            context = CallContext.of(foreign, method)
            async with self.around(context):
                return await inner(request, context)

        async def stream(request: Any, foreign: Any) -> AsyncIterator[Any]:
            context = CallContext.of(foreign, method)
            async with self.around(context), aclosing(responses(inner, request, context)) as each:
                async for response in each:
                    yield response

        return rebuilt(
            handler,
            stream if handler.response_streaming else unary,
            handler.request_deserializer,
            request_streaming=handler.request_streaming,
        )


def behaviour(handler: Handler) -> Callable[[Any, Any], Any]:
    """Return the one function that a handler holds."""
    if handler.request_streaming:
        function = handler.stream_stream if handler.response_streaming else handler.stream_unary
    else:
        function = handler.unary_stream if handler.response_streaming else handler.unary_unary
    return cast(Callable[[Any, Any], Any], function)


async def responses(
    inner: Callable[[Any, Any], Any], request: Any, context: CallContext
) -> AsyncGenerator[Any, None]:
    """Yield what a streaming method returns; nothing if it writes to the context itself."""
    answer = inner(request, context)
    if hasattr(answer, "__aiter__"):
        async with aclosing(answer):
            async for response in answer:
                yield response
    else:
        await answer


def rebuilt(
    handler: Handler,
    function: Callable[[Any, Any], Any],
    deserializer: Callable[[bytes], Any] | None,
    *,
    request_streaming: bool,
) -> Handler:
    """Return a handler of the same method with another function and request shape."""
    makers: dict[tuple[bool, bool], Callable[..., Handler]] = {
        (False, False): grpc.unary_unary_rpc_method_handler,
        (False, True): grpc.unary_stream_rpc_method_handler,
        (True, False): grpc.stream_unary_rpc_method_handler,
        (True, True): grpc.stream_stream_rpc_method_handler,
    }
    make = makers[request_streaming, handler.response_streaming]
    return make(function, deserializer, handler.response_serializer)
