"""Ended calls are counted and logged: several together, and all before the server stops."""

import asyncio
import gc
import weakref

from structlog.testing import capture_logs

from cxr_server.observability.call import Call
from cxr_server.observability.ended_calls import EndedCalls
from cxr_server.observability.metrics import Metrics

METHOD = "test.v1.Echo/Unary"


def ended_call(request_id: str, metrics: Metrics) -> Call:
    call = Call(METHOD, request_id, "host:10.0.0.7")
    metrics.started(call)
    call.code = "OK"
    metrics.finished(call, call.code, 0.1)
    return call


async def test_calls_are_logged_together_and_a_server_that_stops_waits_for_no_more() -> None:
    metrics = Metrics()
    ended = EndedCalls(metrics, quiet=frozenset())
    with capture_logs() as lines:
        for request_id in ("first", "second"):
            ended.add(ended_call(request_id, metrics), 0.1)
        assert not lines
        ended.flush()
        assert [line["request_id"] for line in lines] == ["first", "second"]
        ended.add(ended_call("last", metrics), 0.1)
        await asyncio.sleep(0)
        await asyncio.sleep(0)
        assert [line["request_id"] for line in lines] == ["first", "second", "last"]


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
