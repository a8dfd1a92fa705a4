"""Errors: what a failed call raises. The exceptions of a client, and which of them when.

    CxrError
    ├── InvalidRequestError       the request is invalid; retrying cannot help
    │   ├── ImageError            ... because of its image (the reasons IMAGE_*)
    │   ├── UnknownLabelError     ... because the model has no such finding
    │   ├── UnknownModelError     ... because the server has no such model
    │   └── RequestTooLargeError  ... because it exceeds the size limit
    ├── MethodUnavailableError    the explanation method is not available on this server
    ├── UnauthenticatedError      no valid token, or permission denied
    ├── ResponseTooLargeError     the answer exceeds this client's limit
    ├── OverloadedError           the server is full; see `retry_after_s`
    ├── UnavailableError          unreachable, loading or draining
    ├── DeadlineError             no answer before the deadline
    ├── CallCancelledError        cancelled, for example by closing the client
    ├── ProtocolError             the reply does not follow this contract
    └── InternalError             the server failed; its log has the `request_id`

An invalid argument that is never sent raises a `ValueError` or `TypeError`, an invalid option of
a client a `ConfigError`, a file that cannot be read an `OSError`.
"""

from dataclasses import dataclass

import grpc

REQUEST_ID_KEY = "x-request-id"
REASON_KEY = "x-error-reason"
DETAILS_KEY = "grpc-status-details-bin"


class ConfigError(ValueError):
    """An option of a client is invalid.

    Attributes:
        option: The name of the option: "server", "timeout_s", "tls.key".
        problem: What is wrong with it, without the name: "is empty".
        remedies: Options, any one of which resolves the problem, such as ("tls", "insecure").
    """

    def __init__(self, option: str, problem: str, remedies: tuple[str, ...] = ()) -> None:
        """Create an error."""
        super().__init__(option, problem, remedies)
        self.option = option
        self.problem = problem
        self.remedies = remedies

    def __str__(self) -> str:
        remedies = f"; set {' or '.join(self.remedies)}" if self.remedies else ""
        return f"{self.option}: {self.problem}{remedies}"


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
        option: The option of this client that a message exceeds; "" for other failures.
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
        option: str = "",
    ) -> None:
        """Create an error; only the message is required."""
        super().__init__(message)
        self.message = message
        self.code = code
        self.reason = reason
        self.violations = violations
        self.retry_after_s = retry_after_s
        self.request_id = request_id
        self.option = option

    def __str__(self) -> str:
        message = f"{self.message} ({self.option})" if self.option else self.message
        name = self.reason or (self.code.name if self.code else "")
        notes = [name, f"request {self.request_id}" if self.request_id else ""]
        tail = ", ".join(note for note in notes if note)
        return f"{message} [{tail}]" if tail else message


class InvalidRequestError(CxrError):
    """The request is invalid; retrying cannot help."""


class ImageError(InvalidRequestError):
    """The image is refused: empty, corrupt, of an unsupported format, too small or too large."""


class UnknownLabelError(InvalidRequestError):
    """The model has no such finding."""


class UnknownModelError(InvalidRequestError):
    """The server serves no model of that name."""


class RequestTooLargeError(InvalidRequestError):
    """The request exceeds the size limit of the server or of this client."""


class MethodUnavailableError(CxrError):
    """The explanation method is not available with the engine of this server."""


class UnauthenticatedError(CxrError):
    """The call carried no valid token, or permission was denied."""


class ResponseTooLargeError(CxrError):
    """The answer exceeds the size limit of this client, `max_response_bytes`."""


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
    "IMAGE_DECODER_FAILED": ImageError,
    "IMAGE_FORMAT_UNSUPPORTED": ImageError,
    "IMAGE_TOO_SMALL": ImageError,
    "IMAGE_TOO_MANY_PIXELS": ImageError,
    "IMAGE_REFUSED": ImageError,
    "IMAGE_IS_HEATMAP": ImageError,
    "UNKNOWN_LABEL": UnknownLabelError,
    "UNKNOWN_MODEL": UnknownModelError,
}
"""More specific exceptions, by the server's reason."""
