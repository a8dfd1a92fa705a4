"""Errors that a caller can cause or must know of, by the arrow on which they arise.

    call                    Unauthenticated, ModelLoading, Draining, QueueFull, MemoryFull,
      |  rpc                DeadlineExpired (upload), InvalidField (malformed message)
      v
    request                 InvalidField, UnknownLabel, MethodUnavailable
      |  service
      v
    image bytes             ImageEmpty, ImageFormatUnsupported, ImageUnreadable,
      |  imaging            ImageTooSmall, ImageTooManyPixels
      v
    Radiograph              ImageRefused
      |  inference          DeadlineExpired (in the queue), ModelLoading (engine lost)
      v
    Evidence
      |  explanation        DeadlineExpired (waiting for a saliency method)
      v
    result

Each class is a row of the README's table of errors. The rooms raise them with a complete
sentence; `rpc/interceptors/errors.py` turns them into a status. Any other exception reaches the
caller as INTERNAL with the request id and nothing more.
"""

from typing import ClassVar

DOMAIN = "cxr.v1"
"""The `ErrorInfo.domain` of every error."""


class RequestError(Exception):
    """A call that ends with a stable reason.

    Attributes:
        status: Name of the canonical gRPC code.
        reason: The `ErrorInfo.reason`, stable across versions.
        message: A sentence for people. It never quotes the image.
        field: Path of the invalid request field, or None.
        retry_after_ms: Delay after which a retry may succeed, or None if none will.
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
    """The request is invalid; a retry cannot help."""

    status = "INVALID_ARGUMENT"


class ImageError(InvalidRequest):
    """The image cannot be answered."""

    default_field = "image"


class ImageEmpty(ImageError):
    """No image bytes were sent."""

    reason = "IMAGE_EMPTY"


class ImageUnreadable(ImageError):
    """The file is corrupt, truncated or inconsistent."""

    reason = "IMAGE_UNREADABLE"


class ImageFormatUnsupported(ImageError):
    """The file is neither PNG nor JPEG, or of a variant that is not supported."""

    reason = "IMAGE_FORMAT_UNSUPPORTED"


class ImageTooSmall(ImageError):
    """A side is shorter than the limit."""

    reason = "IMAGE_TOO_SMALL"


class ImageTooManyPixels(ImageError):
    """A side or the number of pixels exceeds the limit."""

    reason = "IMAGE_TOO_MANY_PIXELS"


class ImageRefused(ImageError):
    """`strict_input` was set and the image does not look like a chest radiograph."""

    reason = "IMAGE_REFUSED"


class UnknownLabel(InvalidRequest):
    """The model has no such finding; the message names the nearest one."""

    reason = "UNKNOWN_LABEL"
    default_field = "labels"


class InvalidField(InvalidRequest):
    """A field's value is outside its range."""

    reason = "INVALID_FIELD"


class Overloaded(RequestError):
    """The server is full; carries `retry_after_ms`."""

    status = "RESOURCE_EXHAUSTED"


class QueueFull(Overloaded):
    """`--max-in-flight` calls are in flight, or too many wait for a slow explanation method."""

    reason = "QUEUE_FULL"


class MemoryFull(Overloaded):
    """`--max-in-flight-mib` of request bytes are in flight already."""

    reason = "MEMORY_FULL"


class MethodUnavailable(RequestError):
    """The explanation method needs another engine."""

    status, reason = "FAILED_PRECONDITION", "METHOD_UNAVAILABLE"
    default_field = "method"


class Unavailable(RequestError):
    """Not serving at the moment; another replica, or a later call, may answer."""

    status = "UNAVAILABLE"


class ModelLoading(Unavailable):
    """The model is being loaded, warmed up or rebuilt."""

    reason = "MODEL_LOADING"


class Draining(Unavailable):
    """The server is shutting down."""

    reason = "DRAINING"


class DeadlineExpired(RequestError):
    """The deadline passed, or the upload took too long, before the call was answered."""

    status, reason = "DEADLINE_EXCEEDED", "DEADLINE_EXPIRED"


class Unauthenticated(RequestError):
    """The call carries no valid bearer token."""

    status, reason = "UNAUTHENTICATED", "UNAUTHENTICATED"
