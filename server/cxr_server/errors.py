"""Errors that a caller can cause or must know of, and nothing else.

Every class is one row of the README's error table. Code below the servicer raises them
with a message written here in full; `interceptors` turns them into a gRPC status. What is
not a `RequestError` reaches the caller as INTERNAL with the request id and nothing more.
"""

from typing import ClassVar

DOMAIN = "cxr.v1"
"""The `ErrorInfo.domain` of every error."""


class RequestError(Exception):
    """A refusal with a stable reason.

    Attributes:
        status: Name of the canonical gRPC code.
        reason: The `ErrorInfo.reason`, stable across versions.
        message: A sentence for people; never quotes the input's bytes.
        field: Path of the offending request field, or None.
        retry_after_ms: When a repeated call may succeed, or None when it will not.
    """

    status: ClassVar[str] = "INTERNAL"
    reason: ClassVar[str] = "INTERNAL"
    default_field: ClassVar[str | None] = None

    def __init__(
        self, message: str, *, field: str | None = None, retry_after_ms: int | None = None
    ) -> None:
        super().__init__(message)
        self.message = message
        self.field = field or self.default_field
        self.retry_after_ms = retry_after_ms


class InvalidRequest(RequestError):
    """The request is wrong: repeating it cannot help."""

    status = "INVALID_ARGUMENT"


class ImageError(InvalidRequest):
    """The image cannot be answered."""

    default_field = "image"


class ImageEmpty(ImageError):
    """No image bytes were sent."""

    reason = "IMAGE_EMPTY"


class ImageUnreadable(ImageError):
    """The file is broken, cut short or inconsistent."""

    reason = "IMAGE_UNREADABLE"


class ImageFormatUnsupported(ImageError):
    """The file is not PNG or JPEG, or of a kind of those that is not read."""

    reason = "IMAGE_FORMAT_UNSUPPORTED"


class ImageTooSmall(ImageError):
    """A side is shorter than the limit."""

    reason = "IMAGE_TOO_SMALL"


class ImageTooManyPixels(ImageError):
    """A side or the number of pixels is above the limit."""

    reason = "IMAGE_TOO_MANY_PIXELS"


class ImageRefused(ImageError):
    """`strict_input` was set and the image does not look like a chest radiograph."""

    reason = "IMAGE_REFUSED"


class UnknownLabel(InvalidRequest):
    """The model has no such finding."""

    reason = "UNKNOWN_LABEL"
    default_field = "labels"


class InvalidField(InvalidRequest):
    """A field's value is outside its range."""

    reason = "INVALID_FIELD"


class Overloaded(RequestError):
    """The server is full; carries `retry_after_ms`."""

    status = "RESOURCE_EXHAUSTED"


class QueueFull(Overloaded):
    """As many calls for the model are in flight as the server takes."""

    reason = "QUEUE_FULL"


class MemoryFull(Overloaded):
    """As many request bytes as the server holds are in flight already."""

    reason = "MEMORY_FULL"


class MethodUnavailable(RequestError):
    """The explanation method needs another engine."""

    status, reason = "FAILED_PRECONDITION", "METHOD_UNAVAILABLE"
    default_field = "method"


class Unavailable(RequestError):
    """Not serving at the moment; another replica, or a later call, may answer."""

    status = "UNAVAILABLE"


class ModelLoading(Unavailable):
    """The model is loading, warming up or being rebuilt."""

    reason = "MODEL_LOADING"


class Draining(Unavailable):
    """The server is shutting down."""

    reason = "DRAINING"


class DeadlineExpired(RequestError):
    """The call's deadline passed before its turn came."""

    status, reason = "DEADLINE_EXCEEDED", "DEADLINE_EXPIRED"


class Unauthenticated(RequestError):
    """The call carries no valid bearer token."""

    status, reason = "UNAUTHENTICATED", "UNAUTHENTICATED"
