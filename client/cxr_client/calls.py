"""Calls: each method of the clients as a generator of steps, free of I/O.

    arguments -> [Read] -> request -> [Connect] -> [Send] -> reply -> result
                                ^                   `-> error -> [Pause] ---.
                                `-------------------------------------------'

Each function is a generator that yields the steps in brackets and receives their outcomes.
`Client` performs the steps by blocking, `AsyncClient` by awaiting. Deadlines, retries, errors and
results are decided here, once for both.
"""

import uuid
from collections.abc import Callable, Sequence
from functools import partial
from typing import Any, TypeVar

import grpc
from google.protobuf.message import Message

from cxr.v1 import chest_xray_pb2 as pb
from cxr_client.causes import NO_ANSWER
from cxr_client.config import Priority, RetryConfig
from cxr_client.description import Health, ModelDescription
from cxr_client.enums import (
    CacheMode,
    CacheModeName,
    DicomPresentation,
    DicomPresentationName,
    ExplanationMethod,
    ExplanationMethodName,
)
from cxr_client.errors import (
    REQUEST_ID_KEY,
    CallCancelledError,
    CxrError,
    DeadlineError,
    OverloadedError,
    ProtocolError,
    RequestTooLargeError,
    UnavailableError,
)
from cxr_client.failures import error_of
from cxr_client.images import ImageSource
from cxr_client.link import Link
from cxr_client.requests import RenderOptions, explain_request, predict_request
from cxr_client.results import ExplanationSet, Prediction
from cxr_client.retries import Retries
from cxr_client.steps import Connect, Deadline, Pause, Read, Reply, Send, Steps
from cxr_client.trace_context import trace_context

_REQUEST_BYTES_KEY = "x-request-bytes"
_CONNECT_NOTICE_S = 0.5  # An outage is logged within a second.
_POLL_S = 0.2
_POLL_TIMEOUT_S = 10.0  # Ask again if a server does not answer in this time.
_ONCE = RetryConfig(max_attempts=1)
_RAY_STARTS = "Application metadata not set"
"""Text in Ray Serve's NOT_FOUND before the application is deployed."""

T = TypeVar("T")


def predict(
    link: Link,
    image: ImageSource,
    top_k: int | None,
    strict_input: bool | None,
    presentation: DicomPresentation | DicomPresentationName | None,
    include_embedding: bool | None,
    cache: CacheMode | CacheModeName | None,
    timeout_s: float | None,
    request_id: str | None,
    *,
    many: bool = False,
) -> Steps[Prediction]:
    """Read the image, send the request, convert the reply; `many` once, as a call in bulk."""
    deadline = _deadline(link, timeout_s)
    data: bytes = yield Read(image, link.settings.max_request_bytes)
    request = predict_request(
        data,
        top_k=top_k,
        strict_input=strict_input,
        presentation=presentation,
        include_embedding=include_embedding,
        cache=cache,
        model=link.settings.model,
    )
    del data
    send = partial(_call, link, "Predict", request, Prediction.of, deadline, request_id)
    return (yield from send(retry=_ONCE, priority="bulk") if many else send())


def explain(
    link: Link,
    image: ImageSource,
    labels: str | Sequence[str],
    heatmap_labels: str | Sequence[str],
    method: ExplanationMethod | ExplanationMethodName | None,
    render: RenderOptions | None,
    strict_input: bool | None,
    presentation: DicomPresentation | DicomPresentationName | None,
    include_embedding: bool | None,
    cache: CacheMode | CacheModeName | None,
    timeout_s: float | None,
    request_id: str | None,
) -> Steps[ExplanationSet]:
    """Read the image, send the request, convert the reply."""
    deadline = _deadline(link, timeout_s)
    labels = _as_tuple(labels)
    data: bytes = yield Read(image, link.settings.max_request_bytes)
    request = explain_request(
        data,
        labels=labels,
        heatmap_labels=_as_tuple(heatmap_labels),
        method=method,
        render=render,
        strict_input=strict_input,
        presentation=presentation,
        include_embedding=include_embedding,
        cache=cache,
        model=link.settings.model,
    )
    del data

    def result_of(response: pb.ExplainResponse, request_id: str) -> ExplanationSet:
        return ExplanationSet.of(response, request_id, labels)

    return (yield from _call(link, "Explain", request, result_of, deadline, request_id))


def health(link: Link, timeout_s: float | None, request_id: str | None) -> Steps[Health]:
    """Send the request, convert the reply."""
    deadline = _deadline(link, timeout_s)
    return (yield from _call(link, "Health", pb.HealthRequest(), Health.of, deadline, request_id))


def describe_model(
    link: Link, timeout_s: float | None, request_id: str | None
) -> Steps[ModelDescription]:
    """Send the request, convert the reply."""
    deadline = _deadline(link, timeout_s)
    request = pb.DescribeModelRequest(model=link.settings.model)
    result_of = ModelDescription.of
    return (yield from _call(link, "DescribeModel", request, result_of, deadline, request_id))


def wait_until_ready(link: Link, timeout_s: float) -> Steps[Health]:
    """Poll Health until the service is serving."""
    deadline, state = Deadline.after(timeout_s), ""
    kind: type[CxrError] = DeadlineError
    while True:
        attempt_s = max(min(deadline.left_s, _POLL_TIMEOUT_S), 0.001)
        attempt = Deadline.after(attempt_s)
        try:
            report = yield from _call(
                link, "Health", pb.HealthRequest(), Health.of, attempt, None, retry=_ONCE
            )
            if report.serving:
                return report
            kind, state = DeadlineError, f"its status was {report.status.name}"
        except UnavailableError as error:
            kind, state = DeadlineError, error.message
            if not error.reason:  # The answer of a server has one.
                kind = UnavailableError
                link.failed(error.message, again=True)
        except DeadlineError as error:
            # An attempt that was cut short by the whole deadline tells less than the one before.
            if not state or attempt_s == _POLL_TIMEOUT_S:
                kind, state = DeadlineError, error.message
        except (CallCancelledError, OverloadedError) as error:
            kind, state = DeadlineError, error.message
        except ProtocolError as error:
            if _RAY_STARTS not in error.message:
                raise
            kind, state = DeadlineError, error.message
        if deadline.left_s <= _POLL_S:
            raise kind(f"{link.settings.server} was not ready within {timeout_s:g} s: {state}")
        yield Pause(_POLL_S)


def _call(
    link: Link,
    rpc: str,
    request: Message,
    result_of: Callable[[Any, str], T],
    deadline: Deadline,
    request_id: str | None,
    *,
    retry: RetryConfig | None = None,
    priority: Priority | None = None,
) -> Steps[T]:
    """Send a request until it is answered, fails for good, or its deadline passes."""
    request_id = uuid.uuid4().hex if request_id is None else request_id
    settings = link.settings
    request_bytes = request.ByteSize()
    # Sent first, so that a server without room for the request can refuse it before the upload.
    declared = (_REQUEST_BYTES_KEY, str(request_bytes))
    of_call = settings.metadata_of_call(request_id, priority)
    metadata = (*of_call, declared, *trace_context())
    if request_bytes > settings.max_request_bytes:
        raise RequestTooLargeError(
            f"the request is larger than this client's limit of {settings.max_request_bytes} bytes",
            request_id=request_id,
            option="max_request_bytes",
        )
    retries = Retries(retry or settings.retry)
    unreached: UnavailableError | None = None
    while True:
        if not link.connected:
            yield from _connect(link, deadline, request_id)
        if deadline.left_s <= 0:
            raise unreached or DeadlineError(_late(deadline), request_id=request_id)
        outcome = yield Send(rpc, request, deadline.left_s, metadata)
        if isinstance(outcome, Reply):
            link.answered()
            return _converted(outcome, result_of, request_id)
        error = error_of(outcome, request_id)
        if error.reason:
            link.answered()
        elif isinstance(error, UnavailableError):
            error.message = link.problem(error.message)
            unreached = error
        elif isinstance(error, DeadlineError):
            error.message = _late(deadline)
            if not link.connected:  # The deadline has passed while connecting.
                error = unreached = unreached or _no_answer(link, request_id)
            link.connected = False  # The next call checks the connection.
        pause_s = retries.pause_s(error, deadline.left_s)
        if error is unreached:
            link.failed(error.message, again=pause_s is not None)
        if pause_s is None:
            raise error
        yield Pause(pause_s)


def _connect(link: Link, deadline: Deadline, request_id: str) -> Steps[None]:
    """Wait until the channel is connected or has failed to; sending then tells the cause.

    Raises:
        UnavailableError: Nothing answers before the deadline.
    """
    while True:
        seconds = max(0.0, min(_CONNECT_NOTICE_S, deadline.left_s))
        connected: bool | None = yield Connect(seconds)
        if connected is not None:
            link.connected = connected
            return
        error = _no_answer(link, request_id)
        if deadline.left_s <= 0:
            raise error
        link.failed(error.message, again=True)


def _no_answer(link: Link, request_id: str) -> UnavailableError:
    code = grpc.StatusCode.UNAVAILABLE
    return UnavailableError(link.problem(NO_ANSWER), code=code, request_id=request_id)


def _deadline(link: Link, timeout_s: float | None) -> Deadline:
    return Deadline.after(link.settings.timeout_s if timeout_s is None else timeout_s)


def _late(deadline: Deadline) -> str:
    return f"no answer within {deadline.timeout_s:g} s"


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
