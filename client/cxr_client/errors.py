"""Errors: a failed RPC -> one exception.

    CxrError
    ├── InvalidRequestError       the request is invalid; retrying cannot help
    │   ├── ImageError            ... because of its image (the reasons IMAGE_*)
    │   ├── UnknownLabelError     ... because the model has no such finding
    │   └── RequestTooLargeError  ... because it exceeds the size limit
    ├── MethodUnavailableError    the explanation method is not available on this server
    ├── UnauthenticatedError      no valid token, or permission denied
    ├── OverloadedError           the server is full; see `retry_after_s`
    ├── UnavailableError          unreachable, loading or draining
    ├── DeadlineError             no answer before the deadline
    ├── CallCancelledError        cancelled, for example by closing the client
    ├── ProtocolError             the reply does not follow this contract
    └── InternalError             the server failed; its log has the `request_id`

An invalid argument that is never sent raises a `ValueError`, a file that cannot be read an
`OSError`.
"""

import contextlib
from collections.abc import Iterable
from dataclasses import dataclass
from typing import Protocol

import grpc
from google.protobuf.message import DecodeError
from google.rpc import error_details_pb2, status_pb2

REQUEST_ID_KEY = "x-request-id"
REASON_KEY = "x-error-reason"
DETAILS_KEY = "grpc-status-details-bin"


@dataclass(frozen=True, slots=True)
class FieldViolation:
    """One invalid field of the request."""

    field: str
    description: str


class CxrError(Exception):
    """A call failed.

    Attributes:
        message: A sentence on what happened.
        code: The gRPC status; None where the client itself detected the error.
        reason: The server's stable reason, such as "IMAGE_UNREADABLE"; "" without one.
        violations: The invalid fields.
        retry_after_s: When a retry may succeed according to the server, in seconds.
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
        """Create an error; only the message is required."""
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
    """The request is invalid; retrying cannot help."""


class ImageError(InvalidRequestError):
    """The image is refused: empty, corrupt, of an unsupported format, too small or too large."""


class UnknownLabelError(InvalidRequestError):
    """The model has no such finding."""


class RequestTooLargeError(InvalidRequestError):
    """The request exceeds the size limit of the server or of this client."""


class MethodUnavailableError(CxrError):
    """The explanation method is not available with the engine of this server."""


class UnauthenticatedError(CxrError):
    """The call carried no valid token, or permission was denied."""


class OverloadedError(CxrError):
    """The server is full; `retry_after_s` says when to retry."""


class UnavailableError(CxrError):
    """The server is unreachable, loading its model or shutting down."""


class DeadlineError(CxrError):
    """There was no answer before the deadline."""


class CallCancelledError(CxrError):
    """The call was cancelled."""


class ProtocolError(CxrError):
    """The reply does not follow this contract: another service, or an incompatible version."""


class InternalError(CxrError):
    """The server failed. Its log has the cause, under the `request_id`."""


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
    "IMAGE_IS_HEATMAP": ImageError,
    "UNKNOWN_LABEL": UnknownLabelError,
}
"""More specific exceptions, by the server's reason."""


class FailedCall(Protocol):
    """The common interface of the errors of grpc and grpc.aio."""

    def code(self) -> grpc.StatusCode:
        """The status."""

    def details(self) -> str | None:
        """The message."""

    def trailing_metadata(self) -> Iterable[tuple[str, str | bytes]] | None:
        """The metadata that came with the status."""


def error_of(call: FailedCall, sent_request_id: str) -> CxrError:
    """Convert a failed call to its exception, with the details that the server sent."""
    # The keys() of grpc.aio.Metadata, which dict() prefers, yields pairs in older releases.
    metadata = dict(tuple(call.trailing_metadata() or ()))
    code, message = call.code(), call.details() or ""
    info, bad_request, retry_info = _details(code, metadata.get(DETAILS_KEY, b""))
    # A proxy may drop binary metadata; the reason is also sent as text.
    reason = info.reason or str(metadata.get(REASON_KEY, ""))
    kind = BY_REASON.get(reason, BY_STATUS[code])
    # gRPC's own size limits use the status of overload, where retrying does not help.
    if kind is OverloadedError and not reason and "larger than max" in message:
        kind = RequestTooLargeError
    return kind(
        message or f"the call ended with {code.name}",
        code=code,
        reason=reason,
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
    code: grpc.StatusCode, serialized: str | bytes
) -> tuple[error_details_pb2.ErrorInfo, error_details_pb2.BadRequest, error_details_pb2.RetryInfo]:
    """Unpack the rich status; details that are missing or invalid stay empty."""
    info = error_details_pb2.ErrorInfo()
    bad_request = error_details_pb2.BadRequest()
    retry_info = error_details_pb2.RetryInfo()
    with contextlib.suppress(DecodeError):
        status = status_pb2.Status.FromString(serialized)
        # The details of another status come from a proxy; the plain status is authoritative.
        for detail in status.details if status.code == code.value[0] else ():
            for kind in (info, bad_request, retry_info):
                detail.Unpack(kind)
    return info, bad_request, retry_info
