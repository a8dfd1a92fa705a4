"""Calls: deadlines, retries, errors and request ids over a real channel, for both clients."""

import asyncio
import re
import threading
import time
from pathlib import Path

import grpc
import pytest

from clients import PNG, Ask, overload
from cxr.v1 import chest_xray_pb2 as pb
from cxr_client import (
    AsyncClient,
    CallCancelledError,
    Client,
    DeadlineError,
    ExplanationMethod,
    ImageError,
    InternalError,
    InvalidRequestError,
    OverloadedError,
    ProtocolError,
    RenderOptions,
    RequestTooLargeError,
    RetryConfig,
    UnavailableError,
)
from cxr_client.calls import pause_before_retry
from cxr_client.testing import FakeServer, Hold, Step, failure

UNAVAILABLE = failure(grpc.StatusCode.UNAVAILABLE, "DRAINING")
RPCS = [method.name for method in pb.DESCRIPTOR.services_by_name["ChestXrayService"].methods]


@pytest.mark.parametrize("client", [Client, AsyncClient])
@pytest.mark.parametrize("rpc", RPCS)
def test_every_rpc_of_the_contract_has_a_method(client: type, rpc: str) -> None:
    assert callable(getattr(client, re.sub(r"(?<=[a-z])(?=[A-Z])", "_", rpc).lower()))


@pytest.mark.parametrize(
    ("method", "arguments"),
    [("predict", [b"x"]), ("explain", [b"x"]), ("health", []), ("describe_model", [])],
)
def test_every_call_carries_a_deadline_and_an_id(
    fake: FakeServer, ask: Ask, method: str, arguments: list[bytes]
) -> None:
    result = ask(fake.address, method, *arguments)
    (call,) = fake.calls
    assert 0 < call.time_remaining_s <= 33  # 30 s, rounded up on the wire.
    assert re.fullmatch(r"[0-9a-f]{32}", call.metadata["x-request-id"])
    assert result.request_id == call.metadata["x-request-id"]


def test_arguments_arrive_in_the_request_and_the_others_stay_unset(
    fake: FakeServer, ask: Ask, tmp_path: Path
) -> None:
    file = tmp_path / "chest.png"
    file.write_bytes(PNG)
    ask(fake.address, "predict", file)
    ask(fake.address, "predict", str(file), top_k=3, strict_input=True)
    ask(fake.address, "explain", memoryview(PNG))
    ask(
        fake.address,
        "explain",
        PNG,
        labels=["Mass", "Edema"],
        heatmap_labels="Edema",
        method="Layer-CAM",
        render=RenderOptions(
            kind="heatmap",
            frame="original",
            color_map="viridis",
            opacity=0.0,
            legend=True,
            max_side_px=64,
            scale="fixed",
            format="jpeg",
            fixed_scale_logits=12.5,
            contours=False,
        ),
        strict_input=False,
    )
    assert [call.request for call in fake.calls] == [
        pb.PredictRequest(image=PNG),
        pb.PredictRequest(image=PNG, top_k=3, strict_input=True),
        pb.ExplainRequest(image=PNG),
        pb.ExplainRequest(
            image=PNG,
            labels=["Mass", "Edema"],
            heatmap_labels=["Edema"],
            method=pb.EXPLANATION_METHOD_LAYER_CAM,
            render=pb.RenderOptions(
                kind=pb.RENDER_KIND_HEATMAP,
                frame=pb.RENDER_FRAME_ORIGINAL,
                color_map=pb.COLOR_MAP_VIRIDIS,
                opacity=0.0,
                legend=True,
                max_side_px=64,
                scale=pb.HEAT_SCALE_FIXED,
                format=pb.RENDER_FORMAT_JPEG,
                fixed_scale_logits=12.5,
                contours=False,
            ),
            strict_input=False,
        ),
    ]


def test_one_label_may_be_given_as_a_string(fake: FakeServer, ask: Ask) -> None:
    result = ask(fake.address, "explain", PNG, labels="Mass")
    assert [each.finding.label for each in result.explanations] == ["Mass"]
    assert result.explanations[0].method is ExplanationMethod.GRAD_CAM


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"method": "occlusion"}, "GRAD_CAM, GRAD_CAM_PLUS_PLUS"),
        ({"render": RenderOptions(color_map="hot")}, "INFERNO, VIRIDIS"),
        ({"timeout_s": 0}, "positive"),
        ({"timeout_s": float("nan")}, "positive"),
        ({"request_id": "two words"}, "request id"),
        ({"request_id": ""}, "request id"),
    ],
)
def test_an_invalid_argument_is_a_value_error_and_nothing_is_sent(
    fake: FakeServer, ask: Ask, arguments: dict[str, object], message: str
) -> None:
    with pytest.raises(ValueError, match=message):
        ask(fake.address, "explain", PNG, **arguments)
    assert not fake.calls


def test_a_missing_file_is_an_os_error(fake: FakeServer, ask: Ask, tmp_path: Path) -> None:
    with pytest.raises(FileNotFoundError):
        ask(fake.address, "predict", tmp_path / "none.png")


def test_a_large_image_survives_an_unavailable_server(fake: FakeServer, ask: Ask) -> None:
    # 2 MB is beyond the 256 KiB above which gRPC by default stops retrying without a word.
    fake.script(*[UNAVAILABLE] * 2)
    result = ask(fake.address, "predict", bytes(2_000_000))
    assert result.findings[0].class_index == 2_000_000
    assert len(fake.calls) == 3
    assert len({call.metadata["x-request-id"] for call in fake.calls}) == 1


def test_an_unavailable_server_is_retried_up_to_max_attempts(fake: FakeServer, ask: Ask) -> None:
    fake.script(*[UNAVAILABLE] * 9)
    with pytest.raises(UnavailableError) as caught:
        ask(fake.address, "predict", PNG, options={"retry": RetryConfig(max_attempts=3)})
    assert caught.value.reason == "DRAINING"
    assert len(fake.calls) == 3


@pytest.mark.parametrize("fault", [UNAVAILABLE, overload(0.01)], ids=["unavailable", "overload"])
def test_retries_can_be_turned_off(fake: FakeServer, ask: Ask, fault: Step) -> None:
    fake.script(*[fault] * 9)
    with pytest.raises((UnavailableError, OverloadedError)):
        ask(fake.address, "predict", PNG, options={"retry": RetryConfig(max_attempts=1)})
    assert len(fake.calls) == 1


def test_a_refusal_for_load_is_retried_at_the_stated_time(fake: FakeServer, ask: Ask) -> None:
    fake.script(overload(0.2), overload(0.1))
    start_s = time.monotonic()
    result = ask(fake.address, "predict", bytes(2_000_000), timeout_s=9)
    assert time.monotonic() - start_s >= 0.3
    assert result.findings[0].class_index == 2_000_000
    first, *_, last = fake.calls
    assert first.metadata["x-request-id"] == last.metadata["x-request-id"]
    # The deadline is one for all attempts: the last has what the first left over.
    # (On the wire a deadline is rounded up, to a tenth of a second or so.)
    assert last.time_remaining_s < first.time_remaining_s - 0.1


def test_refusals_for_load_are_retried_up_to_max_attempts(fake: FakeServer, ask: Ask) -> None:
    fake.script(*[overload(0.01)] * 9)
    with pytest.raises(OverloadedError) as caught:
        ask(fake.address, "predict", PNG, options={"retry": RetryConfig(max_attempts=3)})
    assert caught.value.retry_after_s == pytest.approx(0.01)
    assert caught.value.reason == "QUEUE_FULL"
    assert len(fake.calls) == 3


def test_a_retry_beyond_the_deadline_is_not_attempted(fake: FakeServer, ask: Ask) -> None:
    fake.script(overload(3600))
    with pytest.raises(OverloadedError) as caught:
        ask(fake.address, "predict", PNG, timeout_s=30)
    assert caught.value.retry_after_s == 3600
    assert len(fake.calls) == 1


@pytest.mark.parametrize(
    "code", sorted(set(grpc.StatusCode) - {grpc.StatusCode.OK}, key=lambda code: code.value[0])
)
def test_without_a_retry_time_only_unavailable_and_cancelled_are_retried(
    fake: FakeServer, ask: Ask, code: grpc.StatusCode
) -> None:
    fake.script(failure(code))
    if code in (grpc.StatusCode.UNAVAILABLE, grpc.StatusCode.CANCELLED):
        ask(fake.address, "predict", PNG)
        assert len(fake.calls) == 2
    else:
        with pytest.raises(Exception, match=f"fake {code.name}"):
            ask(fake.address, "predict", PNG)
        assert len(fake.calls) == 1


def test_the_deadline_ends_a_call_that_hangs(fake: FakeServer, ask: Ask) -> None:
    hold = Hold()
    fake.script(hold)
    with pytest.raises(DeadlineError) as caught:
        ask(fake.address, "predict", PNG, timeout_s=2, request_id="abc")
    hold.release()
    assert caught.value.code is grpc.StatusCode.DEADLINE_EXCEEDED
    assert caught.value.request_id == "abc"


def test_the_pause_is_never_shorter_than_told_and_ends_with_the_attempts() -> None:
    full = OverloadedError("full", retry_after_s=2.0)
    pauses = [pause_before_retry(full, 1, 5, 30) for _ in range(200)]
    assert all(pause is not None and 2.0 <= pause <= 2.5 for pause in pauses)
    assert len(set(pauses)) > 100
    assert pause_before_retry(full, 5, 5, 30) is None
    assert pause_before_retry(full, 1, 5, 1.9) is None
    assert pause_before_retry(OverloadedError("too large"), 1, 5, 30) is None
    assert pause_before_retry(UnavailableError("gone", retry_after_s=0), 1, 5, 30) is None


def test_a_caller_s_id_is_sent_and_the_server_s_id_is_returned(fake: FakeServer, ask: Ask) -> None:
    ask(fake.address, "health", request_id="ward-3:film_17.a")
    assert fake.calls[0].metadata["x-request-id"] == "ward-3:film_17.a"

    def rename(context: grpc.ServicerContext) -> None:
        context.set_trailing_metadata((("x-request-id", "its-own"),))

    def fail(context: grpc.ServicerContext) -> None:
        rename(context)
        failure("INTERNAL", "INTERNAL")(context)

    fake.script(rename, fail)
    assert ask(fake.address, "predict", PNG).request_id == "its-own"
    with pytest.raises(InternalError) as caught:
        ask(fake.address, "predict", PNG)
    assert caught.value.request_id == "its-own"


def test_an_error_carries_its_reason_fields_and_request_id(fake: FakeServer, ask: Ask) -> None:
    fake.script(
        failure(
            "INVALID_ARGUMENT",
            "IMAGE_UNREADABLE",
            "The file is cut short.",
            violations={"image": "cut short"},
        )
    )
    with pytest.raises(ImageError) as caught:
        ask(fake.address, "predict", PNG, request_id="abc")
    error = caught.value
    assert (error.reason, error.code) == ("IMAGE_UNREADABLE", grpc.StatusCode.INVALID_ARGUMENT)
    assert [(each.field, each.description) for each in error.violations] == [("image", "cut short")]
    assert str(error) == "The file is cut short. [IMAGE_UNREADABLE, request abc]"


def test_an_image_beyond_the_client_s_limit_is_not_sent(
    fake: FakeServer, ask: Ask, tmp_path: Path
) -> None:
    file = tmp_path / "huge.png"
    with file.open("wb") as sparse:
        sparse.truncate(2**40)  # Would not fit into memory: only the limit is read.
    with pytest.raises(RequestTooLargeError, match="33554432 bytes"):
        ask(fake.address, "predict", file)
    with pytest.raises(RequestTooLargeError):
        ask(fake.address, "predict", bytes(2000), options={"max_request_bytes": 1000})
    assert not fake.calls


def test_an_image_beyond_the_server_s_limit_is_not_an_overload(ask: Ask) -> None:
    with (
        FakeServer(max_request_bytes=100_000) as server,
        pytest.raises(RequestTooLargeError) as caught,
    ):
        ask(server.address, "predict", bytes(200_000))
    assert isinstance(caught.value, InvalidRequestError)
    assert not server.calls


@pytest.mark.parametrize(
    ("method", "reply"),
    [
        ("predict", pb.PredictResponse()),
        ("explain", pb.ExplainResponse()),
        ("health", pb.HealthResponse()),
        ("describe_model", pb.DescribeModelResponse()),
    ],
)
def test_an_empty_reply_is_a_protocol_error(
    fake: FakeServer, ask: Ask, method: str, reply: object
) -> None:
    rpc = method.title().replace("_", "")
    fake.answer(rpc, reply)
    arguments = [PNG] if method in ("predict", "explain") else []
    with pytest.raises(ProtocolError) as caught:
        ask(fake.address, method, *arguments)
    assert caught.value.request_id == fake.calls[0].metadata["x-request-id"]


def test_waiting_ends_when_the_service_is_serving(fake: FakeServer, ask: Ask) -> None:
    loading = pb.HealthResponse(status=pb.SERVING_STATUS_LOADING)
    serving = pb.HealthResponse(status=pb.SERVING_STATUS_SERVING)
    fake.answer("Health", loading)

    def load(_: object) -> None:
        if len(fake.calls) == 3:
            fake.answer("Health", serving)

    fake.script(*[load] * 3)
    assert ask(fake.address, "wait_until_ready", 20).serving
    assert len(fake.calls) == 3


def test_waiting_for_a_service_that_never_serves_ends_in_time(fake: FakeServer, ask: Ask) -> None:
    fake.answer("Health", pb.HealthResponse(status=pb.SERVING_STATUS_FAILED))
    with pytest.raises(DeadlineError, match="not ready within 2 s: its status was FAILED"):
        ask(fake.address, "wait_until_ready", 2)
    with pytest.raises(DeadlineError, match="could not be reached"):
        ask("127.0.0.1:1", "wait_until_ready", 0.5)


def test_waiting_fails_at_once_on_a_permanent_error(fake: FakeServer, ask: Ask) -> None:
    fake.script(failure(grpc.StatusCode.UNIMPLEMENTED))
    with pytest.raises(ProtocolError):
        ask(fake.address, "wait_until_ready", 20)


def test_closing_a_client_ends_its_calls(fake: FakeServer) -> None:
    hold = Hold()
    fake.script(hold)
    client = Client(fake.address)

    def close() -> None:
        hold.wait_entered()
        client.close()

    closer = threading.Thread(target=close)
    closer.start()
    with pytest.raises(CallCancelledError):
        client.predict(PNG)
    closer.join()
    hold.release()
    with pytest.raises(CallCancelledError, match="closed"):
        client.predict(PNG)
    client.close()


async def test_closing_an_async_client_ends_its_calls(fake: FakeServer) -> None:
    hold = Hold()
    fake.script(hold)
    client = AsyncClient(fake.address)
    call = asyncio.create_task(client.predict(PNG))
    await asyncio.to_thread(hold.wait_entered)
    await client.aclose()
    with pytest.raises(CallCancelledError, match="closed"):
        await call
    hold.release()
    with pytest.raises(CallCancelledError, match="closed"):
        await client.predict(PNG)
    await client.aclose()


async def test_cancelling_a_task_stays_a_cancellation(fake: FakeServer) -> None:
    hold = Hold()
    fake.script(hold)
    async with AsyncClient(fake.address) as client:
        call = asyncio.create_task(client.predict(PNG))
        await asyncio.to_thread(hold.wait_entered)
        call.cancel()
        with pytest.raises(asyncio.CancelledError):
            await call
        hold.release()


async def test_many_calls_at_once_get_their_own_answers(fake: FakeServer) -> None:
    async with AsyncClient(fake.address) as client:
        answers = await asyncio.gather(*(client.predict(bytes(size)) for size in range(1, 41)))
    assert [each.findings[0].class_index for each in answers] == list(range(1, 41))
    sent = {call.metadata["x-request-id"] for call in fake.calls}
    assert len(sent) == 40


def test_an_async_client_may_be_made_before_the_loop_runs(fake: FakeServer) -> None:
    client = AsyncClient(fake.address)

    async def use() -> bool:
        async with client:
            return (await client.health()).serving

    assert asyncio.run(use())
