"""Errors: a failed RPC -> one exception.

    CxrError
    ├── InvalidRequestError       the request is wrong; repeating it cannot help
    │   ├── ImageError            ... because of its image (the reasons IMAGE_*)
    │   ├── UnknownLabelError     ... because the model has no such finding
    │   └── RequestTooLargeError  ... because it has more bytes than the server takes
    ├── MethodUnavailableError    the method needs another engine on the server
    ├── UnauthenticatedError      no valid token, or not allowed
    ├── OverloadedError           the server is full; see `retry_after_s`
    ├── UnavailableError          cannot be reached, loading or draining
    ├── DeadlineError             no answer in the time that was given
    ├── CallCancelledError        cancelled, by closing the client for example
    ├── ProtocolError             the reply is not one of this contract
    └── InternalError             the server failed; its log has the `request_id`

A wrong argument that never reaches the server is a `ValueError`, a file that cannot be read
an `OSError`, as everywhere in Python.
"""

import contextlib
from collections.abc import Iterable
from dataclasses import dataclass
from typing import Protocol

import grpc
from google.protobuf.message import DecodeError
from google.rpc import error_details_pb2
from grpc_status import rpc_status

REQUEST_ID_KEY = "x-request-id"


@dataclass(frozen=True, slots=True)
class FieldViolation:
    """One field of the request that is wrong."""

    field: str
    description: str


class CxrError(Exception):
    """A call failed.

    Attributes:
        message: A sentence on what happened.
        code: The gRPC status, or None when the client itself found the fault.
        reason: The server's stable reason, such as "IMAGE_UNREADABLE"; "" when it gave none.
        violations: The fields that are wrong.
        retry_after_s: When the server says that a repeated call may succeed, in seconds.
        request_id: The id of the call, as in the server's log.
    """

    def __init__(
        self,
        message: str,
        *,
        code: grpc.StatusCode | None = None,
        reason: str = "",
        violations: tuple[FieldViolation, ...] = (),
        retry_after_s: float | None = None,
        request_id: str = "",
    ) -> None:
        """Keep what is known; only the message is required."""
        super().__init__(message)
        self.message = message
        self.code = code
        self.reason = reason
        self.violations = violations
        self.retry_after_s = retry_after_s
        self.request_id = request_id

    def __str__(self) -> str:
        name = self.reason or (self.code.name if self.code else "")
        notes = [name, f"request {self.request_id}" if self.request_id else ""]
        tail = ", ".join(note for note in notes if note)
        return f"{self.message} [{tail}]" if tail else self.message


class InvalidRequestError(CxrError):
    """The request is wrong: repeating it cannot help."""


class ImageError(InvalidRequestError):
    """The image cannot be answered: empty, broken, of another format, too small or large."""


class UnknownLabelError(InvalidRequestError):
    """The model has no such finding."""


class RequestTooLargeError(InvalidRequestError):
    """The request has more bytes than the server, or this client, is set to take."""


class MethodUnavailableError(CxrError):
    """The explanation method needs another engine on the server."""


class UnauthenticatedError(CxrError):
    """The call carried no valid token, or its holder may not do this."""


class OverloadedError(CxrError):
    """The server is full; `retry_after_s` says when to come back."""


class UnavailableError(CxrError):
    """The server cannot be reached, is loading its model or is shutting down."""


class DeadlineError(CxrError):
    """There was no answer in the time that was given."""


class CallCancelledError(CxrError):
    """The call was cancelled."""


class ProtocolError(CxrError):
    """The reply is not one of this contract: another service, or a newer version of it."""


class InternalError(CxrError):
    """The server failed. Its log tells why, under the `request_id`."""


BY_STATUS: dict[grpc.StatusCode, type[CxrError]] = {
    grpc.StatusCode.INVALID_ARGUMENT: InvalidRequestError,
    grpc.StatusCode.OUT_OF_RANGE: InvalidRequestError,
    grpc.StatusCode.FAILED_PRECONDITION: MethodUnavailableError,
    grpc.StatusCode.UNAUTHENTICATED: UnauthenticatedError,
    grpc.StatusCode.PERMISSION_DENIED: UnauthenticatedError,
    grpc.StatusCode.RESOURCE_EXHAUSTED: OverloadedError,
    grpc.StatusCode.UNAVAILABLE: UnavailableError,
    grpc.StatusCode.DEADLINE_EXCEEDED: DeadlineError,
    grpc.StatusCode.CANCELLED: CallCancelledError,
    grpc.StatusCode.UNIMPLEMENTED: ProtocolError,
    grpc.StatusCode.NOT_FOUND: ProtocolError,
    grpc.StatusCode.ALREADY_EXISTS: ProtocolError,
    grpc.StatusCode.ABORTED: ProtocolError,
    grpc.StatusCode.INTERNAL: InternalError,
    grpc.StatusCode.UNKNOWN: InternalError,
    grpc.StatusCode.DATA_LOSS: InternalError,
}
"""The exception of every status but OK."""

BY_REASON: dict[str, type[CxrError]] = {
    "IMAGE_EMPTY": ImageError,
    "IMAGE_UNREADABLE": ImageError,
    "IMAGE_FORMAT_UNSUPPORTED": ImageError,
    "IMAGE_TOO_SMALL": ImageError,
    "IMAGE_TOO_MANY_PIXELS": ImageError,
    "IMAGE_REFUSED": ImageError,
    "UNKNOWN_LABEL": UnknownLabelError,
}
"""The finer exceptions, by the server's reason."""


class FailedCall(Protocol):
    """What the errors of grpc and of grpc.aio have in common."""

    def code(self) -> grpc.StatusCode:
        """The status."""

    def details(self) -> str | None:
        """The message."""

    def trailing_metadata(self) -> Iterable[tuple[str, str | bytes]] | None:
        """The metadata that came with the status."""


def error_of(call: FailedCall, sent_request_id: str) -> CxrError:
    """Turn a failed call into its exception, with all that the server said about it."""
    metadata = dict(call.trailing_metadata() or ())
    info, bad_request, retry_info = _details(call)
    code, message = call.code(), call.details() or ""
    kind = BY_REASON.get(info.reason, BY_STATUS[code])
    # gRPC's own size limits use the status of overload, but waiting does not help there.
    if kind is OverloadedError and not info.reason and "larger than max" in message:
        kind = RequestTooLargeError
    return kind(
        message or f"the call ended with {code.name}",
        code=code,
        reason=info.reason,
        violations=tuple(
            FieldViolation(violation.field, violation.description)
            for violation in bad_request.field_violations
        ),
        retry_after_s=(
            retry_info.retry_delay.ToTimedelta().total_seconds()
            if retry_info.HasField("retry_delay")
            else None
        ),
        request_id=str(metadata.get(REQUEST_ID_KEY) or sent_request_id),
    )


def _details(
    call: FailedCall,
) -> tuple[error_details_pb2.ErrorInfo, error_details_pb2.BadRequest, error_details_pb2.RetryInfo]:
    """Unpack the rich status; what is missing or broken stays empty."""
    info = error_details_pb2.ErrorInfo()
    bad_request = error_details_pb2.BadRequest()
    retry_info = error_details_pb2.RetryInfo()
    # What does not fit together is some proxy's doing: the plain status still holds.
    with contextlib.suppress(ValueError, DecodeError):
        status = rpc_status.from_call(call)
        for detail in status.details if status else ():
            for kind in (info, bad_request, retry_info):
                detail.Unpack(kind)
    return info, bad_request, retry_info
