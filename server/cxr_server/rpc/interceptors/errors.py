"""Errors: domain error -> status with ErrorInfo, and the reason as plain trailing metadata."""

import asyncio
from contextlib import AbstractAsyncContextManager
from types import TracebackType

import grpc
import structlog
from google.protobuf import any_pb2, duration_pb2, message
from google.rpc import code_pb2, error_details_pb2, status_pb2
from grpc_status import rpc_status

from cxr_server.errors import DOMAIN, RequestError
from cxr_server.observability.call import REQUEST_ID
from cxr_server.rpc.interceptors.around import Around
from cxr_server.rpc.interceptors.call_context import CallContext

ERROR_REASON = "x-error-reason"
"""Metadata key of the reason, for callers that do not read `grpc-status-details-bin`."""

log = structlog.get_logger("cxr_server.calls")


class ErrorsInterceptor(Around):
    """Outermost: ends calls with the status of their error. Unknown errors become INTERNAL."""

    def around(self, context: CallContext) -> AbstractAsyncContextManager[None]:
        """Return the context manager that turns an error into a status."""
        return _Errors(context)


class _Errors(AbstractAsyncContextManager[None]):
    def __init__(self, context: CallContext) -> None:
        self._context = context

    async def __aexit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> bool:
        del kind, traceback
        if not isinstance(error, Exception) or isinstance(error, grpc.aio.AbortError):
            return False  # no error, the caller has gone, or the method has set its status
        call = self._context.call
        failure = error
        if not isinstance(failure, RequestError):
            name = type(error).__name__
            log.error("unforeseen", request_id=call.request_id, error=name, exc_info=error)
            failure = RequestError(f"internal error {call.request_id}")
        # The traceback would keep the image alive in a reference cycle until the next garbage
        # collection.
        error.__traceback__ = error.__cause__ = error.__context__ = None
        await report(self._context, failure, call.request_id)
        return True


async def report(context: CallContext, error: RequestError, request_id: str) -> None:
    """End a call with an error's status.

    Raises:
        grpc.aio.AbortError: gRPC's way to end the call. A context without `abort` (Ray Serve's)
            only has its code, details and trailing metadata set.
        asyncio.CancelledError: The caller has gone.
    """
    rich = rpc_status.to_status(status_of(error, request_id))
    trailing = (*rich.trailing_metadata, (REQUEST_ID, request_id), (ERROR_REASON, error.reason))
    context.set_trailing_metadata(trailing)
    if abort := getattr(context, "abort", None):
        try:
            await abort(rich.code, rich.details, trailing)
        except grpc.aio.InternalError:  # the connection is closed
            raise asyncio.CancelledError from None
    context.set_code(rich.code)
    context.set_details(rich.details)


def status_of(error: RequestError, request_id: str) -> status_pb2.Status:
    """Return an error's rich status: ErrorInfo, and BadRequest or RetryInfo where they apply."""
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
