"""Metrics: what is counted while calls are answered. docs/metrics.md lists all of it.

Names and labels follow OpenTelemetry's `rpc.server` where there is one. Every series whose labels
are known beforehand begins at zero: `rate` would miss the first event of a series that appears
with it.
"""

import threading
from collections import deque
from collections.abc import Callable, Iterable, Mapping
from functools import cache, partial

from prometheus_client import (
    CollectorRegistry,
    Counter,
    Gauge,
    Histogram,
    ProcessCollector,
    disable_created_metrics,
)
from prometheus_client.core import Metric

from cxr_server.errors import RequestError
from cxr_server.observability.call import Call

CALL = ("rpc_system_name", "rpc_method")
"""Labels of every metric about calls; the method is `package.Service/Method`."""
_SYSTEM = "grpc"
_SECONDS = (0.005, 0.01, 0.025, 0.05, 0.1, 0.15, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0, 30.0)
_LAG_SECONDS = (0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 5.0)
_BYTES = tuple(float(4**power) for power in range(4, 14))
_MOST_NOTED = 1000
_CAUSES = {"CANCELLED": "cancelled", "DEADLINE_EXCEEDED": "deadline_exceeded"}

disable_created_metrics()  # type: ignore[no-untyped-call] # a second series for each counter, which nobody asks for


class Metrics:
    """One registry with everything that the server counts.

    What calls are counted for is noted, and counted for several of them together: by `count`, when
    the registry is read, and whenever `_MOST_NOTED` wait. Series that are counted for every call
    are looked up once: `labels` takes as long as the counting.
    """

    def __init__(self) -> None:
        self.registry = CollectorRegistry()
        self._noted: deque[Callable[[], None]] = deque()
        self._counting = threading.RLock()  # the end of a lost call may be noted meanwhile
        self.registry.register(self)  # the first, so that the others are read once all is counted
        ProcessCollector(registry=self.registry)
        counter = partial(Counter, registry=self.registry)
        gauge = partial(Gauge, registry=self.registry)
        histogram = partial(Histogram, registry=self.registry)
        self._duration = cache(
            histogram(
                "rpc_server_call_duration_seconds",
                "Time from a call's arrival until its answer is ready to be sent.",
                (*CALL, "rpc_response_status_code"),
                buckets=_SECONDS,
            ).labels
        )
        self._request_bytes = cache(
            histogram(
                "rpc_server_request_size_bytes",
                "Size of request messages, as they are on the wire.",
                CALL,
                buckets=_BYTES,
            ).labels
        )
        self._response_bytes = cache(
            histogram(
                "rpc_server_response_size_bytes",
                "Size of response messages, as they are on the wire. Streams are not counted.",
                CALL,
                buckets=_BYTES,
            ).labels
        )
        self._active = cache(
            gauge(
                "rpc_server_active_calls",
                "Calls that have arrived and whose answer is not ready.",
                CALL,
            ).labels
        )
        self._stage = cache(
            histogram(
                "cxr_stage_duration_seconds",
                "Time of an answered call in a stage: decode (file to network input), queue (wait"
                " for a decode worker, the engine or a drawing thread), inference (engine's work on"
                " the batch that held the image), render (heat maps).",
                ("served_as", "rpc_method", "stage"),
                buckets=_SECONDS,
            ).labels
        )
        self._refused = cache(
            counter(
                "cxr_calls_refused", "Calls that ended with an error, by its reason.", ["reason"]
            ).labels
        )
        self._dropped = cache(
            counter(
                "cxr_calls_dropped",
                "Calls that ended before their answer: cancelled by the caller, or past their"
                " deadline.",
                ["cause"],
            ).labels
        )
        self._callers = cache(
            counter(
                "cxr_caller_calls",
                "Calls by the name of their bearer token. Callers without a token are not counted.",
                ["caller"],
            ).labels
        )
        self._warnings = cache(
            counter(
                "cxr_warnings",
                "Input warnings in answers, by code, cached answers included. Scores are not"
                " recorded, so a change of these is the sign that the images have changed.",
                ["served_as", "code"],
            ).labels
        )
        self._model_calls = cache(
            counter(
                "cxr_model_calls",
                "Calls that asked a model that is served, by the status that they ended with.",
                ["served_as", "rpc_method", "rpc_response_status_code"],
            ).labels
        )
        self._images = cache(
            counter(
                "cxr_answered_images",
                "Images answered, from the cache or not: one for each call, but of ModelInfer.",
                ["served_as"],
            ).labels
        )
        self.decode_processes_ended = counter(
            "cxr_decode_processes_ended",
            "Decode processes that ended or were ended, and are replaced when needed.",
            ["cause"],
        )
        self.loop_lag = histogram(
            "cxr_event_loop_lag_seconds",
            "How late the event loop ran what was due, looked at four times a second.",
            buckets=_LAG_SECONDS,
        )
        for error in _kinds(RequestError):
            self._refused(error.reason)
        for cause in _CAUSES.values():
            self._dropped(cause)

    def expect(self, methods: Iterable[str], others: Iterable[str]) -> None:
        """Let the series of these full method names begin at zero.

        `methods` need the model, and end with any status; `others` end with OK.
        """
        for method in methods:
            for status in _statuses():
                self._duration(_SYSTEM, method, status)
        for method in others:
            self._duration(_SYSTEM, method, "OK")
        for method in (*methods, *others):
            for of_method in (self._active, self._request_bytes, self._response_bytes):
                of_method(_SYSTEM, method)

    def expect_model(
        self, served_as: str, stages: Mapping[str, Iterable[str]], warnings: Iterable[str]
    ) -> None:
        """Let the series of a model begin at zero; the stages are by the full method name."""
        for method, of_method in stages.items():
            for status in _statuses():
                self._model_calls(served_as, method, status)
            for stage in of_method:
                self._stage(served_as, method, stage)
        for code in warnings:
            self._warnings(served_as, code)
        self._images(served_as)

    def started(self, call: Call) -> None:
        """Note that a call is in flight until it has `finished`."""
        self._note(self._active(_SYSTEM, call.method).inc)

    def finished(self, call: Call, status: str, seconds: float) -> None:
        """Note that a call has ended."""
        self._note(partial(self._count_finished, call, status, seconds))

    def answered(
        self, call: Call, durations_s: Mapping[str, float], warnings: Iterable[str]
    ) -> None:
        """Note an answered image: what it took, by the name of the stage, and its warnings."""
        self._note(partial(self._count_answered, call, durations_s, warnings))

    def _note(self, count: Callable[[], None]) -> None:
        self._noted.append(count)
        if len(self._noted) >= _MOST_NOTED:
            self.count()

    def count(self) -> None:
        """Count what is noted. For any thread."""
        with self._counting:
            while self._noted:
                self._noted.popleft()()

    def collect(self) -> Iterable[Metric]:
        """Count what is noted. Called by the registry, which then reads its metrics."""
        self.count()
        return ()

    def _count_finished(self, call: Call, status: str, seconds: float) -> None:
        method = call.method
        self._active(_SYSTEM, method).dec()
        self._duration(_SYSTEM, method, status).observe(seconds)
        if call.request_bytes:
            self._request_bytes(_SYSTEM, method).observe(call.request_bytes)
        if call.response_bytes:
            self._response_bytes(_SYSTEM, method).observe(call.response_bytes)
        if call.served_as:
            self._model_calls(call.served_as, method, status).inc()
        if call.reason:
            self._refused(call.reason).inc()
        if cause := _CAUSES.get(status):
            self._dropped(cause).inc()
        # Hosts and certificates are not bounded in number, and would be a time series each.
        if call.token:
            self._callers(call.token).inc()

    def _count_answered(
        self, call: Call, durations_s: Mapping[str, float], warnings: Iterable[str]
    ) -> None:
        self._images(call.served_as).inc()
        for stage, seconds in durations_s.items():
            self._stage(call.served_as, call.method, stage).observe(seconds)
        for code in warnings:
            self._warnings(call.served_as, code).inc()


def _statuses() -> set[str]:
    """Return the statuses of calls for the model."""
    return {"OK", *_CAUSES, *(error.status for error in _kinds(RequestError))}


def _kinds(error: type[RequestError]) -> list[type[RequestError]]:
    """Return a class of errors and all below it."""
    return [error, *(kind for below in error.__subclasses__() for kind in _kinds(below))]
