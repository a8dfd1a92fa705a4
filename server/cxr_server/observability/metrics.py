"""Metrics: everything counted, for Prometheus. Names follow OpenTelemetry's rpc.server."""

from collections import Counter as TallyCounter
from collections.abc import Callable, Iterator
from contextlib import contextmanager

from prometheus_client import CollectorRegistry, Counter, Gauge, Histogram, start_http_server
from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily, Metric
from prometheus_client.registry import Collector

from cxr_server.observability.call import Call

_SECONDS = (0.005, 0.01, 0.025, 0.05, 0.1, 0.15, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0, 30.0)
_BYTES = tuple(float(4**power) for power in range(4, 14))


class Metrics:
    """One registry with everything that the server counts."""

    def __init__(self) -> None:
        registry = self.registry = CollectorRegistry()
        self._duration = Histogram(
            "rpc_server_call_duration_seconds",
            "Time from a call's arrival to its end.",
            ("rpc_method", "rpc_response_status_code"),
            buckets=_SECONDS,
            registry=registry,
        )
        self._request_bytes = Histogram(
            "rpc_server_request_size_bytes",
            "Size of request messages.",
            ("rpc_method",),
            buckets=_BYTES,
            registry=registry,
        )
        self._active = Gauge(
            "rpc_server_active_calls", "Calls not ended yet.", ("rpc_method",), registry=registry
        )
        self._active_now: TallyCounter[str] = TallyCounter()
        self._refused = Counter(
            "cxr_calls_refused", "Calls ended with an error, by reason.", ("reason",),
            registry=registry,
        )  # fmt: skip
        self._dropped = Counter(
            "cxr_calls_dropped", "Calls given up by their caller.", ("cause",), registry=registry
        )
        self._callers = Counter(
            "cxr_caller_calls", "Calls by the name of their token.", ("caller",), registry=registry
        )
        self._stages = Histogram(
            "cxr_stage_duration_seconds",
            "Time in each stage of a call; queue is the wait for a turn.",
            ("stage",),
            buckets=_SECONDS,
            registry=registry,
        )
        self.engine_failures = Counter(
            "cxr_engine_failures", "Times that the engine failed.", registry=registry
        )

    @contextmanager
    def in_flight(self, method: str) -> Iterator[None]:
        """Count a call as active while the block runs."""
        gauge = self._active.labels(method)
        gauge.inc()
        self._active_now[method] += 1
        try:
            yield
        finally:
            gauge.dec()
            self._active_now[method] -= 1

    def active(self, *methods: str) -> int:
        """Calls of these methods that have not ended."""
        return int(sum(self._active_now[method] for method in methods))

    def finished(self, call: Call, code: str, seconds: float) -> None:
        """Count a call that has ended."""
        self._duration.labels(call.method, code).observe(seconds)
        if call.request_bytes:
            self._request_bytes.labels(call.method).observe(call.request_bytes)
        if call.reason:
            self._refused.labels(call.reason).inc()
        if code in ("CANCELLED", "DEADLINE_EXCEEDED"):
            self._dropped.labels(code.lower()).inc()
        if ":" not in call.caller:  # a token's name; an address would be one series each
            self._callers.labels(call.caller).inc()

    def stage(self, name: str, seconds: float | None) -> None:
        """Count the time of a stage, where it ran."""
        if seconds is not None:
            self._stages.labels(name).observe(seconds)

    def watch(self, read: Callable[[], dict[str, float]]) -> None:
        """Report values that others keep, read at every scrape; `*_total` are counters."""
        self.registry.register(_Reader(read))

    def expose(self, host: str, port: int) -> Callable[[], None]:
        """Serve the metrics over HTTP from a thread of its own. Returns its stop."""
        server, thread = start_http_server(port, host, registry=self.registry)

        def stop() -> None:
            server.shutdown()
            server.server_close()
            thread.join()

        return stop


class _Reader(Collector):
    def __init__(self, read: Callable[[], dict[str, float]]) -> None:
        self._read = read

    def collect(self) -> Iterator[Metric]:
        for name, value in self._read().items():
            family = CounterMetricFamily if name.endswith("_total") else GaugeMetricFamily
            yield family(name.removesuffix("_total"), name.replace("_", " "), value=value)
