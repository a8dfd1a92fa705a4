"""A collector of traces: an OTLP receiver over gRPC in this process."""

import threading
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from typing import Any, NamedTuple

import grpc
from opentelemetry.proto.collector.trace.v1 import trace_service_pb2, trace_service_pb2_grpc


class Span(NamedTuple):
    """A span as it arrived."""

    name: str
    kind: int
    trace_id: str
    span_id: str
    parent_id: str
    start_s: float
    end_s: float
    failed: bool
    attributes: dict[str, Any]
    resource: dict[str, Any]


class Receiver(trace_service_pb2_grpc.TraceServiceServicer):
    """Keeps what it receives. Use as a context manager."""

    def __init__(self) -> None:
        self.raw = b""
        self.spans: list[Span] = []
        self._changed = threading.Condition()
        self._server = grpc.server(ThreadPoolExecutor(2))
        add = trace_service_pb2_grpc.add_TraceServiceServicer_to_server
        add(self, self._server)  # type: ignore[no-untyped-call]
        port = self._server.add_insecure_port("127.0.0.1:0")
        self.env = {
            "OTEL_EXPORTER_OTLP_ENDPOINT": f"http://127.0.0.1:{port}",
            "OTEL_BSP_SCHEDULE_DELAY": "20",
        }

    def __enter__(self) -> "Receiver":
        self._server.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._server.stop(0).wait()

    def Export(self, request: Any, context: object) -> Any:
        with self._changed:
            self.raw += request.SerializeToString()
            for group in request.resource_spans:
                resource = plain(group.resource.attributes)
                self.spans += [
                    span_of(each, resource) for scope in group.scope_spans for each in scope.spans
                ]
            self._changed.notify_all()
        return trace_service_pb2.ExportTraceServiceResponse()

    def wait(self, of: Callable[[Span], bool], timeout_s: float = 60) -> list[Span]:
        """The spans of this kind, once there is one."""
        found: list[Span] = []

        def arrived() -> bool:
            found[:] = filter(of, self.spans)
            return bool(found)

        with self._changed:
            assert self._changed.wait_for(arrived, timeout_s), self.spans
        return found

    def call(self, request_id: str) -> tuple[Span, list[Span]]:
        """The span of a call, and those of its stages, which arrive before it."""
        (call,) = self.wait(lambda span: span.attributes.get("cxr.request_id") == request_id)
        return call, [span for span in self.spans if span.parent_id == call.span_id]


def plain(attributes: Any) -> dict[str, Any]:
    return {each.key: getattr(each.value, each.value.WhichOneof("value")) for each in attributes}


def span_of(span: Any, resource: dict[str, Any]) -> Span:
    return Span(
        span.name,
        span.kind,
        span.trace_id.hex(),
        span.span_id.hex(),
        span.parent_span_id.hex(),
        span.start_time_unix_nano / 1e9,
        span.end_time_unix_nano / 1e9,
        span.status.code == span.status.STATUS_CODE_ERROR,
        plain(span.attributes),
        resource,
    )
