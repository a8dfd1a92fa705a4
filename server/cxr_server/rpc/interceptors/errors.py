"""Errors: domain error -> status with ErrorInfo, and the reason as plain trailing metadata."""

import asyncio
from contextlib import AbstractAsyncContextManager
from typing import Any

import grpc
import structlog
from google.protobuf import any, duration, message
from google.rpc import code_pb2, error_details_pb2, status_pb2
from grpc_status import rpc_status

from cxr_server.errors import RequestError
from cxr_server.rpc.interceptors.call_context import REQUEST_ID, CallContext

ERROR_REASON = "x-error-reason"
"""Metadata key of the reason, for callers that do not read `grpc-status-details-bin`."""

log = structlog.get_logger("cxr_server.calls")


class Errors(AbstractAsyncContextManager[None]):
    """Ends a call with the status of its domain error; other errors are INTERNAL."""

    def __init__(self, context: CallContext) -> None:
        self._context = context

    async def __aexit__(self, kind: Any, error: BaseException | None, traceback: Any) -> bool:
        """End the call: by AbortError, or True from a context without `abort` (Ray Serve's).

        Raises CancelledError if the caller has gone.
        """
        del kind, traceback  # which would keep the image alive in a reference cycle
        if not isinstance(error, Exception) or isinstance(error, grpc.aio.AbortError):
            return False  # no error, the caller has gone, or the method has set its status
        context, request_id = self._context, self._context.call.request_id
        failure = error
        if not isinstance(failure, RequestError):
            name = type(error).__name__
            log.error("internal error", request_id=request_id, error=name, exc_info=error)
            failure = RequestError(f"internal error, request {request_id}")
        error.__traceback__ = error.__cause__ = error.__context__ = None  # cycles as well
        rich = rpc_status.to_status(_status(failure, request_id))
        plain = ((REQUEST_ID, request_id), (ERROR_REASON, failure.reason))
        trailing = (*rich.trailing_metadata, *plain)
        context.set_trailing_metadata(list(trailing))  # Ray Serve needs a list, gRPC's abort none
        if abort := getattr(context, "abort", None):
            try:
                await abort(rich.code, rich.details, trailing)
            except grpc.aio.InternalError:  # the connection is closed
                raise asyncio.CancelledError from None
        context.set_code(rich.code)
        context.set_details(rich.details)
        return True


def _status(error: RequestError, request_id: str) -> status_pb2.Status:
    """Return an error's rich status: ErrorInfo, and BadRequest or RetryInfo where they apply."""
    info = error_details_pb2.ErrorInfo(
        reason=error.reason, domain="cxr.v1", metadata={"request_id": request_id}
    )
    details: list[message.Message] = [info]
    if error.field:
        violation = {"field": error.field, "description": error.message, "reason": error.reason}
        details.append(error_details_pb2.BadRequest(field_violations=[violation]))
    if error.retry_after_ms is not None:
        delay = duration.from_milliseconds(error.retry_after_ms)
        details.append(error_details_pb2.RetryInfo(retry_delay=delay))
    return status_pb2.Status(
        code=code_pb2.Code.Value(error.status),
        message=error.message,
        details=[any.pack(detail) for detail in details],
    )
