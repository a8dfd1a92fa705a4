"""Calls: deadlines, retries, refusals and ids, over a real channel, for both clients."""

import asyncio
import re
import threading
import time
from pathlib import Path

import grpc
import pytest
from google.rpc import error_details_pb2

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
    UnavailableError,
)
from cxr_client.calls import pause_before_retry
from scripted import PNG, Ask, Hold, Script, ScriptedServer, overload, refusal

UNAVAILABLE = refusal(grpc.StatusCode.UNAVAILABLE, "DRAINING")
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
    scripted: ScriptedServer, ask: Ask, method: str, arguments: list[bytes]
) -> None:
    result = ask(scripted.address, method, *arguments)
    (call,) = scripted.script.received
    assert 15 < call.time_remaining_s <= 30
    assert re.fullmatch(r"[0-9a-f]{32}", call.metadata["x-request-id"])
    assert result.request_id == call.metadata["x-request-id"]


def test_the_request_says_what_was_asked_and_leaves_the_rest_unset(
    scripted: ScriptedServer, ask: Ask, tmp_path: Path
) -> None:
    file = tmp_path / "chest.png"
    file.write_bytes(PNG)
    ask(scripted.address, "predict", file)
    ask(scripted.address, "predict", str(file), top_k=3, strict_input=True)
    ask(scripted.address, "explain", memoryview(PNG))
    ask(
        scripted.address,
        "explain",
        PNG,
        labels=["Mass", "Edema"],
        method="Layer-CAM",
        render=RenderOptions(
            kind="heatmap",
            frame="original",
            color_map="viridis",
            opacity=0.0,
            legend=True,
            max_side_px=64,
            scale="fixed",
        ),
        strict_input=False,
    )
    assert [call.request for call in scripted.script.received] == [
        pb.PredictRequest(image=PNG),
        pb.PredictRequest(image=PNG, top_k=3, strict_input=True),
        pb.ExplainRequest(image=PNG),
        pb.ExplainRequest(
            image=PNG,
            labels=["Mass", "Edema"],
            method=pb.EXPLANATION_METHOD_LAYER_CAM,
            render=pb.RenderOptions(
                kind=pb.RENDER_KIND_HEATMAP,
                frame=pb.RENDER_FRAME_ORIGINAL,
                color_map=pb.COLOR_MAP_VIRIDIS,
                opacity=0.0,
                legend=True,
                max_side_px=64,
                scale=pb.HEAT_SCALE_FIXED,
            ),
            strict_input=False,
        ),
    ]


def test_one_label_may_be_given_as_a_word(scripted: ScriptedServer, ask: Ask) -> None:
    result = ask(scripted.address, "explain", PNG, labels="Mass")
    assert [each.finding.label for each in result.explanations] == ["Mass"]
    assert result.explanations[0].method is ExplanationMethod.GRAD_CAM


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"method": "occlusion"}, "grad_cam, grad_cam_plus_plus"),
        ({"render": RenderOptions(color_map="hot")}, "inferno, viridis"),
        ({"timeout_s": 0}, "positive"),
        ({"timeout_s": float("nan")}, "positive"),
        ({"request_id": "two words"}, "request id"),
        ({"request_id": ""}, "request id"),
    ],
)
def test_an_impossible_argument_is_a_value_error_and_nothing_is_sent(
    scripted: ScriptedServer, ask: Ask, arguments: dict[str, object], message: str
) -> None:
    with pytest.raises(ValueError, match=message):
        ask(scripted.address, "explain", PNG, **arguments)
    assert not scripted.script.received


def test_a_missing_file_is_an_os_error(scripted: ScriptedServer, ask: Ask, tmp_path: Path) -> None:
    with pytest.raises(FileNotFoundError):
        ask(scripted.address, "predict", tmp_path / "none.png")


def test_a_large_image_survives_an_unavailable_server(scripted: ScriptedServer, ask: Ask) -> None:
    # 2 MB is beyond the 256 KiB above which gRPC by default stops retrying without a word.
    scripted.script.faults.extend([UNAVAILABLE] * 2)
    result = ask(scripted.address, "predict", bytes(2_000_000))
    assert result.findings[0].class_index == 2_000_000
    assert len(scripted.script.received) == 3
    assert len({call.metadata["x-request-id"] for call in scripted.script.received}) == 1


def test_a_server_that_stays_unavailable_is_asked_as_often_as_allowed(
    scripted: ScriptedServer, ask: Ask
) -> None:
    scripted.script.faults.extend([UNAVAILABLE] * 9)
    with pytest.raises(UnavailableError) as caught:
        ask(scripted.address, "predict", PNG, options={"max_attempts": 3})
    assert caught.value.reason == "DRAINING"
    assert len(scripted.script.received) == 3


@pytest.mark.parametrize("max_attempts", [0, 1])
@pytest.mark.parametrize("fault", [UNAVAILABLE, overload(0.01)], ids=["unavailable", "overload"])
def test_retries_can_be_turned_off(
    scripted: ScriptedServer, ask: Ask, max_attempts: int, fault: object
) -> None:
    scripted.script.faults.extend([fault] * 9)
    with pytest.raises((UnavailableError, OverloadedError)):
        ask(scripted.address, "predict", PNG, options={"max_attempts": max_attempts})
    assert len(scripted.script.received) == 1


def test_a_full_server_is_asked_again_when_it_said(scripted: ScriptedServer, ask: Ask) -> None:
    scripted.script.faults.extend([overload(0.2), overload(0.1)])
    start_s = time.monotonic()
    result = ask(scripted.address, "predict", bytes(2_000_000), timeout_s=9)
    assert time.monotonic() - start_s >= 0.3
    assert result.findings[0].class_index == 2_000_000
    first, *_, last = scripted.script.received
    assert first.metadata["x-request-id"] == last.metadata["x-request-id"]
    # The deadline is one for all attempts: the last has what the first left over.
    # (On the wire a deadline is rounded up, to a tenth of a second or so.)
    assert last.time_remaining_s < first.time_remaining_s - 0.1


def test_a_full_server_is_asked_no_more_often_than_allowed(
    scripted: ScriptedServer, ask: Ask
) -> None:
    scripted.script.faults.extend([overload(0.01)] * 9)
    with pytest.raises(OverloadedError) as caught:
        ask(scripted.address, "predict", PNG, options={"max_attempts": 3})
    assert caught.value.retry_after_s == pytest.approx(0.01)
    assert caught.value.reason == "QUEUE_FULL"
    assert len(scripted.script.received) == 3


def test_a_wait_beyond_the_deadline_is_not_waited(scripted: ScriptedServer, ask: Ask) -> None:
    scripted.script.faults.append(overload(3600))
    with pytest.raises(OverloadedError) as caught:
        ask(scripted.address, "predict", PNG, timeout_s=30)
    assert caught.value.retry_after_s == 3600
    assert len(scripted.script.received) == 1


@pytest.mark.parametrize(
    "code", sorted(set(grpc.StatusCode) - {grpc.StatusCode.OK}, key=lambda code: code.value[0])
)
def test_without_an_invitation_only_what_a_stopping_server_says_is_repeated(
    scripted: ScriptedServer, ask: Ask, code: grpc.StatusCode
) -> None:
    scripted.script.faults.append(refusal(code))
    if code in (grpc.StatusCode.UNAVAILABLE, grpc.StatusCode.CANCELLED):
        ask(scripted.address, "predict", PNG)
        assert len(scripted.script.received) == 2
    else:
        with pytest.raises(Exception, match=f"scripted {code.name}"):
            ask(scripted.address, "predict", PNG)
        assert len(scripted.script.received) == 1


def test_the_deadline_ends_a_call_that_hangs(scripted: ScriptedServer, ask: Ask) -> None:
    hold = Hold()
    scripted.script.faults.append(hold)
    with pytest.raises(DeadlineError) as caught:
        ask(scripted.address, "predict", PNG, timeout_s=2)
    hold.release()
    assert caught.value.code is grpc.StatusCode.DEADLINE_EXCEEDED
    assert caught.value.request_id == scripted.script.received[0].metadata["x-request-id"]


def test_the_pause_is_never_shorter_than_told_and_ends_with_the_attempts() -> None:
    full = OverloadedError("full", retry_after_s=2.0)
    pauses = [pause_before_retry(full, 1, 5, 30) for _ in range(200)]
    assert all(pause is not None and 2.0 <= pause <= 2.5 for pause in pauses)
    assert len(set(pauses)) > 100
    assert pause_before_retry(full, 5, 5, 30) is None
    assert pause_before_retry(full, 1, 5, 1.9) is None
    assert pause_before_retry(OverloadedError("too large"), 1, 5, 30) is None
    assert pause_before_retry(UnavailableError("gone", retry_after_s=0), 1, 5, 30) is None


def test_a_caller_s_id_is_sent_and_the_server_s_id_is_returned(
    scripted: ScriptedServer, ask: Ask
) -> None:
    ask(scripted.address, "health", request_id="ward-3:film_17.a")
    assert scripted.script.received[0].metadata["x-request-id"] == "ward-3:film_17.a"
    scripted.script.echo_request_id = "its-own"
    assert ask(scripted.address, "predict", PNG).request_id == "its-own"
    scripted.script.faults.append(refusal(grpc.StatusCode.INTERNAL, "INTERNAL"))
    with pytest.raises(InternalError) as caught:
        ask(scripted.address, "predict", PNG)
    assert caught.value.request_id == "its-own"


def test_a_refusal_says_why_and_where(scripted: ScriptedServer, ask: Ask) -> None:
    violation = error_details_pb2.BadRequest.FieldViolation(field="image", description="cut short")
    scripted.script.faults.append(
        refusal(
            grpc.StatusCode.INVALID_ARGUMENT,
            "IMAGE_UNREADABLE",
            error_details_pb2.BadRequest(field_violations=[violation]),
            message="The file is cut short.",
        )
    )
    with pytest.raises(ImageError) as caught:
        ask(scripted.address, "predict", PNG, request_id="abc")
    error = caught.value
    assert (error.reason, error.code) == ("IMAGE_UNREADABLE", grpc.StatusCode.INVALID_ARGUMENT)
    assert [(each.field, each.description) for each in error.violations] == [("image", "cut short")]
    assert str(error) == "The file is cut short. [IMAGE_UNREADABLE, request abc]"


def test_an_image_beyond_the_client_s_limit_is_not_sent(
    scripted: ScriptedServer, ask: Ask, tmp_path: Path
) -> None:
    file = tmp_path / "huge.png"
    with file.open("wb") as sparse:
        sparse.truncate(2**40)  # Would not fit into memory: only the limit is read.
    with pytest.raises(RequestTooLargeError, match="33554432 bytes"):
        ask(scripted.address, "predict", file)
    with pytest.raises(RequestTooLargeError):
        ask(scripted.address, "predict", bytes(2000), options={"max_request_bytes": 1000})
    assert not scripted.script.received


def test_an_image_beyond_the_server_s_limit_is_no_overload(ask: Ask) -> None:
    with (
        ScriptedServer(Script(), max_request_bytes=100_000) as server,
        pytest.raises(RequestTooLargeError) as caught,
    ):
        ask(server.address, "predict", bytes(200_000))
    assert isinstance(caught.value, InvalidRequestError)
    assert not server.script.received


@pytest.mark.parametrize(
    ("method", "reply"),
    [
        ("predict", pb.PredictResponse()),
        ("explain", pb.ExplainResponse()),
        ("health", pb.HealthResponse()),
        ("describe_model", pb.DescribeModelResponse()),
    ],
)
def test_an_empty_reply_is_not_taken_for_an_answer(
    scripted: ScriptedServer, ask: Ask, method: str, reply: object
) -> None:
    rpc = method.title().replace("_", "")
    scripted.script.replies[rpc] = reply
    arguments = [PNG] if method in ("predict", "explain") else []
    with pytest.raises(ProtocolError) as caught:
        ask(scripted.address, method, *arguments)
    assert caught.value.request_id == scripted.script.received[0].metadata["x-request-id"]


def test_waiting_ends_when_the_service_serves(scripted: ScriptedServer, ask: Ask) -> None:
    loading = pb.HealthResponse(status=pb.SERVING_STATUS_LOADING)
    serving = pb.HealthResponse(status=pb.SERVING_STATUS_SERVING)
    scripted.script.replies["Health"] = loading

    def load(_: object) -> None:
        if len(scripted.script.received) == 3:
            scripted.script.replies["Health"] = serving

    scripted.script.faults.extend([load] * 3)
    assert ask(scripted.address, "wait_until_ready", 20).serving
    assert len(scripted.script.received) == 3


def test_waiting_for_a_service_that_never_serves_ends_in_time(
    scripted: ScriptedServer, ask: Ask
) -> None:
    scripted.script.replies["Health"] = pb.HealthResponse(status=pb.SERVING_STATUS_FAILED)
    with pytest.raises(DeadlineError, match="not ready within 2 s: its status was FAILED"):
        ask(scripted.address, "wait_until_ready", 2)
    with pytest.raises(DeadlineError, match="could not be reached"):
        ask("127.0.0.1:1", "wait_until_ready", 0.5)


def test_waiting_does_not_wait_for_what_will_not_change(scripted: ScriptedServer, ask: Ask) -> None:
    scripted.script.faults.append(refusal(grpc.StatusCode.UNIMPLEMENTED))
    with pytest.raises(ProtocolError):
        ask(scripted.address, "wait_until_ready", 20)


def test_closing_a_client_ends_its_calls(scripted: ScriptedServer) -> None:
    hold = Hold()
    scripted.script.faults.append(hold)
    client = Client(scripted.address)

    def close() -> None:
        hold.entered.wait(20)
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


async def test_closing_an_async_client_ends_its_calls(scripted: ScriptedServer) -> None:
    hold = Hold()
    scripted.script.faults.append(hold)
    client = AsyncClient(scripted.address)
    call = asyncio.create_task(client.predict(PNG))
    await asyncio.to_thread(hold.entered.wait, 20)
    await client.aclose()
    with pytest.raises(CallCancelledError, match="closed"):
        await call
    hold.release()
    with pytest.raises(CallCancelledError, match="closed"):
        await client.predict(PNG)
    await client.aclose()


async def test_cancelling_a_task_stays_a_cancellation(scripted: ScriptedServer) -> None:
    hold = Hold()
    scripted.script.faults.append(hold)
    async with AsyncClient(scripted.address) as client:
        call = asyncio.create_task(client.predict(PNG))
        await asyncio.to_thread(hold.entered.wait, 20)
        call.cancel()
        with pytest.raises(asyncio.CancelledError):
            await call
        hold.release()


async def test_many_calls_at_once_get_their_own_answers(scripted: ScriptedServer) -> None:
    async with AsyncClient(scripted.address) as client:
        answers = await asyncio.gather(*(client.predict(bytes(size)) for size in range(1, 41)))
    assert [each.findings[0].class_index for each in answers] == list(range(1, 41))
    sent = {call.metadata["x-request-id"] for call in scripted.script.received}
    assert len(sent) == 40


def test_an_async_client_may_be_made_before_the_loop_runs(scripted: ScriptedServer) -> None:
    client = AsyncClient(scripted.address)

    async def use() -> bool:
        async with client:
            return (await client.health()).serving

    assert asyncio.run(use())
