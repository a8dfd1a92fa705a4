"""What the Prometheus endpoint counts, and the request id in log and metadata."""

import json
import threading
import time
from collections.abc import Iterator

import grpc
import pytest

from cxr.v1 import chest_xray_pb2 as pb
from cxr.v1.chest_xray_pb2_grpc import ChestXrayServiceStub
from images import chest_like, png
from scrape import scrape
from serving import ServerProcess
from trust.outcomes import outcome_of
from trust.ports import free_port

SERVICE = "cxr.v1.ChestXrayService"
PHANTOM = '{served_as="phantom"}'


class Watched:
    """A server with its metrics, and their values before a test."""

    def __init__(self, server: ServerProcess, metrics: str, stub: ChestXrayServiceStub) -> None:
        self.server, self.metrics, self.stub = server, metrics, stub
        self._before: dict[str, float] = {}

    def mark(self) -> None:
        self._before = scrape(self.metrics)

    def since(self, name: str) -> float:
        """What was counted since `mark`; waits for it to be counted."""
        until = time.monotonic() + 60
        while True:
            count = scrape(self.metrics).get(name, 0) - self._before.get(name, 0)
            if count or time.monotonic() > until:
                return count
            time.sleep(0.02)


@pytest.fixture(scope="module")
def server() -> Iterator[Watched]:
    metrics = f"127.0.0.1:{free_port()}"
    with ServerProcess("--metrics-listen", metrics) as process:
        with grpc.insecure_channel(process.address) as channel:
            yield Watched(process, metrics, ChestXrayServiceStub(channel))
        assert process.stop() == 0


@pytest.fixture
def watched(server: Watched) -> Watched:
    server.mark()
    return server


def test_calls_are_timed_by_method_and_code_under_opentelemetrys_names(watched: Watched) -> None:
    watched.stub.Predict(pb.PredictRequest(image=png(chest_like(seed=1))))
    watched.stub.Health(pb.HealthRequest())
    outcome_of(lambda: watched.stub.Predict(pb.PredictRequest()))
    for method, code in [("Predict", "OK"), ("Health", "OK"), ("Predict", "INVALID_ARGUMENT")]:
        labels = f'rpc_method="{SERVICE}/{method}",rpc_response_status_code="{code}"'
        count = f'rpc_server_call_duration_seconds_count{{{labels},rpc_system_name="grpc"}}'
        assert watched.since(count) == 1
    predict = f'{{rpc_method="{SERVICE}/Predict",rpc_system_name="grpc"}}'
    assert watched.since(f"rpc_server_request_size_bytes_count{predict}") == 1  # one was empty
    assert watched.since(f"rpc_server_response_size_bytes_count{predict}") == 1
    assert watched.since(f"rpc_server_response_size_bytes_sum{predict}") > 100
    assert scrape(watched.metrics)[f"rpc_server_active_calls{predict}"] == 0


@pytest.mark.parametrize(
    ("image", "reason"),
    [
        (b"", "IMAGE_EMPTY"),
        (b"GIF89a" + bytes(9), "IMAGE_FORMAT_UNSUPPORTED"),
        (png()[:99], "IMAGE_UNREADABLE"),
    ],
)
def test_refusals_are_counted_by_reason(watched: Watched, image: bytes, reason: str) -> None:
    outcome_of(lambda: watched.stub.Predict(pb.PredictRequest(image=image)))
    assert watched.since(f'cxr_calls_refused_total{{reason="{reason}"}}') == 1


def test_stages_engine_and_cache_are_counted(watched: Watched) -> None:
    image = png(chest_like(seed=2))
    watched.stub.Predict(pb.PredictRequest(image=image))
    watched.stub.Explain(pb.ExplainRequest(image=image))
    stages = [("Predict", "decode"), ("Predict", "queue"), ("Predict", "inference")]
    stages += [("Explain", "queue"), ("Explain", "render")]  # it waits for a drawing thread
    for method, stage in stages:
        labels = f'{{rpc_method="{SERVICE}/{method}",{PHANTOM[1:-1]},stage="{stage}"}}'
        assert watched.since(f"cxr_stage_duration_seconds_count{labels}") == 1
    assert watched.since(f"cxr_engine_batch_images_sum{PHANTOM}") == 1
    assert watched.since(f'cxr_engine_batch_images_bucket{{le="1.0",{PHANTOM[1:]}') == 1
    assert watched.since(f"cxr_engine_busy_seconds_total{PHANTOM}") > 0
    # Both answers say that the model is a phantom.
    assert watched.since(f'cxr_warnings_total{{code="PHANTOM_MODEL",{PHANTOM[1:]}') == 2
    assert watched.since(f"cxr_answered_images_total{PHANTOM}") == 2
    assert watched.since(f"cxr_evidence_cache_hits_total{PHANTOM}") == 1
    assert watched.since(f"cxr_evidence_cache_misses_total{PHANTOM}") == 1
    gauges = "cxr_calls_held", "cxr_request_bytes_held", "cxr_answer_bytes_held"
    while any((now := scrape(watched.metrics))[gauge] for gauge in gauges):
        time.sleep(0.01)  # until the answer is sent
    assert all(now[f'cxr_queue_depth{{queue="{each}"}}'] == 0 for each in ("decode", "engine"))
    assert now["cxr_decode_processes_cpu_seconds_total"] > 0
    assert now["cxr_decode_processes_memory_bytes"] > 2**20
    assert now[f"cxr_evidence_cache_entries{PHANTOM}"] >= 1
    assert now[f"cxr_engine_failures_total{PHANTOM}"] == 0
    rebuilds = [series for series in now if series.startswith("cxr_engine_rebuilds_total")]
    assert len(rebuilds) == 2
    assert all('served_as="phantom"' in series for series in rebuilds)


def test_a_cancelled_call_is_counted(watched: Watched) -> None:
    upload = threading.Event()

    def requests() -> Iterator[bytes]:
        upload.wait(20)
        yield b""

    with grpc.insecure_channel(watched.server.address) as channel:
        call = channel.stream_unary("/cxr.v1.ChestXrayService/Predict").future(requests())
        while not watched.stub.Health(pb.HealthRequest()).in_flight_count:
            time.sleep(0.01)
        assert scrape(watched.metrics)["cxr_calls_held"] == 1
        call.cancel()
        upload.set()
        while watched.stub.Health(pb.HealthRequest()).in_flight_count:
            time.sleep(0.01)
    assert watched.since('cxr_calls_dropped_total{cause="cancelled"}') == 1


def test_a_message_over_the_limit_is_not_blamed_on_a_field(watched: Watched) -> None:
    code, _ = outcome_of(lambda: watched.stub.Predict(pb.PredictRequest(image=bytes(40 << 20))))
    assert code == "RESOURCE_EXHAUSTED"
    while watched.stub.Health(pb.HealthRequest()).in_flight_count:
        time.sleep(0.01)
    assert watched.since('cxr_calls_dropped_total{cause="cancelled"}') == 1
    refused = 'cxr_calls_refused_total{reason="INVALID_FIELD"}'
    assert scrape(watched.metrics)[refused] == 0


def test_no_metric_grows_with_what_callers_send(watched: Watched) -> None:
    watched.stub.Predict(pb.PredictRequest(image=png()))
    before = set(scrape(watched.metrics))
    for number in range(20):
        with grpc.insecure_channel(watched.server.address) as channel:
            unknown = channel.unary_unary(f"/cxr.v1.ChestXrayService/Method{number}")
            outcome_of(lambda call=unknown: call(b""))
            stub = ChestXrayServiceStub(channel)
            stub.Predict(
                pb.PredictRequest(image=png()), metadata=(("x-request-id", f"id{number}"),)
            )
    assert set(scrape(watched.metrics)) == before


def test_one_request_id_is_in_the_log_and_in_the_trailing_metadata(watched: Watched) -> None:
    for wanted in ("ward-3:film.7", "not valid", None):
        metadata = [("x-request-id", wanted)] if wanted else []
        _, call = watched.stub.Predict.with_call(pb.PredictRequest(image=png()), metadata=metadata)
        given = dict(call.trailing_metadata())["x-request-id"]
        while f'"{given}"' not in watched.server.log:  # written just after the response is sent
            time.sleep(0.01)
        if wanted == "ward-3:film.7":
            assert given == wanted
        events = [json.loads(line) for line in watched.server.log.splitlines()]
        mine = [event for event in events if event.get("request_id") == given]
        assert [event["code"] for event in mine] == ["OK"]
    assert all("request_id" in event for event in events if event["event"] == "call")
