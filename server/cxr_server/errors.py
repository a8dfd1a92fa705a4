"""Errors that a caller can cause or must know of, by the arrow on which they arise.

    call
     | rpc          Unauthenticated, ModelLoading, Draining, QueueFull, MemoryFull,
     v              DeadlineExpired (upload), InvalidField (malformed message)
    request
     v service      InvalidField, UnknownModel, UnknownLabel, MethodUnavailable,
                    ExplanationTooLarge
    image bytes
     | imaging      ImageEmpty, ImageFormatUnsupported, ImageUnreadable, ImageDecoderFailed,
     v              ImageTooSmall, ImageTooManyPixels, ImageIsHeatmap, DecoderUnavailable
    Radiograph
     v inference    ImageRefused, DeadlineExpired (in the queue), ModelLoading (engine lost)
    Evidence
     v explanation  DeadlineExpired (waiting for a saliency method)
    result

Each class is a row of the README's table of errors. They are raised with a complete sentence;
`rpc/interceptors/errors.py` turns them into a status. Any other exception reaches the caller as
INTERNAL with the request id only.
"""

from typing import ClassVar


class OperatorError(Exception):
    """Ends a command with this message and `exit_status`. For the operator, never for a caller."""

    exit_status: ClassVar[int] = 1


class UsageError(OperatorError):
    """The command line is wrong."""

    exit_status = 2


class RequestError(Exception):
    """Ends a call with a canonical gRPC `status`, a stable `reason` and a sentence for people.

    The message never quotes the image. `field` is the path of the invalid request field, if one
    is; `retry_after_ms` is the delay after which a retry may succeed, or None if none will.
    """

    status: ClassVar[str] = "INTERNAL"
    reason: ClassVar[str] = "INTERNAL"
    default_field: ClassVar[str | None] = None

    def __init_subclass__(cls, **values: str) -> None:
        for name, value in values.items():
            setattr(cls, name, value)

    def __init__(
        self, message: str, *, field: str | None = None, retry_after_ms: int | None = None
    ) -> None:
        self.field = field or self.default_field
        self.message = _sentence(message, self.field)
        super().__init__(self.message)
        self.retry_after_ms = retry_after_ms


def _sentence(message: str, field: str | None) -> str:
    """Return a message with a capital letter and a full stop; names of fields are unchanged."""
    start = message.partition(" ")[0]
    if not (field and field.rpartition(".")[2] == start):
        message = message[:1].upper() + message[1:]
    return message if message.endswith(".") else f"{message}."


class InvalidRequest(RequestError, status="INVALID_ARGUMENT"):
    """The request is invalid; a retry cannot help."""


class ImageError(InvalidRequest, default_field="image"):
    """The image cannot be answered."""


class ImageEmpty(ImageError, reason="IMAGE_EMPTY"):
    """No image bytes were sent."""


class ImageUnreadable(ImageError, reason="IMAGE_UNREADABLE"):
    """The file is corrupt, truncated or inconsistent."""


class ImageFormatUnsupported(ImageError, reason="IMAGE_FORMAT_UNSUPPORTED"):
    """The file is not DICOM, PNG or JPEG, or of a variant that is not supported."""


class ImageDecoderFailed(ImageError, reason="IMAGE_DECODER_FAILED"):
    """The decoder crashed, or took too much time or memory, on this file; it was ended."""


class ImageTooSmall(ImageError, reason="IMAGE_TOO_SMALL"):
    """A side is shorter than the limit."""


class ImageTooManyPixels(ImageError, reason="IMAGE_TOO_MANY_PIXELS"):
    """A side or the number of pixels exceeds the limit."""


class ImageIsHeatmap(ImageError, reason="IMAGE_IS_HEATMAP"):
    """The image is a picture that this service drew; the radiograph itself must be sent."""


class ImageRefused(ImageError, reason="IMAGE_REFUSED"):
    """`strict_input` was set and the image does not look like a chest radiograph."""


class UnknownLabel(InvalidRequest, reason="UNKNOWN_LABEL", default_field="labels"):
    """The model has no such finding; the message names the nearest one."""


class UnknownModel(InvalidRequest, reason="UNKNOWN_MODEL", default_field="model"):
    """The server serves no model of this name; the message names those it serves."""


class ExplanationTooLarge(
    InvalidRequest, reason="EXPLANATION_TOO_LARGE", default_field="heatmap_labels"
):
    """The pictures have more pixels than `DescribeModel` allows for one call."""


class InvalidField(InvalidRequest, reason="INVALID_FIELD"):
    """A field's value is outside its range."""


class Overloaded(RequestError, status="RESOURCE_EXHAUSTED"):
    """The server is full; carries `retry_after_ms`."""


class QueueFull(Overloaded, reason="QUEUE_FULL"):
    """`--max-in-flight` calls are in flight, or too many wait for a slow explanation method."""


class MemoryFull(Overloaded, reason="MEMORY_FULL"):
    """`--max-in-flight-mib` of request bytes are in flight already."""


class MethodUnavailable(
    RequestError, status="FAILED_PRECONDITION", reason="METHOD_UNAVAILABLE", default_field="method"
):
    """The explanation method needs another engine."""


class SwapFailed(RequestError, status="FAILED_PRECONDITION", reason="SWAP_FAILED"):
    """The bundle cannot be served by that name; what was served goes on. Of AdminService."""


class Unavailable(RequestError, status="UNAVAILABLE"):
    """Not serving at the moment; another replica, or a later call, may answer."""


class ModelLoading(Unavailable, reason="MODEL_LOADING"):
    """The model is being loaded, warmed up or rebuilt."""


class DecoderUnavailable(Unavailable, reason="DECODER_UNAVAILABLE"):
    """No decode process could be started, for want of memory, processes or descriptors."""


class Draining(Unavailable, reason="DRAINING"):
    """The server is shutting down."""


class DeadlineExpired(RequestError, status="DEADLINE_EXCEEDED", reason="DEADLINE_EXPIRED"):
    """The deadline passed, or the upload took too long, before the call was answered."""


class Unauthenticated(RequestError, status="UNAUTHENTICATED", reason="UNAUTHENTICATED"):
    """The call carries no valid bearer token."""
