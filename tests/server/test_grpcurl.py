"""The real grpcurl works on the server as it is, with reflection and with the contract's file."""

import base64
import json
import subprocess
import sys
from pathlib import Path

import grpc
import pytest
from grpc_reflection.v1alpha import reflection_pb2

from images import png
from serving import ServerProcess

ROOT = Path(__file__).parents[2]
GRPCURL = str(Path(sys.executable).with_name("grpcurl"))
SERVICE = "cxr.v1.ChestXrayService"
BY_REFLECTION: tuple[str, ...] = ()
BY_FILE = (
    *("-import-path", str(ROOT / "protos")),
    *("-proto", str(ROOT / "protos" / "cxr" / "v1" / "chest_xray.proto")),
)
BOTH_WAYS = pytest.mark.parametrize("way", [BY_REFLECTION, BY_FILE], ids=["reflection", "file"])


def grpcurl(*words: str, stdin: str = "") -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [GRPCURL, "-plaintext", *words], input=stdin, capture_output=True, text=True, timeout=60
    )


def call(server: ServerProcess, way: tuple[str, ...], method: str, **fields: object) -> dict:
    done = grpcurl(*way, "-d", "@", server.address, f"{SERVICE}/{method}", stdin=json.dumps(fields))
    assert done.returncode == 0, done.stderr
    return json.loads(done.stdout)


@BOTH_WAYS
def test_json_names_are_those_of_protobufs_json_mapping(
    phantom_server: ServerProcess, way: tuple[str, ...]
) -> None:
    image = base64.b64encode(png()).decode()
    reply = call(phantom_server, way, "Predict", image=image, topK=2)
    assert len(reply["findings"]) == 2
    assert reply["imageInfo"]["cropBox"]["widthPx"] > 0
    assert reply["model"]["weightsSha256"]
    assert not any("_" in key for key in reply)


@BOTH_WAYS
def test_names_of_the_contract_are_understood_in_requests(
    phantom_server: ServerProcess, way: tuple[str, ...]
) -> None:
    image = base64.b64encode(png()).decode()
    render = {"kind": "RENDER_KIND_HEATMAP", "max_side_px": 64}
    reply = call(phantom_server, way, "Explain", image=image, labels=["Effusion"], render=render)
    (explanation,) = reply["explanations"]
    assert explanation["finding"]["label"] == "Effusion"
    assert base64.b64decode(explanation["heatmap"]).startswith(b"\x89PNG")


def test_the_details_of_an_error_are_readable(phantom_server: ServerProcess) -> None:
    done = grpcurl("-v", "-d", "{}", phantom_server.address, f"{SERVICE}/Predict")
    assert done.returncode != 0
    assert '"reason":"IMAGE_EMPTY"' in done.stderr
    assert "x-error-reason: IMAGE_EMPTY" in done.stdout


def test_every_service_can_be_listed_and_described(phantom_server: ServerProcess) -> None:
    listed = grpcurl(phantom_server.address, "list").stdout.split()
    assert listed == [
        SERVICE,
        "grpc.health.v1.Health",
        "grpc.reflection.v1.ServerReflection",
        "grpc.reflection.v1alpha.ServerReflection",
    ]
    for name in (*listed, "google.rpc.ErrorInfo"):
        assert grpcurl(phantom_server.address, "describe", name).returncode == 0


@pytest.mark.parametrize("version", ["v1", "v1alpha"])
def test_both_versions_of_reflection_answer(phantom_server: ServerProcess, version: str) -> None:
    asking = reflection_pb2.ServerReflectionRequest(file_containing_symbol=SERVICE)
    with grpc.insecure_channel(phantom_server.address) as channel:
        reflect = channel.stream_stream(
            f"/grpc.reflection.{version}.ServerReflection/ServerReflectionInfo",
            request_serializer=reflection_pb2.ServerReflectionRequest.SerializeToString,
            response_deserializer=reflection_pb2.ServerReflectionResponse.FromString,
        )
        (answer,) = reflect(iter([asking]))
    assert any(b"imageInfo" in f for f in answer.file_descriptor_response.file_descriptor_proto)
