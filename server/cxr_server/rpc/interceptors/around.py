"""Around: run every method, whatever its service and shape, inside a context manager."""

from abc import ABC, abstractmethod
from collections.abc import AsyncGenerator, Awaitable, Callable
from contextlib import AbstractAsyncContextManager, aclosing
from typing import Any, TypeAlias

import grpc

from cxr_server.rpc.interceptors.call_context import CallContext

Handler: TypeAlias = "grpc.RpcMethodHandler[Any, Any]"
Continuation: TypeAlias = "Callable[[grpc.HandlerCallDetails], Awaitable[Handler | None]]"
Method = Callable[[Any, Any], Any]


class Around(grpc.aio.ServerInterceptor, ABC):
    """An interceptor that works before and after a method, not on its messages.

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
        inner, name = method_of(handler), handler_call_details.method

        async def unary(request: Any, foreign: Any) -> Any:
            context = CallContext.of(foreign, name)
            async with self.around(context):
                return await inner(request, context)

        async def stream(request: Any, foreign: Any) -> AsyncGenerator[Any, None]:
            context = CallContext.of(foreign, name)
            async with self.around(context), aclosing(responses(inner, request, context)) as each:
                async for response in each:
                    yield response

        method = stream if handler.response_streaming else unary
        return handler_of(handler, method, handler.request_streaming, handler.request_deserializer)


def method_of(handler: Handler) -> Method:
    """Return the method that a handler holds."""
    method: Method = getattr(handler, _shape(handler, handler.request_streaming))
    return method


def handler_of(like: Handler, method: Method, request_streaming: bool, parse: Any) -> Handler:
    """Return a handler that differs from another in its method and how requests arrive."""
    make = getattr(grpc, f"{_shape(like, request_streaming)}_rpc_method_handler")
    handler: Handler = make(method, parse, like.response_serializer)
    return handler


async def responses(inner: Method, request: Any, context: Any) -> AsyncGenerator[Any, None]:
    """Yield what a streaming method returns; nothing if it writes to the context itself."""
    answer = inner(request, context)
    if hasattr(answer, "__aiter__"):
        async with aclosing(answer):
            async for response in answer:
                yield response
    else:
        await answer


def _shape(handler: Handler, request_streaming: bool) -> str:
    words = {False: "unary", True: "stream"}
    return f"{words[request_streaming]}_{words[bool(handler.response_streaming)]}"
