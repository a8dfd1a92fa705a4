"""Steps: what happens to a call before the fake server answers it. Next: server."""

import threading
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

import grpc
from google.protobuf.any_pb2 import Any as AnyMessage
from google.protobuf.duration_pb2 import Duration
from google.protobuf.message import Message
from google.rpc import error_details_pb2, status_pb2

from cxr_client.errors import DETAILS_KEY, REASON_KEY

Step = Callable[[grpc.ServicerContext], None]
"""Runs before a call is answered; may delay it, end it or set trailing metadata."""


class Hold:
    """A step that blocks a call until `release`, to test deadlines and cancellation."""

    def __init__(self) -> None:
        self._entered = threading.Event()
        self._released = threading.Event()

    def __call__(self, context: grpc.ServicerContext) -> None:
        """Block the call until `release`, its deadline or its cancellation."""
        self._entered.set()
        while context.is_active() and not self._released.wait(0.05):
            pass

    def wait_entered(self, timeout_s: float = 30.0) -> bool:
        """Wait until a call has arrived; return whether it has."""
        return self._entered.wait(timeout_s)

    def release(self) -> None:
        """Let the call continue."""
        self._released.set()


def failure(
    code: grpc.StatusCode | str,
    reason: str = "",
    message: str = "",
    *,
    violations: Mapping[str, str] | None = None,
    retry_after_s: float | None = None,
) -> Step:
    """Return a step that ends a call with an error, in the form that the server uses.

    Args:
        code: The gRPC status, or its name.
        reason: The stable reason, such as "IMAGE_UNREADABLE" or "QUEUE_FULL".
        message: The sentence for people.
        violations: The invalid fields: a description by field.
        retry_after_s: When to retry, in seconds.
    """
    code = grpc.StatusCode[code] if isinstance(code, str) else code
    details: list[Message] = [error_details_pb2.ErrorInfo(reason=reason, domain="cxr.v1")]
    if violations:
        details.append(
            error_details_pb2.BadRequest(
                field_violations=[
                    error_details_pb2.BadRequest.FieldViolation(field=field, description=text)
                    for field, text in violations.items()
                ]
            )
        )
    if retry_after_s is not None:
        delay = Duration()
        delay.FromNanoseconds(round(retry_after_s * 1e9))
        details.append(error_details_pb2.RetryInfo(retry_delay=delay))
    status = status_pb2.Status(
        code=code.value[0],
        message=message or f"fake {code.name}",
        details=[_packed(detail) for detail in details],
    )
    trailers = ((REASON_KEY, reason), (DETAILS_KEY, status.SerializeToString()))

    def end(context: grpc.ServicerContext) -> None:
        metadata = (*context.trailing_metadata(), *trailers)
        context.abort_with_status(_Status(code, status.message, metadata))

    return end


def _packed(detail: Message) -> AnyMessage:
    packed = AnyMessage()
    packed.Pack(detail)
    return packed


@dataclass(frozen=True)
class _Status(grpc.Status):
    code: grpc.StatusCode
    details: str
    trailing_metadata: Any
