"""Asks a server with KServe's own client: ask_with_kserve.py SERVER FILE... -> JSON on stdout.

Runs in an environment of its own, see `make test-operations`.
"""

import asyncio
import json
import sys
from pathlib import Path

import numpy as np
from kserve.inference_client import InferenceGRPCClient
from kserve.protocol.infer_type import InferInput, InferRequest


async def main(server: str, files: list[str]) -> None:
    """Ask, and print what came back."""
    images = np.array([Path(name).read_bytes() for name in files], dtype=object)
    client = InferenceGRPCClient(server)
    tensor = InferInput("image", [len(files)], "BYTES", data=images)
    answer = await client.infer(InferRequest("phantom", [tensor]))
    outputs = {each.name: each for each in answer.outputs}
    print(
        json.dumps(
            {
                "live": await client.is_server_live(),
                "ready": await client.is_server_ready(),
                "model_ready": await client.is_model_ready("phantom"),
                "labels": [label.decode() for label in outputs["labels"].as_numpy()],
                "scores": outputs["scores"].as_numpy().tolist(),
            }
        )
    )
    await client.close()


asyncio.run(main(sys.argv[1], sys.argv[2:]))
