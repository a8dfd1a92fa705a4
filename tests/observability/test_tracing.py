"""Tracing: the spans that a collector receives, and when there are any."""

import asyncio
import itertools
import os
import signal
import socket
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any, NamedTuple

import grpc
import pytest
from opentelemetry.trace import NonRecordingSpan, SpanContext, TraceFlags, use_span

from cxr.v1 import chest_xray_pb2 as pb
from cxr.v1.chest_xray_pb2_grpc import ChestXrayServiceStub
from cxr_client import Client
from cxr_server import __version__
from cxr_server.app import App
from cxr_server.observability import tracing
from cxr_server.observability.call import Call
from cxr_server.rpc.open_inference import open_inference_pb2 as oip
from cxr_server.rpc.open_inference.open_inference_pb2_grpc import GRPCInferenceServiceStub
from cxr_server.settings import parse
from images import chest_like, png
from otlp_receiver import Receiver
from serving import ServerProcess

IMAGE = png(chest_like())
TRACE, CALLER = "0af7651916cd43dd8448eb211c80319c", "b7ad6b7169203331"
SAMPLED = f"00-{TRACE}-{CALLER}-01"
NOT_SAMPLED = f"00-{TRACE}-{CALLER}-00"
SERVER = 2  # of opentelemetry.proto's SpanKind


class Traced(NamedTuple):
    receiver: Receiver
    address: str
    channel: grpc.Channel
    stub: ChestXrayServiceStub


@contextmanager
def serving(app: App) -> Iterator[App]:
    """Serve on an event loop in a thread."""
    loop = asyncio.new_event_loop()
    thread = threading.Thread(target=loop.run_forever)
    thread.start()

    def run(work: Any) -> None:
        asyncio.run_coroutine_threadsafe(work, loop).result(100)

    run(app.start())
    run(app.load())
    try:
        yield app
    finally:
        run(app.drain())
        loop.call_soon_threadsafe(loop.stop)
        thread.join()
        loop.close()


@pytest.fixture(scope="module")
def traced() -> Iterator[Traced]:
    with Receiver() as receiver, pytest.MonkeyPatch.context() as patch:
        for name, value in receiver.env.items():
            patch.setenv(name, value)
        patch.setenv("OTEL_RESOURCE_ATTRIBUTES", "deployment.environment.name=test")
        settings = parse(["--listen", "127.0.0.1:0", "--open-inference"], env={})
        with serving(App(settings, tracing.start(os.environ))) as app:
            address = f"127.0.0.1:{app.port}"
            with grpc.insecure_channel(address) as channel:
                yield Traced(receiver, address, channel, ChestXrayServiceStub(channel))


def metadata(request_id: str, traceparent: str = SAMPLED) -> tuple[tuple[str, str], ...]:
    return (("x-request-id", request_id), ("traceparent", traceparent), ("tracestate", "ward=3"))


def test_a_call_is_a_span_in_the_trace_of_its_caller(traced: Traced) -> None:
    before_s = time.time()
    traced.stub.Predict(pb.PredictRequest(image=IMAGE), metadata=metadata("in-trace"))
    after_s = time.time()
    call, _ = traced.receiver.call("in-trace")
    assert (call.name, call.kind) == ("cxr.v1.ChestXrayService/Predict", SERVER)
    assert (call.trace_id, call.parent_id) == (TRACE, CALLER)
    assert before_s - 1 < call.start_s < call.end_s < after_s + 1
    assert not call.failed
    assert call.attributes == {
        "rpc.system.name": "grpc",
        "rpc.method": "cxr.v1.ChestXrayService/Predict",
        "rpc.response.status_code": "OK",
        "cxr.request_id": "in-trace",
        "cxr.request_bytes": pb.PredictRequest(image=IMAGE).ByteSize(),
        "cxr.cached": call.attributes["cxr.cached"],
    }
    told = {"service.name", "service.version", "deployment.environment.name"}
    assert [call.resource[name] for name in sorted(told)] == ["test", "cxr-serve", __version__]


def test_the_client_s_caller_and_the_server_are_in_one_trace(traced: Traced) -> None:
    parent = SpanContext(int(TRACE, 16), int(CALLER, 16), False, TraceFlags(TraceFlags.SAMPLED))
    with Client(traced.address) as client, use_span(NonRecordingSpan(parent)):
        client.health(request_id="by-client")
    call, _ = traced.receiver.call("by-client")
    assert (call.trace_id, call.parent_id) == (TRACE, CALLER)


def test_each_stage_is_a_span_inside_that_of_the_call(traced: Traced) -> None:
    image = png(chest_like(seed=1))
    traced.stub.Explain(pb.ExplainRequest(image=image), metadata=metadata("stages"))
    call, stages = traced.receiver.call("stages")
    stages.sort(key=lambda span: (span.start_s, span.end_s))
    waits = [span for span in stages if span.name == "queue"]
    work = [span for span in stages if span.name != "queue"]
    assert [span.name for span in work] == ["decode", "inference", "render"]
    assert len(waits) == 3
    assert {span.trace_id for span in stages} == {TRACE}
    assert call.start_s <= stages[0].start_s
    assert max(span.end_s for span in stages) <= call.end_s
    for one, following in itertools.pairwise(work):
        assert one.end_s <= following.start_s
    assert work[1].attributes == {
        "cxr.batch_size": 1,
        "cxr.engine": "openvino",
        "cxr.device": "CPU",
    }


def test_a_call_with_several_images_has_the_stages_of_all(traced: Traced) -> None:
    request = oip.ModelInferRequest(model_name="phantom")
    images = [png(chest_like(seed=seed)) for seed in (21, 22, 23)]
    tensor = request.inputs.add(name="image", datatype="BYTES", shape=[len(images)])
    tensor.contents.bytes_contents.extend(images)
    infer = GRPCInferenceServiceStub(traced.channel).ModelInfer  # type: ignore[no-untyped-call]
    infer(request, metadata=metadata("several"))
    _, stages = traced.receiver.call("several")
    names = [span.name for span in stages]
    assert names.count("decode") == names.count("inference") == len(images)


def test_what_is_cached_has_no_span_of_inference(traced: Traced) -> None:
    for request_id in ("first", "second"):
        traced.stub.Predict(pb.PredictRequest(image=IMAGE), metadata=metadata(request_id))
    call, stages = traced.receiver.call("second")
    assert (call.attributes["cxr.cached"], stages) == (True, [])


def test_a_refusal_has_its_reason_and_is_no_error_of_the_server(traced: Traced) -> None:
    with pytest.raises(grpc.RpcError):
        traced.stub.Predict(pb.PredictRequest(image=IMAGE[:-40]), metadata=metadata("refused"))
    call, stages = traced.receiver.call("refused")
    assert call.attributes["error.type"] == "IMAGE_UNREADABLE"
    assert call.attributes["rpc.response.status_code"] == "INVALID_ARGUMENT"
    assert not call.failed
    assert [span.name for span in stages] == ["queue", "decode"]


def test_an_expired_deadline_is_an_error(traced: Traced) -> None:
    def nothing() -> Iterator[bytes]:
        threading.Event().wait(2)
        yield from ()

    # gRPC sends a timeout of 1010 ms, so the caller gives up before the deadline passes here.
    upload = traced.channel.stream_unary("/cxr.v1.ChestXrayService/Predict")
    with pytest.raises(grpc.RpcError):
        upload(nothing(), timeout=1.001, metadata=metadata("expired"))
    call, _ = traced.receiver.call("expired")
    assert call.failed
    assert call.attributes["rpc.response.status_code"] == "DEADLINE_EXCEEDED"
    assert call.attributes["error.type"] in ("DEADLINE_EXCEEDED", "DEADLINE_EXPIRED")


@pytest.mark.parametrize(
    "header",
    [
        "",
        "junk",
        f"00-{'0' * 32}-{CALLER}-01",
        f"00-{TRACE}-{'0' * 16}-01",
        f"ff-{TRACE}-{CALLER}-01",
        f"{SAMPLED}-more",
        SAMPLED.upper(),
        SAMPLED + " " * 600,
        "00-" + "a" * 4000,
    ],
)
def test_a_trace_context_that_is_not_valid_is_ignored(traced: Traced, header: str) -> None:
    request_id = f"bad-{abs(hash(header))}"
    traced.stub.DescribeModel(pb.DescribeModelRequest(), metadata=metadata(request_id, header))
    call, _ = traced.receiver.call(request_id)
    assert call.parent_id == ""
    assert call.trace_id != TRACE


def test_a_trace_state_that_is_not_valid_is_ignored_and_not_logged(
    traced: Traced, caplog: pytest.LogCaptureFixture
) -> None:
    headers = (*metadata("bad-state")[:2], ("tracestate", "no member"))
    traced.stub.DescribeModel(pb.DescribeModelRequest(), metadata=headers)
    call, _ = traced.receiver.call("bad-state")
    assert call.trace_id == TRACE
    assert not caplog.records


def test_a_trace_that_its_caller_does_not_sample_is_not_recorded(traced: Traced) -> None:
    for request_id, header in (("unsampled", NOT_SAMPLED), ("sampled", SAMPLED)):
        traced.stub.DescribeModel(pb.DescribeModelRequest(), metadata=metadata(request_id, header))
    traced.receiver.call("sampled")
    recorded = {span.attributes.get("cxr.request_id") for span in traced.receiver.spans}
    assert "unsampled" not in recorded


def test_probes_are_not_traced(traced: Traced) -> None:
    check = traced.channel.unary_unary("/grpc.health.v1.Health/Check")
    check(b"", metadata=metadata("probe"))
    traced.stub.Health(pb.HealthRequest(), metadata=metadata("after"))
    traced.receiver.call("after")
    assert not any("grpc.health" in span.name for span in traced.receiver.spans)


@pytest.mark.parametrize(
    ("sampler", "argument", "share"),
    [("always_off", "", 0), ("always_on", "", 1), ("traceidratio", "0.5", 0.5)],
)
def test_the_sampler_is_that_of_the_environment(
    sampler: str, argument: str, share: float, monkeypatch: pytest.MonkeyPatch
) -> None:
    with Receiver() as receiver:
        env = {**receiver.env, "OTEL_TRACES_SAMPLER": sampler, "OTEL_TRACES_SAMPLER_ARG": argument}
        for name, value in env.items():
            monkeypatch.setenv(name, value)
        recorder = tracing.start(os.environ)
        assert recorder
        ids = [recorder.record(Call("s/Method", f"{n}", "", code="OK"), 0.1) for n in range(400)]
        recorder.stop()
    known = {span.trace_id for span in receiver.spans}
    assert known == set(ids) - {""}
    assert len(known) == pytest.approx(400 * share, abs=100 if 0 < share < 1 else 0)


@pytest.mark.parametrize(
    ("env", "state"),
    [
        ({}, "off"),
        ({"OTEL_EXPORTER_OTLP_ENDPOINT": ""}, "off"),
        ({"OTEL_SERVICE_NAME": "x", "OTEL_TRACES_SAMPLER": "always_on"}, "off"),
        ({"OTEL_EXPORTER_OTLP_ENDPOINT": "http://c:4317", "OTEL_TRACES_EXPORTER": "none"}, "off"),
        ({"OTEL_EXPORTER_OTLP_ENDPOINT": "http://c:4317", "OTEL_SDK_DISABLED": "true"}, "off"),
        ({"OTEL_TRACES_EXPORTER": "otlp"}, "on; spans go to localhost:4317, "),
        ({"OTEL_EXPORTER_OTLP_ENDPOINT": "http://c:4317"}, "on; spans go to c:4317, "),
        ({"OTEL_EXPORTER_OTLP_TRACES_ENDPOINT": "https://u:p@c:1"}, "on; spans go to c:1, "),
    ],
)
def test_tracing_is_on_where_an_exporter_or_an_endpoint_is_named(
    env: dict[str, str], state: str
) -> None:
    assert tracing.summary(env).startswith(state)
    assert tracing.problem(env) is None


@pytest.mark.parametrize(
    ("env", "told"),
    [
        ({"OTEL_TRACES_EXPORTER": "zipkin"}, "OTEL_TRACES_EXPORTER=zipkin is neither otlp nor"),
        ({"OTEL_EXPORTER_OTLP_PROTOCOL": "http/protobuf"}, "PROTOCOL=http/protobuf is not grpc"),
    ],
)
def test_what_cannot_be_exported_is_told_and_not_traced(env: dict[str, str], told: str) -> None:
    env = {"OTEL_EXPORTER_OTLP_ENDPOINT": "http://c:4317", **env}
    assert told in (tracing.problem(env) or "")
    assert tracing.start(env) is None


def test_the_protocol_of_traces_precedes_that_of_all_signals() -> None:
    env = {
        "OTEL_EXPORTER_OTLP_ENDPOINT": "http://c:4317",
        "OTEL_EXPORTER_OTLP_PROTOCOL": "http/protobuf",
        "OTEL_EXPORTER_OTLP_TRACES_PROTOCOL": "grpc",
    }
    assert tracing.problem(env) is None


def test_a_variable_that_cannot_be_read_turns_tracing_off(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("OTEL_EXPORTER_OTLP_ENDPOINT", "http://127.0.0.1:1")
    monkeypatch.setenv("OTEL_EXPORTER_OTLP_TIMEOUT", "soon")
    assert tracing.start(os.environ) is None


@pytest.mark.slow
def test_a_collector_that_never_answers_delays_no_call_and_not_the_shutdown() -> None:
    with socket.create_server(("127.0.0.1", 0)) as silent:
        env = {
            "OTEL_EXPORTER_OTLP_ENDPOINT": f"http://127.0.0.1:{silent.getsockname()[1]}",
            "OTEL_EXPORTER_OTLP_TIMEOUT": "600",
            "OTEL_BSP_SCHEDULE_DELAY": "20",
        }
        with ServerProcess(env=env) as server:
            with grpc.insecure_channel(server.address) as channel:
                stub = ChestXrayServiceStub(channel)
                for _ in range(3000):  # more than wait for the exporter at most
                    stub.DescribeModel(pb.DescribeModelRequest(), timeout=60)
            assert server.stop(signal.SIGTERM, timeout_s=30) == 0
    assert [event["event"] for event in server.events if event["level"] == "info"][-1] == "stopped"
