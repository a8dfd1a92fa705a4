"""Ended calls are counted and logged: several together, and all before the server stops."""

import gc
import weakref

from structlog.testing import capture_logs
from structlog.typing import EventDict

from cxr_server.observability.call import Call
from cxr_server.observability.ended_calls import EndedCalls
from cxr_server.observability.metrics import Metrics
from process_tree import wait_until

METHOD = "test.v1.Ended/Unary"


def told(lines: list[EventDict]) -> list[str]:
    """The ids of the calls that were logged, others than those of earlier tests."""
    return [line["request_id"] for line in lines if line.get("method") == METHOD]


def ended_call(request_id: str, metrics: Metrics) -> Call:
    call = Call(METHOD, request_id, "host:10.0.0.7")
    metrics.started(call)
    call.code = "OK"
    metrics.finished(call, call.code, 0.1)
    return call


class FragileRecorder:
    """Traces calls, but none whose id is "broken"."""

    def record(self, call: Call, duration_s: float) -> str:
        if call.request_id == "broken":
            raise ValueError("no such span")
        return f"trace of {call.request_id}"

    def stop(self) -> None: ...


def test_calls_are_logged_in_order_also_before_and_after_the_server_stops() -> None:
    metrics = Metrics()
    ended = EndedCalls(metrics, quiet=frozenset())
    waiting = [f"call {number}" for number in range(100)]
    with capture_logs() as lines:
        ended.add(ended_call("first", metrics), 0.1)
        wait_until(lambda: told(lines) == ["first"])
        for request_id in waiting:
            ended.add(ended_call(request_id, metrics), 0.1)
        ended.flush()
        assert told(lines) == ["first", *waiting]
        ended.add(ended_call("last", metrics), 0.1)
        wait_until(lambda: told(lines) == ["first", *waiting, "last"])


def test_a_call_that_cannot_be_traced_does_not_keep_others_out_of_the_log() -> None:
    metrics = Metrics()
    ended = EndedCalls(metrics, frozenset(), FragileRecorder())
    with capture_logs() as lines:
        for request_id in ("broken", "whole"):
            ended.add(ended_call(request_id, metrics), 0.1)
        wait_until(lambda: told(lines) == ["whole"])
    assert any(line.get("request_id") == "broken" and line["exc_info"] for line in lines)


def test_what_is_noted_is_counted_when_the_metrics_are_read() -> None:
    metrics = Metrics()
    read = metrics.registry.get_sample_value
    method = {"rpc_system_name": "grpc", "rpc_method": METHOD}
    call = Call(METHOD, "id", "host:10.0.0.7")
    metrics.started(call)
    assert read("rpc_server_active_calls", method) == 1
    metrics.finished(call, "OK", 0.1)
    assert read("rpc_server_active_calls", method) == 0
    of_ok = method | {"rpc_response_status_code": "OK"}
    assert read("rpc_server_call_duration_seconds_count", of_ok) == 1


def test_what_is_noted_is_not_kept_for_long_also_if_nobody_reads_the_metrics() -> None:
    class Warnings(list[str]):
        """A list that can be referred to weakly."""

    metrics, call, warnings = Metrics(), Call(METHOD, "id", "host:10.0.0.7"), Warnings()
    kept = weakref.ref(warnings)
    metrics.answered(call, {}, warnings)
    del warnings
    for _ in range(2000):
        metrics.answered(call, {}, ())
    gc.collect()
    assert kept() is None
