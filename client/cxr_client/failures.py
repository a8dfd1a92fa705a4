"""Failures: a failed RPC -> one exception, with the details that the server sent. Next: calls."""

import contextlib
import re
from collections.abc import Iterable
from typing import Protocol

import grpc
from google.protobuf.message import DecodeError
from google.rpc import error_details_pb2, status_pb2

from cxr_client.errors import (
    BY_REASON,
    BY_STATUS,
    DETAILS_KEY,
    REASON_KEY,
    REQUEST_ID_KEY,
    CxrError,
    FieldViolation,
    OverloadedError,
    RequestTooLargeError,
    ResponseTooLargeError,
)

# "CLIENT: Received message larger than max (285212672 vs. 268435456)"
_TOO_LARGE = re.compile(
    r"(CLIENT|SERVER): (Received|Sent) message larger than max \((\d+) vs\. (\d+)"
)


class FailedCall(Protocol):
    """The common interface of the errors of grpc and grpc.aio."""

    def code(self) -> grpc.StatusCode:
        """The status."""

    def details(self) -> str | None:
        """The message."""

    def trailing_metadata(self) -> Iterable[tuple[str, str | bytes]] | None:
        """The metadata that came with the status."""


def error_of(call: FailedCall, sent_request_id: str) -> CxrError:
    """Convert a failed call to its exception."""
    # The keys() of grpc.aio.Metadata, which dict() prefers, yields pairs in older releases.
    metadata = dict(tuple(call.trailing_metadata() or ()))
    code, message = call.code(), call.details() or ""
    info, bad_request, retry_info = _details(code, metadata.get(DETAILS_KEY, b""))
    # A proxy may drop binary metadata; the reason is also sent as text.
    reason = info.reason or str(metadata.get(REASON_KEY, ""))
    request_id = str(metadata.get(REQUEST_ID_KEY) or sent_request_id)
    kind = BY_REASON.get(reason, BY_STATUS[code])
    # gRPC's own size limits use the status of overload, where retrying does not help.
    if kind is OverloadedError and not reason and (size := _TOO_LARGE.search(message)):
        return _too_large(size, code, request_id)
    if code is grpc.StatusCode.UNIMPLEMENTED and not reason:
        # gRPC says no more than "Method not found!".
        message = "the server does not know this call: it is another one, or a health-only port"
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
        request_id=request_id,
    )


def _too_large(size: re.Match[str], code: grpc.StatusCode, request_id: str) -> CxrError:
    """Return the error of a message that exceeds a size limit of gRPC."""
    side, action, size_bytes, limit_bytes = size.groups()
    is_request = (side, action) in (("CLIENT", "Sent"), ("SERVER", "Received"))
    kind = RequestTooLargeError if is_request else ResponseTooLargeError
    what = "request" if is_request else "answer"
    whose = "this client" if side == "CLIENT" else "the server"
    verb = "sends" if action == "Sent" else "takes"
    option = "max_request_bytes" if is_request else "max_response_bytes"
    return kind(
        f"the {what} has {size_bytes} bytes; {whose} {verb} at most {limit_bytes}",
        code=code,
        request_id=request_id,
        option=option if side == "CLIENT" else "",
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
