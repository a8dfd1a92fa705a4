"""The client continues the trace of its caller, where the caller's process has one."""

from opentelemetry import trace

from clients import PNG, Ask
from cxr_client.testing import FakeServer

PARENT = trace.SpanContext(
    trace_id=0x0AF7651916CD43DD8448EB211C80319C,
    span_id=0xB7AD6B7169203331,
    is_remote=False,
    trace_flags=trace.TraceFlags(1),
    trace_state=trace.TraceState([("ward", "3")]),
)


def test_a_call_carries_the_trace_context_of_its_caller(fake: FakeServer, ask: Ask) -> None:
    with trace.use_span(trace.NonRecordingSpan(PARENT)):
        ask(fake.address, "predict", PNG)
    sent = fake.calls[-1].metadata
    assert sent["traceparent"] == "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01"
    assert sent["tracestate"] == "ward=3"


def test_a_call_outside_of_a_trace_carries_none(fake: FakeServer, ask: Ask) -> None:
    ask(fake.address, "health")
    assert not {"traceparent", "tracestate"} & set(fake.calls[-1].metadata)
