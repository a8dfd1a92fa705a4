"""Requests are read as protobuf reads them, also where their image stays among their bytes."""

import pytest

from cxr.v1 import chest_xray_pb2 as pb
from cxr_server.errors import InvalidField
from cxr_server.rpc.messages import predict_request

IMAGE = bytes(range(256)) * 80  # its size takes three bytes
HEAD = pb.PredictRequest(image=IMAGE).SerializeToString()
OPTIONS = pb.PredictRequest(top_k=3, model="second").SerializeToString()
ELSE = pb.PredictRequest(image=b"else").SerializeToString()
KNOWN_LATER = b"\xfa\x3e\x02hi"  # field 1007


@pytest.mark.parametrize(
    "message",
    [
        b"",
        HEAD,
        HEAD + OPTIONS,
        OPTIONS,
        OPTIONS + HEAD,
        HEAD + OPTIONS + ELSE,
        ELSE + HEAD,
        HEAD + b"\x0a\x00" + OPTIONS,
        HEAD + KNOWN_LATER,
        KNOWN_LATER + HEAD,
        b"\x0a\x00" + OPTIONS,
        b"\x0a\x84\x80\x00else" + OPTIONS,
        b"\x08\x05" + OPTIONS,
    ],
)
def test_a_request_in_bytes_is_the_request_of_its_message(message: bytes) -> None:
    assert predict_request(message) == predict_request(pb.PredictRequest.FromString(message))


def test_an_image_that_comes_first_is_not_copied_from_the_request() -> None:
    message = HEAD + OPTIONS
    image = predict_request(message).image
    assert isinstance(image, memoryview)
    assert image.obj is message


@pytest.mark.parametrize(
    "message",
    [
        b"\x0a",
        HEAD[:-1],
        HEAD + b"\x0a",
        b"\x0a" + b"\xff" * 9 + b"\x01" + IMAGE,
        b"\x0a" + b"\xff" * 20,
        b"\x0a\x84\x80\x80\x80\x80\x00else",
        HEAD + b"\xff",
    ],
)
def test_bytes_that_are_no_message_are_an_invalid_field(message: bytes) -> None:
    with pytest.raises(InvalidField, match="not a valid message"):
        predict_request(message)
