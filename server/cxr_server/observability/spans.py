"""Spans: an ended call and its stages -> OpenTelemetry. Imported only where calls are traced.

Names follow the semantic conventions for gRPC, https://opentelemetry.io/docs/specs/semconv/rpc/grpc.
A span has no address of the caller, no file name and no score.
"""

import logging
import threading

from opentelemetry.context import Context
from opentelemetry.exporter.otlp.proto.grpc.trace_exporter import OTLPSpanExporter
from opentelemetry.sdk.resources import Resource
from opentelemetry.sdk.trace import TracerProvider
from opentelemetry.sdk.trace.export import BatchSpanProcessor
from opentelemetry.trace import SpanKind, StatusCode, format_trace_id, set_span_in_context
from opentelemetry.trace.propagation.tracecontext import TraceContextTextMapPropagator

from cxr_server import __version__
from cxr_server.observability.call import Call
from cxr_server.observability.stages import Stages

STOP_S = 1.5
"""The longest time for what is left to be exported at the shutdown, which a collector that is dead
may delay by 2 s: closing the channel takes some of it."""

MAX_HEADER_CHARACTERS = 512
_SERVER_ERRORS = frozenset(
    {"UNKNOWN", "DEADLINE_EXCEEDED", "UNIMPLEMENTED", "INTERNAL", "UNAVAILABLE", "DATA_LOSS"}
)
"""Codes that the conventions count as errors of a server."""

# Its warnings are about headers that are not valid, and show what the caller has sent.
logging.getLogger("opentelemetry.trace.span").setLevel(logging.ERROR)


class Spans:
    """Records calls once they have ended, so that nothing is done while they are answered.

    A thread of OpenTelemetry exports them; spans that wait for it are bounded in number, and
    dropped beyond that.
    """

    def __init__(self, provider: TracerProvider, exporter: OTLPSpanExporter) -> None:
        self._provider = provider
        self._exporter = exporter
        self._tracer = provider.get_tracer("cxr_server", __version__)
        self._w3c = TraceContextTextMapPropagator()

    @classmethod
    def exported(cls) -> "Spans":
        """Return spans that are sampled and exported as the variables `OTEL_*` say."""
        exporter = OTLPSpanExporter()
        provider = TracerProvider(resource=_resource(), shutdown_on_exit=False)
        provider.add_span_processor(BatchSpanProcessor(exporter))
        return cls(provider, exporter)

    def record(self, call: Call, duration_s: float) -> str:
        """Record a call and its stages, in the caller's trace if its headers name one.

        Returns the trace's id, as W3C writes it, or "" if the call is not sampled.
        """
        stages, code = call.stages, call.code
        span = self._tracer.start_span(
            call.method,
            self._parent(call),
            SpanKind.SERVER,
            {
                "rpc.system.name": "grpc",
                "rpc.method": call.method,
                "rpc.response.status_code": code,
                "cxr.request_id": call.request_id,
                "cxr.request_bytes": call.request_bytes,
                **({} if call.cached is None else {"cxr.cached": call.cached}),
                **({"error.type": call.reason or code} if code != "OK" else {}),
            },
            start_time=_nanoseconds(stages, call.started),
        )
        if not span.is_recording():
            return ""
        inside = set_span_in_context(span, Context())
        for stage in tuple(stages.spans):  # a thread may still be adding to those of a lost call
            attributes = {f"cxr.{name}": value for name, value in stage.facts.items()}
            child = self._tracer.start_span(
                stage.stage.value,
                inside,
                attributes=attributes,
                start_time=_nanoseconds(stages, stage.start_s),
            )
            child.end(_nanoseconds(stages, stage.end_s))
        if code in _SERVER_ERRORS:
            span.set_status(StatusCode.ERROR)
        span.end(_nanoseconds(stages, call.started + duration_s))
        return format_trace_id(span.get_span_context().trace_id)

    def stop(self) -> None:
        """Export what is left, for `STOP_S` at most. Blocks."""
        flush = threading.Thread(target=self._provider.shutdown, name="cxr-spans", daemon=True)
        flush.start()
        flush.join(STOP_S)
        if flush.is_alive():  # the collector does not answer: give up
            self._exporter.shutdown()

    def _parent(self, call: Call) -> Context:
        """Return the caller's context; an empty one for headers that are absent or not valid."""
        headers = call.trace_headers.items()
        # Longer ones would be ignored too, but with a warning for each.
        usable = {key: text for key, text in headers if len(text) <= MAX_HEADER_CHARACTERS}
        return self._w3c.extract(usable, Context())


def _nanoseconds(stages: Stages, moment_s: float) -> int:
    """Return a moment of `time.monotonic` as Unix time."""
    return int(1e9 * (stages.epoch_s + moment_s))


def _resource() -> Resource:
    """Return what the environment says of this service, and its name and version."""
    found = Resource.create()
    own = {"service.version": __version__}
    if str(found.attributes["service.name"]).startswith("unknown_service"):
        own["service.name"] = "cxr-serve"
    return found.merge(Resource(own))
