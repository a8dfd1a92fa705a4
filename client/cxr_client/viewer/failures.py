"""Failures: an exception of the client or of this web server -> the error that the page shows."""

from typing import Any

from cxr_client.errors import (
    CallCancelledError,
    CxrError,
    DeadlineError,
    InternalError,
    InvalidRequestError,
    OverloadedError,
    ProtocolError,
    RequestTooLargeError,
    ResponseTooLargeError,
    UnauthenticatedError,
    UnavailableError,
)


class Refusal(Exception):
    """This web server, not the model server, refuses a request.

    Attributes:
        reason: A stable name, as the model server's reasons are.
        message: A sentence.
        retry_after_s: When a retry may succeed, in seconds.
    """

    def __init__(self, reason: str, message: str, retry_after_s: float | None = None) -> None:
        super().__init__(message)
        self.reason = reason
        self.message = message
        self.retry_after_s = retry_after_s


_REASONS: dict[type[CxrError], str] = {
    UnavailableError: "UNREACHABLE",
    UnauthenticatedError: "UNAUTHENTICATED",
    OverloadedError: "OVERLOADED",
    DeadlineError: "DEADLINE_EXPIRED",
    RequestTooLargeError: "REQUEST_TOO_LARGE",
    ResponseTooLargeError: "RESPONSE_TOO_LARGE",
    InvalidRequestError: "INVALID_FIELD",
    CallCancelledError: "CANCELLED",
    ProtocolError: "PROTOCOL",
    InternalError: "INTERNAL",
}
"""Reasons of failures for which the model server has sent none."""

_AGAIN = "Wait a moment, then try again."
_HINTS = {
    "UNREACHABLE": 'Start a server with "cxr-server serve", or name the one that runs:'
    " cxr view --server HOST:PORT.",
    "UNAUTHENTICATED": "Start cxr view with --token-file FILE, or with CXR_TOKEN set.",
    "MODEL_LOADING": "Wait until the model is loaded, then try again.",
    "DRAINING": "The server is shutting down; try again once it has started again.",
    "DECODER_UNAVAILABLE": _AGAIN,
    "QUEUE_FULL": _AGAIN,
    "MEMORY_FULL": _AGAIN,
    "OVERLOADED": _AGAIN,
    "DEADLINE_EXPIRED": "Try again. The option --timeout of cxr view gives the server more time.",
    "IMAGE_EMPTY": "Choose a DICOM, PNG or JPEG file.",
    "IMAGE_FORMAT_UNSUPPORTED": "Choose a DICOM, PNG or JPEG file.",
    "IMAGE_UNREADABLE": "Try another copy of the file, or export it again.",
    "IMAGE_DECODER_FAILED": "Try another copy of the file, or export it again.",
    "IMAGE_IS_HEATMAP": "Choose the radiograph that it shows.",
    "REQUEST_TOO_LARGE": "The option --max-request-mib sets the limit, of cxr-server serve and of"
    " cxr view.",
    "RESPONSE_TOO_LARGE": "The option --max-response-mib of cxr view sets the limit.",
    "PROTOCOL": "Check the address: another program, or another version, answers there.",
    "INTERNAL": "The log of the server has the cause, under the request id.",
    "FILM_UNKNOWN": "Reload the page: the folder has changed.",
}


def fields_of(failure: CxrError | Refusal) -> dict[str, Any]:
    """Return reason, message, hint, `retry_after_s` and request id as JSON values."""
    reason = reason_of(failure)
    return {
        "reason": reason,
        "message": _sentence(failure.message),
        "hint": _HINTS.get(reason, ""),
        "retry_after_s": failure.retry_after_s,
        "request_id": getattr(failure, "request_id", "") or None,
    }


def reason_of(failure: CxrError | Refusal) -> str:
    """Return the stable reason of a failure."""
    if failure.reason:
        return failure.reason
    return next((_REASONS[kind] for kind in type(failure).mro() if kind in _REASONS), "FAILED")


def too_large(max_bytes: int) -> Refusal:
    """Return the refusal of an image that is larger than the limit."""
    return Refusal(
        "REQUEST_TOO_LARGE", f"The file is larger than the limit of {max_bytes / 2**20:g} MiB."
    )


def _sentence(text: str) -> str:
    """Return the text with a capital, unless it starts with a name such as max_side_px."""
    first = text.partition(" ")[0]
    start = text[:1].upper() if first.isalpha() else text[:1]
    return start + text[1:] + ("" if text.endswith((".", "!", "?")) else ".")
