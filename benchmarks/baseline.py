"""The baseline: FastAPI, torch, torchxrayvision's transforms, pytorch-grad-cam, base64 in JSON.

Follows the examples of the four projects: `def` endpoints, which FastAPI runs in its thread pool,
the library's own preprocessing, one model per process. It avoids three common mistakes: 16-bit
images keep their range, Grad-CAM, whose hooks belong to the shared model, runs under a lock, and
the scores come from the same forward pass.
"""

import base64
import io
import os
import threading
from pathlib import Path
from typing import Any

import numpy as np
import torch
import torchvision
import torchxrayvision as xrv
from fastapi import FastAPI
from PIL import Image
from pydantic import BaseModel
from pytorch_grad_cam import GradCAM
from pytorch_grad_cam.utils.image import show_cam_on_image

from benchmarks import BUNDLE
from benchmarks.model import densenet

TOP_K = 5


class Handler:
    """The endpoints' work, shared with LitServe."""

    def __init__(self, folder: Path) -> None:
        self.model = densenet(folder)
        self.transform = torchvision.transforms.Compose(
            [xrv.datasets.XRayCenterCrop(), xrv.datasets.XRayResizer(224)]
        )
        self.lock = threading.Lock()

    def load(self, data: bytes) -> torch.Tensor:
        """Image file -> tensor [1, 1, 224, 224]."""
        image = Image.open(io.BytesIO(data))
        if image.mode.startswith("I"):
            pixels = xrv.datasets.normalize(np.array(image), 65535)
        else:
            pixels = xrv.datasets.normalize(np.array(image.convert("L")), 255)
        return torch.from_numpy(self.transform(pixels[None, ...]))[None, ...]

    def predict(self, data: bytes) -> dict[str, Any]:
        """Scores of the best findings."""
        with torch.inference_mode():
            scores = self.model(self.load(data))[0].numpy()
        best = np.argsort(-scores)[:TOP_K]
        return {self.model.targets[row]: float(scores[row]) for row in best}

    def explain(self, data: bytes) -> dict[str, Any]:
        """Grad-CAM overlay of the best finding, as base64 of a PNG."""
        tensor = self.load(data)
        with self.lock, GradCAM(model=self.model, target_layers=[self.model.features[-1]]) as cam:
            heat = cam(input_tensor=tensor, targets=None)[0]  # of the highest output
            scores = cam.outputs[0].detach().numpy()
            row = int(scores.argmax())
        picture = (tensor[0, 0].numpy() + 1024) / 2048
        overlay = show_cam_on_image(np.repeat(picture[..., None], 3, axis=2), heat, use_rgb=True)
        file = io.BytesIO()
        Image.fromarray(overlay).save(file, "PNG")
        return {
            "label": self.model.targets[row],
            "score": float(scores[row]),
            "overlay": base64.b64encode(file.getvalue()).decode(),
        }


class ImageRequest(BaseModel):
    """A base64-encoded PNG or JPEG file."""

    image: str


def app() -> FastAPI:
    """Return the application; `uvicorn --factory benchmarks.baseline:app`."""
    api = FastAPI()
    handler = Handler(Path(os.environ[BUNDLE]))

    @api.get("/health")
    def health() -> dict[str, str]:
        return {"status": "ok"}

    @api.post("/predict")
    def predict(request: ImageRequest) -> dict[str, Any]:
        return handler.predict(base64.b64decode(request.image))

    @api.post("/explain")
    def explain(request: ImageRequest) -> dict[str, Any]:
        return handler.explain(base64.b64decode(request.image))

    return api
