"""The fake server for the tests of callers."""

import doctest
import io

import grpc
import pytest

from clients import Ask
from cxr.v1 import chest_xray_pb2 as pb
from cxr.v1.chest_xray_pb2_grpc import ChestXrayServiceStub
from cxr_client import (
    Client,
    DeadlineError,
    ImageError,
    InternalError,
    OverloadedError,
    RenderFormat,
    RenderOptions,
    RetryConfig,
    testing,
)
from cxr_client.testing import FakeServer, Hold, failure

ONCE = {"retry": RetryConfig(max_attempts=1)}


def test_the_example_in_its_documentation_runs() -> None:
    result = doctest.testmod(testing)
    assert result.attempted >= 5
    assert result.failed == 0


def test_it_answers_every_rpc_of_the_contract_unscripted(ask: Ask) -> None:
    with FakeServer() as server:
        prediction = ask(server.address, "predict", b"image", top_k=2)
        assert [each.label for each in prediction.findings] == ["Effusion", "Cardiomegaly"]
        explained = ask(server.address, "explain", b"image", labels=["Nodule", "Mass"])
        assert [each.finding.label for each in explained.explanations] == ["Nodule", "Mass"]
        assert len(explained.findings) == 3
        described = ask(server.address, "describe_model")
        assert ask(server.address, "health").model == described.model == prediction.model
    assert [call.rpc for call in server.calls] == ["Predict", "Explain", "DescribeModel", "Health"]


@pytest.mark.parametrize("image_format", [RenderFormat.PNG, RenderFormat.JPEG])
def test_its_pictures_are_real_files_of_the_requested_format(image_format: RenderFormat) -> None:
    image = pytest.importorskip("PIL.Image")
    with FakeServer() as server, Client(server.address) as client:
        drawn, numbers = client.explain(
            b"image",
            labels=["Nodule", "Effusion"],
            heatmap_labels="Nodule",
            render=RenderOptions(format=image_format),
        ).explanations
    with image.open(io.BytesIO(drawn.heatmap)) as picture:
        picture.load()
        assert picture.format == image_format
    assert drawn.heatmap_format is image_format
    assert numbers.heatmap == b""
    assert numbers.heatmap_format is None


@pytest.mark.parametrize("image_format", list(RenderFormat))
def test_the_radiograph_is_a_picture_without_a_mark(image_format: RenderFormat) -> None:
    image = pytest.importorskip("PIL.Image")
    with FakeServer() as server, Client(server.address) as client:
        render = RenderOptions(kind="RADIOGRAPH", format=image_format)
        explained = client.explain(b"image", labels=["Nodule", "Effusion"], render=render)
        maps = client.explain(b"image")
    with image.open(io.BytesIO(explained.radiograph)) as picture:
        picture.load()
        assert picture.format == image_format
    assert b"cxr-serve" not in explained.radiograph
    assert [each.heatmap for each in explained] == [b"", b""]
    assert maps.radiograph == b""


def test_an_error_is_what_the_client_raises_for_the_server_s(ask: Ask) -> None:
    with FakeServer() as server:
        server.script(
            failure("INVALID_ARGUMENT", "IMAGE_UNREADABLE", "cut short", violations={"image": "x"}),
            failure(grpc.StatusCode.RESOURCE_EXHAUSTED, "QUEUE_FULL", retry_after_s=0.5),
            failure("INTERNAL"),
        )
        with pytest.raises(ImageError, match="cut short") as unreadable:
            ask(server.address, "predict", b"image")
        with pytest.raises(OverloadedError) as overloaded:
            ask(server.address, "predict", b"image", options=ONCE)
        with pytest.raises(InternalError):
            ask(server.address, "predict", b"image")
        ask(server.address, "predict", b"image")
    assert [each.field for each in unreadable.value.violations] == ["image"]
    assert overloaded.value.retry_after_s == 0.5


def test_an_error_carries_its_reason_in_both_forms() -> None:
    with FakeServer() as server, grpc.insecure_channel(server.address) as channel:
        server.script(failure("UNAVAILABLE", "DRAINING"))
        with pytest.raises(grpc.RpcError) as caught:
            ChestXrayServiceStub(channel).Health(pb.HealthRequest(), timeout=30)
    metadata = dict(caught.value.trailing_metadata())
    assert metadata["x-error-reason"] == "DRAINING"
    assert b"DRAINING" in metadata["grpc-status-details-bin"]


def test_a_step_for_one_method_leaves_the_others_alone(ask: Ask) -> None:
    with FakeServer() as server:
        server.script(failure("INTERNAL"), rpc="Explain")
        ask(server.address, "predict", b"image")
        with pytest.raises(InternalError):
            ask(server.address, "explain", b"image")


def test_an_answer_is_a_message_or_a_function_of_the_request(ask: Ask) -> None:
    draining = pb.HealthResponse(status=pb.SERVING_STATUS_DRAINING)

    def counted(request: pb.PredictRequest) -> pb.PredictResponse:
        finding = pb.Finding(label="Mass", class_index=len(request.image))
        return pb.PredictResponse(model=pb.Model(name="mine"), findings=[finding])

    with FakeServer() as server:
        server.answer("Health", draining)
        server.answer("Predict", counted)
        assert not ask(server.address, "health").serving
        assert ask(server.address, "predict", b"12345").findings[0].class_index == 5
        with pytest.raises(KeyError, match="predict"):
            server.answer("predict", counted)
        with pytest.raises(KeyError, match="predict"):
            server.script(failure("INTERNAL"), rpc="predict")
        with pytest.raises(TypeError, match="PredictResponse"):
            server.answer("Predict", draining)


@pytest.mark.slow
def test_a_held_call_ends_with_its_deadline_and_the_next_one_is_answered(ask: Ask) -> None:
    with FakeServer() as server:
        server.script(Hold())
        with pytest.raises(DeadlineError):
            ask(server.address, "predict", b"image", timeout_s=3)
        ask(server.address, "predict", b"image")
