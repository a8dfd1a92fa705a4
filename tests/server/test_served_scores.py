"""Served scores against torchxrayvision's own pipeline, on a full-size DenseNet-121."""

import copy
from io import BytesIO
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
import pytest
from PIL import Image

from cxr.v1 import chest_xray_pb2 as pb
from cxr.v1.chest_xray_pb2_grpc import ChestXrayServiceStub
from images import chest_like, png

if TYPE_CHECKING:
    from torch import nn


@pytest.fixture(scope="module")
def reference(full_stub: ChestXrayServiceStub, full_densenet: "nn.Module") -> "nn.Module":
    """The served network as torchxrayvision would load it, operating points included."""
    import torch

    described = full_stub.DescribeModel(pb.DescribeModelRequest()).findings
    model = copy.deepcopy(full_densenet)
    model.op_threshs = torch.tensor([finding.threshold for finding in described])
    return model


def reference_scores(densenet: "nn.Module", image: bytes, max_value: int = 255) -> np.ndarray:
    """What a torchxrayvision user would compute: normalise, crop, resize, model(x)."""
    import torch
    import torchxrayvision as xrv

    with Image.open(BytesIO(image)) as file:
        pixels = np.asarray(file).astype(np.float64)
    normal = xrv.datasets.normalize(pixels, max_value)[None]
    cropped = xrv.datasets.XRayCenterCrop()(normal)
    resized = xrv.datasets.XRayResizer(224, engine="skimage")(cropped)
    with torch.inference_mode():
        return densenet(torch.from_numpy(resized)[None].float())[0].numpy()


def served_scores(stub: ChestXrayServiceStub, image: bytes) -> np.ndarray:
    reply = stub.Predict(pb.PredictRequest(image=image, top_k=99))
    by_index = sorted(reply.findings, key=lambda finding: finding.class_index)
    return np.array([finding.score for finding in by_index])


def test_served_scores_equal_torchxrayvisions_on_real_images(
    full_stub: ChestXrayServiceStub, reference: "nn.Module", radiographs: list[Path]
) -> None:
    for path in radiographs:
        image = path.read_bytes()
        expected = reference_scores(reference, image)
        assert np.ptp(expected) > 0.05  # scores that are all alike would prove little
        assert served_scores(full_stub, image) == pytest.approx(expected, abs=1e-3)


@pytest.mark.parametrize(("height_px", "width_px"), [(150, 130), (224, 224), (613, 401)])
def test_served_scores_equal_torchxrayvisions_on_drawn_images(
    full_stub: ChestXrayServiceStub, reference: "nn.Module", height_px: int, width_px: int
) -> None:
    pixels = chest_like(height_px, width_px)
    shallow, deep = png(pixels), png(pixels.astype(np.uint16) * 257)
    for image, max_value in ((shallow, 255), (deep, 65535)):
        expected = reference_scores(reference, image, max_value)
        assert served_scores(full_stub, image) == pytest.approx(expected, abs=1e-3)
