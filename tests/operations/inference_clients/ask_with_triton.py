"""Asks a server with Triton's own client: ask_with_triton.py SERVER FILE... -> JSON on stdout.

Runs in an environment of its own, see `make test-operations`.
"""

import json
import sys
from pathlib import Path

import numpy as np
import tritonclient.grpc as triton
from tritonclient.utils import InferenceServerException

server, *files = sys.argv[1:]
client = triton.InferenceServerClient(server)
images = [Path(name).read_bytes() for name in files]


def infer(*images: bytes, **options: object) -> triton.InferResult:
    """Send images as the client does by itself: raw, each after its length."""
    tensor = triton.InferInput("image", [len(images)], "BYTES")
    tensor.set_data_from_numpy(np.array(images, dtype=object))
    return client.infer("phantom", [tensor], **options)


def status(image: bytes, **options: object) -> str:
    """Return the status of a call that must fail."""
    try:
        infer(image, **options)
    except InferenceServerException as error:
        return str(error.status())
    return "answered"


metadata = client.get_model_metadata("phantom")
result = infer(*images, request_id="mine")
# As for OpenVINO Model Server: whole files in bytes_contents, by the message that the client ships.
message = triton.service_pb2.ModelInferRequest(model_name="phantom")
tensor = message.inputs.add(name="image", datatype="BYTES", shape=[len(images)])
tensor.contents.bytes_contents.extend(images)
other = triton.InferResult(client._client_stub.ModelInfer(message))
print(
    json.dumps(
        {
            "live": client.is_server_live(),
            "ready": client.is_server_ready(),
            "model_ready": client.is_model_ready("phantom"),
            "inputs": [[each.name, each.datatype, list(each.shape)] for each in metadata.inputs],
            "outputs": [each.name for each in metadata.outputs],
            "id": result.get_response().id,
            "notice": result.get_response().parameters["notice"].string_param,
            "labels": [label.decode() for label in result.as_numpy("labels")],
            "scores": result.as_numpy("scores").tolist(),
            "scores_of_bytes_contents": other.as_numpy("scores").tolist(),
            "no_image": status(b"no image"),
            "expired": status(images[0] + b"another", client_timeout=0.0001),
        }
    )
)
