"""Metrics for Prometheus. Names follow OpenTelemetry's `rpc.server` where there is one."""

from collections.abc import Callable, Iterator, Mapping
from functools import partial

from prometheus_client import CollectorRegistry, Counter, Gauge, Histogram, start_http_server
from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily, Metric
from prometheus_client.registry import Collector

from cxr_server.observability.call import Call

_SECONDS = (0.005, 0.01, 0.025, 0.05, 0.1, 0.15, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0, 30.0)
_BYTES = tuple(float(4**power) for power in range(4, 14))


class Metrics:
    """One registry with everything that the server counts."""

    def __init__(self) -> None:
        self.registry = CollectorRegistry()
        counter = partial(Counter, registry=self.registry)
        histogram = partial(Histogram, registry=self.registry)
        self._duration = histogram(
            "rpc_server_call_duration_seconds",
            "Time from a call's arrival to its end.",
            ("rpc_method", "rpc_response_status_code"),
            buckets=_SECONDS,
        )
        self._request_bytes = histogram(
            "rpc_server_request_size_bytes", "Size of requests.", ["rpc_method"], buckets=_BYTES
        )
        self._stages = histogram(
            "cxr_stage_duration_seconds",
            "Time in each stage of a call; queue is the wait for the engine.",
            ("stage",),
            buckets=_SECONDS,
        )
        self._active = Gauge(
            "rpc_server_active_calls", "Calls in flight.", ("rpc_method",), registry=self.registry
        )
        self._refused = counter(
            "cxr_calls_refused", "Calls ended with an error, by reason.", ["reason"]
        )
        self._dropped = counter("cxr_calls_dropped", "Calls cancelled or expired.", ["cause"])
        self._callers = counter("cxr_caller_calls", "Calls by the name of their token.", ["caller"])
        self.engine_failures = counter("cxr_engine_failures", "Failures of the engine.")
        self.decode_processes_ended = counter(
            "cxr_decode_processes_ended", "Decode processes that ended or were ended.", ["cause"]
        )

    def started(self, call: Call) -> None:
        """Count a call as in flight until it has `finished`."""
        self._active.labels(call.method).inc()

    def finished(self, call: Call, code: str, seconds: float) -> None:
        """Count a call that has ended."""
        self._active.labels(call.method).dec()
        self._duration.labels(call.method, code).observe(seconds)
        if call.request_bytes:
            self._request_bytes.labels(call.method).observe(call.request_bytes)
        if call.reason:
            self._refused.labels(call.reason).inc()
        if code in ("CANCELLED", "DEADLINE_EXCEEDED"):
            self._dropped.labels(code.lower()).inc()
        # Hosts and certificates are not bounded in number, and would be a time series each.
        if call.token:
            self._callers.labels(call.token).inc()

    def stages(self, durations_s: Mapping[str, float]) -> None:
        """Count the durations of a call's stages, by name."""
        for name, seconds in durations_s.items():
            self._stages.labels(name).observe(seconds)

    def report(self, name: str, help_text: str, read: Callable[[], float]) -> None:
        """Report a value kept elsewhere, read at each scrape; a count if it ends in `_total`."""
        family = CounterMetricFamily if name.endswith("_total") else GaugeMetricFamily
        self.registry.register(_Reader(lambda: family(name, help_text, value=read())))

    def expose(self, host: str, port: int) -> Callable[[], None]:
        """Serve the metrics over HTTP from a thread. Returns the function that stops it."""
        server, thread = start_http_server(port, host, registry=self.registry)

        def stop() -> None:
            server.shutdown()
            server.server_close()
            thread.join()

        return stop


class _Reader(Collector):
    def __init__(self, read: Callable[[], Metric]) -> None:
        self._read = read

    def collect(self) -> Iterator[Metric]:
        yield self._read()
