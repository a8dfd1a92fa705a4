"""Calls: deadlines, retries, errors and request ids over a real channel, for both clients."""

import asyncio
import re
import threading
from pathlib import Path

import grpc
import pytest

from clients import PNG, Ask
from cxr.v1 import chest_xray_pb2 as pb
from cxr_client import (
    AsyncClient,
    CallCancelledError,
    Client,
    ExplanationMethod,
    ImageError,
    InternalError,
    InvalidRequestError,
    ProtocolError,
    RenderOptions,
    RequestTooLargeError,
    ResponseTooLargeError,
)
from cxr_client.steps import Read, Reply, Send
from cxr_client.testing import FakeServer, Hold, default_answer, failure

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
        ({"method": "UNSPECIFIED"}, "is not one of GRAD_CAM"),
        ({"render": RenderOptions(frame="UNSPECIFIED")}, "is not one of MODEL_INPUT, ORIGINAL"),
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
    with pytest.raises(
        RequestTooLargeError, match=r"33554432 bytes \(max_request_bytes\)"
    ) as caught:
        ask(fake.address, "predict", file)
    assert caught.value.option == "max_request_bytes"
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
    assert re.fullmatch(
        r"the request has 2000\d\d bytes; the server takes at most 100000", caught.value.message
    )
    assert caught.value.option == ""
    assert not server.calls


def test_an_answer_beyond_the_client_s_limit_is_its_own_error(fake: FakeServer, ask: Ask) -> None:
    answer = default_answer(pb.ExplainRequest())
    answer.explanations[0].heatmap = PNG + bytes(100_000)
    fake.answer("Explain", answer)
    with pytest.raises(ResponseTooLargeError) as caught:
        ask(fake.address, "explain", PNG, options={"max_response_bytes": 50_000})
    assert not isinstance(caught.value, InvalidRequestError)
    assert re.fullmatch(
        r"the answer has 100\d{3} bytes; this client takes at most 50000", caught.value.message
    )
    assert caught.value.option == "max_response_bytes"
    assert "(max_response_bytes)" in str(caught.value)
    assert ask(fake.address, "explain", PNG).explanations
    assert len(fake.calls) == 2


def test_options_of_drawing_in_a_dictionary_are_refused(fake: FakeServer, ask: Ask) -> None:
    with pytest.raises(TypeError, match=r"render is of the type dict; pass RenderOptions\(frame="):
        ask(fake.address, "explain", PNG, render={"frame": "ORIGINAL"})
    assert not fake.calls


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


def test_no_step_and_no_recorded_call_prints_an_image_or_a_token(fake: FakeServer) -> None:
    image, token = b"pixels" * 99, "s3cret"
    request = pb.PredictRequest(image=image)
    with Client(fake.address, token=token) as client:
        client.predict(image)
    metadata = (("authorization", token),)
    for each in (
        Read(image, 1),
        Send("Predict", request, 1.0, metadata),
        Reply(request, ()),
        fake.calls[0],
    ):
        assert "pixels" not in repr(each)
        assert token not in repr(each)
