"""Interceptors: every RPC of our service passes one gate, in and out.

The gate gives the call its id, checks access, admits or refuses it, reads the body, maps
errors to statuses, counts and logs. It answers as a stream-unary handler because gRPC hands
a unary handler its request only when the whole body has arrived: this way a refusal
reaches the caller before the upload, and a caller that vanishes while uploading frees its
place. On the wire the two are the same.
"""

import asyncio
import time
from collections.abc import AsyncIterator, Awaitable, Callable
from typing import Any, NoReturn, TypeAlias, cast

import grpc
import structlog
from google.protobuf import any_pb2, duration_pb2, message
from google.rpc import code_pb2, error_details_pb2, status_pb2
from grpc_status import rpc_status

from cxr_server.admission import DECLARED_BYTES, Admission, Slot, declared_bytes
from cxr_server.errors import (
    DOMAIN,
    DeadlineExpired,
    InvalidField,
    InvalidRequest,
    RequestError,
)
from cxr_server.lifecycle import SERVICE, Lifecycle
from cxr_server.observability import call as calls
from cxr_server.observability.call import REQUEST_ID, Call
from cxr_server.observability.metrics import Metrics
from cxr_server.rpc.access import Access

MODEL_METHODS = frozenset({"Predict", "Explain"})
"""Methods that need the model: refused while it is not ready, bounded in number."""

Handler = Callable[[Any, Any], Awaitable[Any]]
RpcHandler: TypeAlias = "grpc.RpcMethodHandler[Any, Any]"
log = structlog.get_logger("cxr_server.calls")


class Gate(grpc.aio.ServerInterceptor):
    """Wraps every method of ChestXrayService, and asks for a token on reflection."""

    def __init__(
        self,
        *,
        lifecycle: Lifecycle,
        admission: Admission,
        access: Access,
        metrics: Metrics,
        max_request_bytes: int,
        upload_timeout_s: float,
    ) -> None:
        self._lifecycle = lifecycle
        self._admission = admission
        self._access = access
        self._metrics = metrics
        self._max_request_bytes = max_request_bytes
        self._upload_timeout_s = upload_timeout_s

    async def intercept_service(
        self,
        continuation: Callable[[grpc.HandlerCallDetails], Awaitable["RpcHandler | None"]],
        handler_call_details: grpc.HandlerCallDetails,
    ) -> "RpcHandler | None":
        """Return the method's handler behind the gate; other services' pass, but reflection."""
        handler = await continuation(handler_call_details)
        service, _, method = handler_call_details.method.lstrip("/").partition("/")
        if handler is None:
            return handler
        metadata = dict(handler_call_details.invocation_metadata)
        if service.startswith("grpc.reflection."):
            return handler if self._access.allows(metadata) else _refusing_stream()
        if service != SERVICE:
            return handler

        async def behaviour(
            _: AsyncIterator[bytes], context: grpc.aio.ServicerContext[Any, Any]
        ) -> Any:
            return await self._answer(method, handler, metadata, context)

        return grpc.stream_unary_rpc_method_handler(
            cast(Any, behaviour), None, handler.response_serializer
        )

    async def _answer(
        self,
        method: str,
        handler: Any,
        metadata: dict[str, Any],
        context: grpc.aio.ServicerContext[Any, Any],
    ) -> Any:
        call = calls.start(
            method,
            str(metadata.get(REQUEST_ID, "")),
            context.peer(),
            context.time_remaining(),
        )
        calls.current.set(call)
        context.set_trailing_metadata(((REQUEST_ID, call.request_id),))
        code = "OK"
        try:
            with self._metrics.in_flight(method):
                call.caller = self._access.check(metadata) or call.caller
                return await self._serve(call, handler, metadata, context)
        except RequestError as error:
            # Its traceback would hold the image, in a circle, until the collector comes by.
            failure = error.with_traceback(None)
            failure.__cause__ = failure.__context__ = None
            code, call.reason = error.status, error.reason
        except asyncio.CancelledError:
            code = "DEADLINE_EXCEEDED" if call.expired else "CANCELLED"
            raise
        except Exception as error:
            failure = RequestError(f"internal error {call.request_id}")
            code, call.reason = "INTERNAL", "INTERNAL"
            log.exception("unforeseen", request_id=call.request_id, error=type(error).__name__)
        finally:
            seconds = time.monotonic() - call.started
            # Before the caller knows: it may look at the counts next. The line can wait.
            self._metrics.finished(call, code, seconds)
            asyncio.get_running_loop().call_soon(_log, call, code, seconds)
        await _abort(context, call, failure)

    async def _serve(
        self,
        call: Call,
        handler: Any,
        metadata: dict[str, Any],
        context: grpc.aio.ServicerContext[Any, Any],
    ) -> Any:
        inner: Handler = handler.unary_unary
        if call.method not in MODEL_METHODS:
            return await inner(await self._receive(call, handler, context, None), context)
        if refusal := self._lifecycle.refusal():
            raise refusal
        declared = declared_bytes(str(metadata.get(DECLARED_BYTES, "")), self._max_request_bytes)
        with self._admission.slot(declared) as slot:
            # No name is kept for the request: the method drops its message once it has read it.
            return await inner(await self._receive(call, handler, context, slot), context)

    async def _receive(
        self,
        call: Call,
        handler: Any,
        context: grpc.aio.ServicerContext[Any, Any],
        slot: Slot | None,
    ) -> message.Message:
        try:
            async with asyncio.timeout(self._upload_timeout_s):
                # Not from the iterator: grpc's would hold the message until the collector of
                # cycles comes by, and images of 10 MB outrun that.
                raw = cast(Any, await context.read())
        except TimeoutError:
            raise DeadlineExpired("the request took too long to arrive") from None
        if raw is grpc.aio.EOF:
            # So begins also the end of a call that its caller, or gRPC for its size, has given
            # up; the cancellation follows at once.
            await asyncio.sleep(0.05)
            raise RequestMissing("the call carried no request") from None
        call.request_bytes = len(raw)
        if slot:
            slot.hold(call.request_bytes)
            if call.expired:
                raise DeadlineExpired("the deadline passed while the request was received")
        try:
            return cast(message.Message, handler.request_deserializer(raw))
        except message.DecodeError:
            raise InvalidField("the request is not a valid message of this method") from None


def _log(call: Call, code: str, seconds: float) -> None:
    log.info(
        "call",
        request_id=call.request_id,
        method=call.method,
        code=code,
        reason=call.reason or None,
        duration_ms=round(1000 * seconds, 1),
        request_bytes=call.request_bytes,
        cached=call.cached,
    )


class RequestMissing(InvalidRequest):
    """The call ended without a request."""

    reason = "INVALID_FIELD"


def status_of(error: RequestError, request_id: str) -> status_pb2.Status:
    """The rich status of an error: ErrorInfo, and BadRequest or RetryInfo where they apply."""
    info = error_details_pb2.ErrorInfo(
        reason=error.reason, domain=DOMAIN, metadata={"request_id": request_id}
    )
    details: list[message.Message] = [info]
    if error.field:
        violation = error_details_pb2.BadRequest.FieldViolation(
            field=error.field, description=error.message, reason=error.reason
        )
        details.append(error_details_pb2.BadRequest(field_violations=[violation]))
    if error.retry_after_ms is not None:
        delay = duration_pb2.Duration()
        delay.FromMilliseconds(error.retry_after_ms)
        details.append(error_details_pb2.RetryInfo(retry_delay=delay))
    packed = []
    for detail in details:
        packed.append(any_pb2.Any())
        packed[-1].Pack(detail)
    return status_pb2.Status(
        code=code_pb2.Code.Value(error.status), message=error.message, details=packed
    )


async def _abort(
    context: grpc.aio.ServicerContext[Any, Any], call: Call, error: RequestError
) -> NoReturn:
    rich = rpc_status.to_status(status_of(error, call.request_id))
    trailing = (*rich.trailing_metadata, (REQUEST_ID, call.request_id))
    context.set_trailing_metadata(trailing)
    try:
        await context.abort(rich.code, rich.details, trailing)
    except grpc.aio.InternalError:  # the caller has gone: there is nobody to tell
        raise asyncio.CancelledError from None
    raise AssertionError("abort returned")


def _refusing_stream() -> "RpcHandler":
    async def refuse(_: Any, context: grpc.aio.ServicerContext[Any, Any]) -> None:
        await context.abort(grpc.StatusCode.UNAUTHENTICATED, "a valid bearer token is required")

    return grpc.stream_stream_rpc_method_handler(cast(Any, refuse))
