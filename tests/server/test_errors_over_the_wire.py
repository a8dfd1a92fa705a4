"""Every refusal has its code, its stable reason and its details, over a real channel."""

from collections.abc import Callable

import grpc
import pytest
from google.rpc import error_details_pb2
from grpc_status import rpc_status

from cxr.v1 import chest_xray_pb2 as pb
from cxr.v1.chest_xray_pb2_grpc import ChestXrayServiceStub
from images import png
from serving import ServerProcess


def refusal(call: Callable[[], object]) -> tuple[grpc.StatusCode, str, str, grpc.RpcError]:
    """Code, reason and field of the error that the call ends with."""
    with pytest.raises(grpc.RpcError) as caught:
        call()
    status = rpc_status.from_call(caught.value)
    assert status is not None
    info, bad = error_details_pb2.ErrorInfo(), error_details_pb2.BadRequest()
    for detail in status.details:
        detail.Unpack(info) or detail.Unpack(bad)
    assert info.domain == "cxr.v1"
    trailing = dict(caught.value.trailing_metadata())
    assert info.metadata["request_id"] == trailing["x-request-id"]
    field = bad.field_violations[0].field if bad.field_violations else ""
    return caught.value.code(), info.reason, field, caught.value


@pytest.mark.parametrize(
    ("image", "reason"),
    [
        (b"", "IMAGE_EMPTY"),
        (b"\x89PNG\r\n\x1a\n", "IMAGE_UNREADABLE"),
        (b"GIF89a" + bytes(40), "IMAGE_FORMAT_UNSUPPORTED"),
        (b"Subject: a letter", "IMAGE_FORMAT_UNSUPPORTED"),
        (png()[:-30], "IMAGE_UNREADABLE"),
    ],
)
def test_bad_images_are_refused_by_reason(
    phantom_stub: ChestXrayServiceStub, image: bytes, reason: str
) -> None:
    for call in (
        lambda: phantom_stub.Predict(pb.PredictRequest(image=image)),
        lambda: phantom_stub.Explain(pb.ExplainRequest(image=image)),
    ):
        code, found, field, _ = refusal(call)
        assert (code, found, field) == (grpc.StatusCode.INVALID_ARGUMENT, reason, "image")


@pytest.mark.parametrize(
    ("fields", "reason", "field"),
    [
        ({"labels": ["Nonsense"]}, "UNKNOWN_LABEL", "labels"),
        ({"labels": ["effusion"]}, "UNKNOWN_LABEL", "labels"),
        ({"labels": ["Effusion", "Effusion"]}, "INVALID_FIELD", "labels"),
        ({"labels": [str(n) for n in range(10_000)]}, "INVALID_FIELD", "labels"),
        ({"method": 77}, "INVALID_FIELD", "method"),
        ({"render": pb.RenderOptions(kind=9)}, "INVALID_FIELD", "render.kind"),
        ({"render": pb.RenderOptions(frame=9)}, "INVALID_FIELD", "render.frame"),
        ({"render": pb.RenderOptions(color_map=99)}, "INVALID_FIELD", "render.color_map"),
        ({"render": pb.RenderOptions(scale=3)}, "INVALID_FIELD", "render.scale"),
        ({"render": pb.RenderOptions(opacity=float("nan"))}, "INVALID_FIELD", "render.opacity"),
        ({"render": pb.RenderOptions(opacity=float("inf"))}, "INVALID_FIELD", "render.opacity"),
        ({"render": pb.RenderOptions(opacity=-0.1)}, "INVALID_FIELD", "render.opacity"),
        ({"render": pb.RenderOptions(max_side_px=-5)}, "INVALID_FIELD", "render.max_side_px"),
        ({"render": pb.RenderOptions(max_side_px=0)}, "INVALID_FIELD", "render.max_side_px"),
        (
            {"render": pb.RenderOptions(max_side_px=2**30)},
            "INVALID_FIELD",
            "render.max_side_px",
        ),
    ],
)
def test_bad_explain_fields_are_named(
    phantom_stub: ChestXrayServiceStub, fields: dict, reason: str, field: str
) -> None:
    code, found_reason, found_field, _ = refusal(
        lambda: phantom_stub.Explain(pb.ExplainRequest(image=png(), **fields))
    )
    assert (code, found_reason, found_field) == (
        grpc.StatusCode.INVALID_ARGUMENT,
        reason,
        field,
    )


@pytest.mark.parametrize("top_k", [0, -1, -(2**31)])
def test_top_k_below_one_is_refused(phantom_stub: ChestXrayServiceStub, top_k: int) -> None:
    code, reason, field, _ = refusal(
        lambda: phantom_stub.Predict(pb.PredictRequest(image=png(), top_k=top_k))
    )
    assert (code, reason, field) == (grpc.StatusCode.INVALID_ARGUMENT, "INVALID_FIELD", "top_k")


def test_a_method_of_another_engine_says_how_to_get_it(
    phantom_stub: ChestXrayServiceStub,
) -> None:
    code, reason, field, error = refusal(
        lambda: phantom_stub.Explain(
            pb.ExplainRequest(image=png(), method=pb.EXPLANATION_METHOD_LAYER_CAM)
        )
    )
    assert (code, reason) == (grpc.StatusCode.FAILED_PRECONDITION, "METHOD_UNAVAILABLE")
    assert field == "method"
    assert "--engine torch" in error.details()


def test_a_message_over_the_limit_is_refused_and_the_next_call_is_answered(
    phantom_server: ServerProcess, phantom_stub: ChestXrayServiceStub
) -> None:
    with pytest.raises(grpc.RpcError) as caught:
        phantom_stub.Predict(pb.PredictRequest(image=bytes(33 * 2**20)))
    assert caught.value.code() is grpc.StatusCode.RESOURCE_EXHAUSTED
    assert rpc_status.from_call(caught.value) is None  # no RetryInfo: repeating cannot help
    assert phantom_stub.Predict(pb.PredictRequest(image=png())).findings


@pytest.mark.parametrize("garbage", [b"\xff\xff\xff", b"\x0a\xff\xff\xff\x0fab", b"\x0a\x05ab"])
def test_a_malformed_message_is_the_callers_fault(
    phantom_server: ServerProcess, garbage: bytes
) -> None:
    with grpc.insecure_channel(phantom_server.address) as channel:
        predict = channel.unary_unary("/cxr.v1.ChestXrayService/Predict")
        code, reason, _, _ = refusal(lambda: predict(garbage))
    assert (code, reason) == (grpc.StatusCode.INVALID_ARGUMENT, "INVALID_FIELD")


def test_an_unknown_method_is_unimplemented(phantom_server: ServerProcess) -> None:
    channel = grpc.insecure_channel(phantom_server.address)
    with channel, pytest.raises(grpc.RpcError) as caught:
        channel.unary_unary("/cxr.v1.ChestXrayService/Diagnose")(b"")
    assert caught.value.code() is grpc.StatusCode.UNIMPLEMENTED


def test_no_error_text_carries_a_decoders_words_or_a_trace(
    phantom_stub: ChestXrayServiceStub,
) -> None:
    secret = b"PATIENT-NAME-DOE"
    image = png()[:60] + secret + png()[60:]
    _, _, _, error = refusal(lambda: phantom_stub.Predict(pb.PredictRequest(image=image)))
    text = f"{error.details()}{error.trailing_metadata()}"
    for leak in ("PATIENT", "Traceback", "PIL", "File ", "zlib"):
        assert leak not in text
