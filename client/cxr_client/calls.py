"""Calls: each method of the clients as a generator of steps, without input and output.

    arguments -> [Read] -> request -> [Send] -> reply -> result
                              ^          `-> error -> [Pause] ---.
                              `----------------------------------'

Each function is a generator that yields the steps in brackets and receives their outcomes.
`Client` performs the steps by blocking, `AsyncClient` by awaiting. Deadlines, retries, errors and
results are decided here, once for both.
"""

import random
import time
import uuid
from collections.abc import Callable, Generator, Sequence
from dataclasses import dataclass
from typing import Any, TypeVar

from google.protobuf.message import Message

from cxr.v1 import chest_xray_pb2 as pb
from cxr_client.config import Settings, check_timeout
from cxr_client.description import Health, ModelDescription
from cxr_client.enums import ExplanationMethod
from cxr_client.errors import (
    REQUEST_ID_KEY,
    CxrError,
    DeadlineError,
    FailedCall,
    OverloadedError,
    ProtocolError,
    RequestTooLargeError,
    UnavailableError,
    error_of,
)
from cxr_client.requests import ImageSource, RenderOptions, explain_request, predict_request
from cxr_client.results import ExplanationSet, Prediction

_REQUEST_BYTES_KEY = "x-request-bytes"
_JITTER = 0.25  # Spreads the retries of callers that were refused at the same time.
_POLL_S = 0.2


@dataclass(frozen=True, slots=True)
class Read:
    """Read an image. Outcome: its bytes, at most `max_bytes` + 1."""

    image: ImageSource
    max_bytes: int


@dataclass(frozen=True, slots=True)
class Send:
    """Send a request. Outcome: a `Reply`, or the error of gRPC."""

    rpc: str
    request: Message
    timeout_s: float
    metadata: tuple[tuple[str, str], ...]
    wait_for_ready: bool


@dataclass(frozen=True, slots=True)
class Pause:
    """Wait. Outcome: none."""

    seconds: float


@dataclass(frozen=True, slots=True)
class Reply:
    """A reply and its trailing metadata."""

    message: Any
    trailing_metadata: Sequence[tuple[str, str | bytes]]


Step = Read | Send | Pause
Outcome = bytes | Reply | FailedCall | None
T = TypeVar("T")
Steps = Generator[Step, Any, T]


@dataclass(frozen=True, slots=True)
class Deadline:
    """The deadline of a call over all attempts and pauses."""

    timeout_s: float
    end_s: float

    @classmethod
    def after(cls, timeout_s: float) -> "Deadline":
        """Return the deadline in `timeout_s` seconds."""
        return cls(check_timeout(timeout_s), time.monotonic() + timeout_s)

    @property
    def left_s(self) -> float:
        """The remaining time in seconds; negative after the deadline."""
        return self.end_s - time.monotonic()


def predict(
    settings: Settings,
    image: ImageSource,
    top_k: int | None,
    strict_input: bool | None,
    timeout_s: float | None,
    request_id: str | None,
) -> Steps[Prediction]:
    """Read the image, send the request, convert the reply."""
    deadline = Deadline.after(settings.timeout_s if timeout_s is None else timeout_s)
    data: bytes = yield Read(image, settings.max_request_bytes)
    request = predict_request(data, top_k=top_k, strict_input=strict_input)
    return (yield from _call(settings, "Predict", request, Prediction.of, deadline, request_id))


def explain(
    settings: Settings,
    image: ImageSource,
    labels: str | Sequence[str],
    heatmap_labels: str | Sequence[str],
    method: ExplanationMethod | str | None,
    render: RenderOptions | None,
    strict_input: bool | None,
    timeout_s: float | None,
    request_id: str | None,
) -> Steps[ExplanationSet]:
    """Read the image, send the request, convert the reply."""
    deadline = Deadline.after(settings.timeout_s if timeout_s is None else timeout_s)
    labels = _as_tuple(labels)
    data: bytes = yield Read(image, settings.max_request_bytes)
    request = explain_request(
        data,
        labels=labels,
        heatmap_labels=_as_tuple(heatmap_labels),
        method=method,
        render=render,
        strict_input=strict_input,
    )

    def result_of(response: pb.ExplainResponse, request_id: str) -> ExplanationSet:
        return ExplanationSet.of(response, request_id, labels)

    return (yield from _call(settings, "Explain", request, result_of, deadline, request_id))


def health(settings: Settings, timeout_s: float | None, request_id: str | None) -> Steps[Health]:
    """Send the request, convert the reply."""
    deadline = Deadline.after(settings.timeout_s if timeout_s is None else timeout_s)
    request = pb.HealthRequest()
    return (yield from _call(settings, "Health", request, Health.of, deadline, request_id))


def describe_model(
    settings: Settings, timeout_s: float | None, request_id: str | None
) -> Steps[ModelDescription]:
    """Send the request, convert the reply."""
    deadline = Deadline.after(settings.timeout_s if timeout_s is None else timeout_s)
    request = pb.DescribeModelRequest()
    result_of = ModelDescription.of
    return (yield from _call(settings, "DescribeModel", request, result_of, deadline, request_id))


def wait_until_ready(settings: Settings, timeout_s: float) -> Steps[Health]:
    """Poll Health until the service is serving."""
    deadline = Deadline.after(timeout_s)
    state = "it could not be reached"
    while True:
        try:
            report = yield from _call(
                settings, "Health", pb.HealthRequest(), Health.of, deadline, None, patient=True
            )
            if report.serving:
                return report
            state = f"its status was {report.status.name}"
        except UnavailableError as error:
            state = error.message
        except DeadlineError:
            pass
        if deadline.left_s <= _POLL_S:
            raise DeadlineError(f"{settings.server} was not ready within {timeout_s:g} s: {state}")
        yield Pause(_POLL_S)


def _call(
    settings: Settings,
    rpc: str,
    request: Message,
    result_of: Callable[[Any, str], T],
    deadline: Deadline,
    request_id: str | None,
    *,
    patient: bool = False,
) -> Steps[T]:
    """Send a request until it is answered, fails for good, or its deadline passes.

    This retries refusals for load that state when to retry. Connection failures are retried by
    gRPC itself (see `channel`). A `patient` call waits for a connection.
    """
    request_id = uuid.uuid4().hex if request_id is None else request_id
    request_bytes = request.ByteSize()
    # Sent first, so that a server without room for the request can refuse it before the upload.
    metadata = (*settings.metadata(request_id), (_REQUEST_BYTES_KEY, str(request_bytes)))
    if request_bytes > settings.max_request_bytes:
        raise RequestTooLargeError(
            f"the request is larger than the limit of {settings.max_request_bytes} bytes",
            request_id=request_id,
        )
    attempt = 1
    while True:
        if deadline.left_s <= 0:
            message = f"no answer within {deadline.timeout_s:g} s"
            raise DeadlineError(message, request_id=request_id)
        outcome = yield Send(rpc, request, deadline.left_s, metadata, patient)
        if isinstance(outcome, Reply):
            return _converted(outcome, result_of, request_id)
        error = error_of(outcome, request_id)
        pause_s = pause_before_retry(error, attempt, settings.retry.max_attempts, deadline.left_s)
        if pause_s is None:
            raise error
        yield Pause(pause_s)
        attempt += 1


def pause_before_retry(
    error: CxrError, attempt: int, max_attempts: int, left_s: float
) -> float | None:
    """Return the wait before the next attempt in seconds; None where the call is not retried.

    Only a refusal for load that states when to retry is retried, at that time or later, and only
    before the deadline.
    """
    if not isinstance(error, OverloadedError) or error.retry_after_s is None:
        return None
    pause_s = error.retry_after_s * random.uniform(1, 1 + _JITTER)
    return pause_s if attempt < max_attempts and pause_s < left_s else None


def _converted(reply: Reply, result_of: Callable[[Any, str], T], request_id: str) -> T:
    """Convert a reply; the request id of the server takes precedence over the one sent."""
    metadata = dict(reply.trailing_metadata)
    request_id = str(metadata.get(REQUEST_ID_KEY) or request_id)
    try:
        return result_of(reply.message, request_id)
    except ProtocolError as error:
        error.request_id = request_id
        raise


def _as_tuple(labels: str | Sequence[str]) -> tuple[str, ...]:
    return (labels,) if isinstance(labels, str) else tuple(labels)
