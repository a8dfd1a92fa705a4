"""The Open Inference Protocol, by messages as its clients send them; see also tests/operations."""

import struct
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any

import grpc
import numpy as np
import pytest

from cxr.v1 import chest_xray_pb2 as pb
from cxr.v1.chest_xray_pb2_grpc import ChestXrayServiceStub
from cxr_server.app import App
from cxr_server.rpc.open_inference import open_inference_pb2 as oip
from cxr_server.rpc.open_inference.open_inference_pb2_grpc import GRPCInferenceServiceStub
from cxr_server.settings.sources import parse
from images import chest_like, png

OUTPUT = oip.ModelInferRequest.InferRequestedOutputTensor
FILMS = [png(chest_like(seed=seed)) for seed in (1, 2)]


@asynccontextmanager
async def serving(*flags: str) -> AsyncIterator[tuple[Any, Any]]:
    """Stubs of the protocol and of the contract, on one server."""
    app = App(parse(["--listen", "127.0.0.1:0", "--open-inference", *flags], env={}))
    await app.start()
    try:
        async with grpc.aio.insecure_channel(f"127.0.0.1:{app.port}") as channel:
            stub: Any = GRPCInferenceServiceStub(channel)  # type: ignore[no-untyped-call]
            assert (await stub.ServerLive(oip.ServerLiveRequest())).live
            for probe, request in (
                (stub.ServerReady, oip.ServerReadyRequest()),
                (stub.ModelReady, oip.ModelReadyRequest(name="phantom")),
            ):
                assert not (await probe(request)).ready, "before the model is loaded"
            await app.load()
            yield stub, ChestXrayServiceStub(channel)  # type: ignore[no-untyped-call]
    finally:
        await app.drain()


def asked(*images: bytes, raw: bool = False, **fields: Any) -> oip.ModelInferRequest:
    request = oip.ModelInferRequest(model_name="phantom", **fields)
    tensor = request.inputs.add(name="image", datatype="BYTES", shape=[len(images)])
    if raw:
        elements = (struct.pack("<I", len(image)) + image for image in images)
        request.raw_input_contents.append(b"".join(elements))
    else:
        tensor.contents.bytes_contents.extend(images)
    return request


def strings(raw: bytes) -> list[str]:
    found = []
    while raw:
        (size,) = struct.unpack_from("<I", raw)
        found.append(raw[4 : 4 + size].decode())
        raw = raw[4 + size :]
    return found


async def test_the_protocols_clients_get_what_predict_answers() -> None:
    async with serving() as (stub, contract):
        metadata = await stub.ModelMetadata(oip.ModelMetadataRequest(name="phantom"))
        assert [(each.name, each.datatype) for each in metadata.inputs] == [("image", "BYTES")]
        assert "Phantom model" in metadata.platform
        assert (await stub.ServerReady(oip.ServerReadyRequest())).ready
        assert (await stub.ModelReady(oip.ModelReadyRequest(name="phantom"))).ready
        for raw in (True, False):
            answer = await stub.ModelInfer(asked(*FILMS, raw=raw, id="mine"))
            assert answer.id == "mine"
            assert answer.parameters["notice"].string_param.startswith("Phantom model")
            got = dict(
                zip((each.name for each in answer.outputs), answer.raw_output_contents, strict=True)
            )
            shapes = {each.name: list(each.shape) for each in answer.outputs}
            labels = strings(got["labels"])
            assert shapes["labels"] == [len(labels)]
            for row, film in enumerate(FILMS):
                predicted = await contract.Predict(pb.PredictRequest(image=film, top_k=99))
                for output, field in (("scores", "score"), ("probabilities", "probability")):
                    assert shapes[output] == [2, len(labels)]
                    values = np.frombuffer(got[output], "<f4").reshape(shapes[output])[row]
                    wanted = {each.label: getattr(each, field) for each in predicted.findings}
                    assert dict(zip(labels, values, strict=True)) == pytest.approx(wanted)
                named = [pb.WarningCode.Name(each.code) for each in predicted.warnings]
                prefixed = [
                    f"WARNING_CODE_{name}" for name in strings(got["warnings"])[row].split(",")
                ]
                assert prefixed == named
        one = asked(
            FILMS[0], outputs=[oip.ModelInferRequest.InferRequestedOutputTensor(name="labels")]
        )
        assert [each.name for each in (await stub.ModelInfer(one)).outputs] == ["labels"]


def changed(**inputs: Any) -> oip.ModelInferRequest:
    request = asked(FILMS[0])
    for name, value in inputs.items():
        field = getattr(request.inputs[0], name)
        if isinstance(value, list):
            field[:] = value
        else:
            setattr(request.inputs[0], name, value)
    return request


REFUSED = {
    "another model": (oip.ModelInferRequest(model_name="other"), "model_name"),
    "no input": (oip.ModelInferRequest(model_name="phantom"), "inputs"),
    "an input of another name": (changed(name="pixels"), "inputs"),
    "an array of floats": (changed(datatype="FP32"), "inputs[0].datatype"),
    "a shape of more elements": (changed(shape=[2]), "inputs[0].shape"),
    "a shape of too many images": (changed(shape=[65]), "inputs[0].shape"),
    "a shape of rows": (changed(shape=[1, 2]), "inputs[0].shape"),
    "no shape": (changed(shape=[]), "inputs[0].shape"),
    "a second image that is none": (
        asked(FILMS[0], b"no image"),
        "inputs[0].contents.bytes_contents[1]",
    ),
    "an unknown output": (
        asked(FILMS[0], outputs=[OUTPUT(name="maps")]),
        "outputs",
    ),
    "an output twice": (
        asked(FILMS[0], outputs=[OUTPUT(name="scores"), OUTPUT(name="scores")]),
        "outputs",
    ),
    "an unknown presentation": (
        asked(FILMS[0], parameters={"presentation": oip.InferParameter(string_param="BEST")}),
        "parameters.presentation",
    ),
    "strict_input as a string": (
        asked(FILMS[0], parameters={"strict_input": oip.InferParameter(string_param="true")}),
        "parameters.strict_input",
    ),
    "strict_input as a number": (
        asked(FILMS[0], parameters={"strict_input": oip.InferParameter(int64_param=1)}),
        "parameters.strict_input",
    ),
}
for cut in (3, 20):
    request = asked(FILMS[0], raw=True)
    request.raw_input_contents[0] = request.raw_input_contents[0][:cut]
    REFUSED[f"{cut} bytes of a raw element"] = (request, "raw_input_contents")


async def test_a_request_that_cannot_be_answered_names_its_field() -> None:
    async with serving() as (stub, _):
        for what, (request, field) in REFUSED.items():
            with pytest.raises(grpc.aio.AioRpcError) as caught:
                await stub.ModelInfer(request)
            assert caught.value.code() is grpc.StatusCode.INVALID_ARGUMENT, what
            details = dict(caught.value.trailing_metadata() or ())["grpc-status-details-bin"]
            assert field.encode() in details, what
        strict = {"strict_input": oip.InferParameter(bool_param=True)}
        with pytest.raises(grpc.aio.AioRpcError, match="unlikely to be a frontal chest"):
            await stub.ModelInfer(asked(png(np.zeros((300, 300), np.uint8)), parameters=strict))


async def test_a_call_may_hold_more_large_images_than_the_server_takes_calls() -> None:
    film = FILMS[0] + bytes(2**20)  # what follows the end of a PNG is not read
    films = [film + bytes([number]) for number in range(20)]
    flags = ("--max-in-flight", "1", "--decode-processes", "0")
    async with serving(*flags) as (stub, _):
        answer = await stub.ModelInfer(asked(*films, outputs=[OUTPUT(name="labels")]))
        assert answer.model_name == "phantom"


async def test_the_protocol_is_not_served_unless_asked_for(phantom_server: Any) -> None:
    async with grpc.aio.insecure_channel(phantom_server.address) as channel:
        stub: Any = GRPCInferenceServiceStub(channel)  # type: ignore[no-untyped-call]
        with pytest.raises(grpc.aio.AioRpcError) as caught:
            await stub.ServerLive(oip.ServerLiveRequest())
        assert caught.value.code() is grpc.StatusCode.UNIMPLEMENTED
