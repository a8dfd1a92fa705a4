"""Trace context: the caller's OpenTelemetry trace -> metadata of a call. Next: calls."""

import sys

_API = "opentelemetry.trace"


def trace_context() -> tuple[tuple[str, str], ...]:
    """Return the metadata that continues the trace in which the caller is, by W3C Trace Context.

    Nothing is imported for it: a process that has not imported OpenTelemetry has no trace.
    """
    if _API not in sys.modules:
        return ()
    from opentelemetry.trace.propagation.tracecontext import TraceContextTextMapPropagator

    carrier: dict[str, str] = {}
    TraceContextTextMapPropagator().inject(carrier)
    return tuple(carrier.items())
