"""LitServe with the baseline's handler and two endpoints, as its documentation shows."""

import argparse
import base64
import os
from pathlib import Path
from typing import Any

import litserve

from benchmarks import BUNDLE


class PredictApi(litserve.LitAPI):  # type: ignore[misc]
    """Base64 of an image file -> scores."""

    def setup(self, device: str) -> None:
        """Load the model in the worker process, and torch nowhere else."""
        from benchmarks.baseline import Handler

        self.handler = Handler(Path(os.environ[BUNDLE]))

    def decode_request(self, request: dict[str, Any]) -> bytes:
        """JSON -> image file."""
        return base64.b64decode(request["image"])

    def predict(self, data: bytes) -> dict[str, Any]:
        """Image file -> scores."""
        return self.handler.predict(data)

    def encode_response(self, output: dict[str, Any]) -> dict[str, Any]:
        """Scores -> JSON."""
        return output


class ExplainApi(PredictApi):
    """Base64 of an image file -> overlay."""

    def predict(self, data: bytes) -> dict[str, Any]:
        """Image file -> overlay."""
        return self.handler.explain(data)


def main() -> None:
    """Serve on a port."""
    parser = argparse.ArgumentParser()
    parser.add_argument("--port", type=int, required=True)
    args = parser.parse_args()
    apis = [PredictApi(api_path="/predict"), ExplainApi(api_path="/explain")]
    server = litserve.LitServer(apis, accelerator="cpu", timeout=120)
    server.run(host="127.0.0.1", port=args.port, generate_client_file=False, log_level="warning")


if __name__ == "__main__":
    main()
