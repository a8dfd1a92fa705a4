"""What is registered is served: one entry of a registry, and nothing else, adds a capability."""

import json
import shutil
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from io import BytesIO
from pathlib import Path

import grpc
import msgspec
import numpy as np
import pytest
from PIL import Image

from cxr.v1 import chest_xray_pb2 as pb
from cxr.v1.chest_xray_pb2_grpc import ChestXrayServiceStub
from cxr_server.__main__ import main
from cxr_server.app import App
from cxr_server.bundles.load import load_bundle
from cxr_server.bundles.manifest import BundleError
from cxr_server.bundles.store import PHANTOM_PATH
from cxr_server.explanation.heatmap import HeatMap
from cxr_server.explanation.methods import METHODS, ExplanationMethod, MethodSpec
from cxr_server.geometry import Box
from cxr_server.imaging.codecs import CODECS
from cxr_server.imaging.radiograph import (
    Decoded,
    DecodeOptions,
    Header,
    ImageBytes,
    InputWarning,
    Radiograph,
)
from cxr_server.inference.engines.registry import ENGINES, EngineSpec
from cxr_server.inference.preprocess import PREPROCESSINGS
from cxr_server.settings import parse
from images import chest_like, pixels_of, png


@asynccontextmanager
async def serving(*flags: str) -> AsyncIterator[ChestXrayServiceStub]:
    app = App(parse(["--listen", "127.0.0.1:0", *flags], env={}))
    await app.start()
    try:
        await app.load()
        async with grpc.aio.insecure_channel(f"127.0.0.1:{app.port}") as channel:
            yield ChestXrayServiceStub(channel)
    finally:
        await app.drain()


class ToyCodec:
    """Files of `TOY`, a height and a width of one byte each, and the pixels of 8 bits."""

    name, needs = "JPEG", "nothing"  # a name of the contract; it takes the place of JPEG

    def why_not(self) -> str | None:
        return None

    def sniff(self, head: bytes) -> bool:
        return head.startswith(b"TOY")

    def read_header(self, data: ImageBytes) -> Header:
        return Header(data[3], data[4], 8, 1, pixel_data=data[5:], decode_bytes=0)

    def decode(self, header: Header, options: DecodeOptions) -> Decoded:
        pixels = np.frombuffer(header.pixel_data, np.uint8)
        pixels_hw = pixels.reshape(header.height_px, header.width_px)
        return Decoded(pixels_hw, (InputWarning.TRANSPARENT,))


async def test_a_registered_image_format_is_described_and_served(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setitem(CODECS, ToyCodec.name, ToyCodec())
    pixels = chest_like(120, 100)
    toy_file = b"TOY" + bytes((120, 100)) + pixels.tobytes()
    async with serving() as stub:
        described = await stub.DescribeModel(pb.DescribeModelRequest())
        reply = await stub.Predict(pb.PredictRequest(image=toy_file))
        same_pixels = await stub.Predict(pb.PredictRequest(image=png(pixels)))
    assert pb.IMAGE_FORMAT_JPEG in described.image_formats
    assert reply.image_info.format == pb.IMAGE_FORMAT_JPEG
    assert (reply.image_info.height_px, reply.image_info.width_px) == (120, 100)
    assert pb.WARNING_CODE_TRANSPARENT in [warning.code for warning in reply.warnings]
    assert reply.findings == same_pixels.findings


class ToyEngine:
    """Each finding's evidence is the image's mean, in the left half of the grid."""

    name, device, precision, max_batch, max_in_flight = "toy", "abacus", "bfloat16", 4, 2

    def __init__(self, findings: int) -> None:
        self._findings = findings

    def evidence(self, batch_nchw: np.ndarray) -> np.ndarray:
        evidence = np.zeros((len(batch_nchw), self._findings, 4, 4), np.float32)
        evidence[..., :2] = batch_nchw.mean(axis=(1, 2, 3))[:, None, None, None] / 1024
        return evidence

    def close(self) -> None: ...


TOY_ENGINE = EngineSpec(
    name="toy",
    packages=(),
    requirement="",
    bundle_file="weights.safetensors",
    devices=("abacus",),
    open=lambda bundle, options: ToyEngine(len(bundle.manifest.labels)),
)


async def test_a_registered_engine_is_a_choice_and_is_served(
    monkeypatch: pytest.MonkeyPatch, unprobed_phantom: None
) -> None:
    monkeypatch.setitem(ENGINES, TOY_ENGINE.name, TOY_ENGINE)
    grey = png(np.full((64, 64), 192, np.uint8))
    async with serving("--engine", "toy", "--decode-processes", "0") as stub:
        health = await stub.Health(pb.HealthRequest())
        described = await stub.DescribeModel(pb.DescribeModelRequest())
        predicted = await stub.Predict(pb.PredictRequest(image=grey))
        explained = await stub.Explain(pb.ExplainRequest(image=grey))
    (only,) = explained.explanations
    assert (health.engine, health.device) == ("toy", "abacus")
    assert health.precision == described.precision == "bfloat16"
    (served,) = described.served_models
    answers = health, described, predicted, explained, served
    assert {each.model.precision for each in answers} == {"bfloat16"}
    with Image.open(BytesIO(only.heatmap)) as picture:
        assert json.loads(picture.text["cxr-serve"])["precision"] == "bfloat16"
    mean = 192 / 255 * 2 - 1
    assert only.evidence.values == pytest.approx([mean, mean, 0, 0] * 4, abs=0.02)


class Upside:
    """The picture as it is, upside down and of any size; a quarter of it is used."""

    id = "toy-upside-v1"

    def why_not(self) -> str | None:
        return None

    def crop(self, height_px: int, width_px: int) -> Box:
        return Box(0, 0, width_px // 2, height_px // 2)

    def image_chw(self, radiograph: Radiograph, side_px: int) -> np.ndarray:
        image_hw = radiograph.pixels_hw[side_px - 1 :: -1, :side_px].astype(np.float32)
        return image_hw[None] / radiograph.max_value * 2048 - 1024

    def picture_hw(self, image_chw: np.ndarray, radiograph: Radiograph) -> np.ndarray:
        return np.rint((image_chw[0] + 1024) * 255 / 2048).astype(np.uint8)


def bundle_with(folder: Path, preprocessing_id: str) -> Path:
    """The phantom bundle, with another preprocessing in its manifest."""
    shutil.copytree(PHANTOM_PATH, folder)
    manifest = load_bundle(PHANTOM_PATH).manifest
    changed = msgspec.structs.replace(
        manifest,
        preprocessing_id=preprocessing_id,
        probe=msgspec.UNSET,
        reference=msgspec.UNSET,  # it was made with the other preprocessing
    )
    (folder / "model.json").write_text(changed.to_json())
    return folder


async def test_a_registered_preprocessing_is_described_and_served(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.setitem(PREPROCESSINGS, Upside.id, Upside())
    bundle = bundle_with(tmp_path / "toy", Upside.id)
    pixels = chest_like(224, 224)
    overlay = pb.RenderOptions(opacity=0)
    async with serving("--decode-processes", "0", "--model", str(bundle)) as stub:
        described = await stub.DescribeModel(pb.DescribeModelRequest())
        reply = await stub.Explain(pb.ExplainRequest(image=png(pixels), render=overlay))
    assert described.preprocessing_id == Upside.id
    crop = reply.image_info.crop_box
    assert (crop.width_px, crop.height_px) == (112, 112)
    assert (pixels_of(reply.explanations[0].heatmap)[..., 0] == pixels[::-1]).all()


@pytest.mark.usefixtures("without_torch")
@pytest.mark.slow
async def test_a_bundle_that_names_an_unknown_preprocessing_is_refused_by_name(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    bundle = bundle_with(tmp_path / "foreign", "imagenet-rgb-resize256-v7")
    with pytest.raises(BundleError, match=r"imagenet-rgb-resize256-v7.*xrv-centercrop-resize224"):
        async with serving("--model", str(bundle)):
            pass
    assert main(["doctor", "--model", str(bundle)]) == 1
    assert "imagenet-rgb-resize256-v7" in capsys.readouterr().out


async def test_a_registered_explanation_method_is_described_and_served(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    def upper_left(evidence_hw: np.ndarray, side_px: int, full: float | None) -> HeatMap:
        values_hw = np.zeros((side_px, side_px), np.float32)
        values_hw[: side_px // 4, : side_px // 4] = 1
        return HeatMap(values_hw, low=0, high=1, peak_row_column=(0, 0), in_logits=False)

    # Without the registration, this method needs the torch engine.
    toy = MethodSpec(ExplanationMethod.EIGEN_CAM, upper_left)
    monkeypatch.setitem(METHODS, toy.name, toy)
    request = pb.ExplainRequest(
        image=png(chest_like(400, 400)),
        method=pb.EXPLANATION_METHOD_EIGEN_CAM,
        render=pb.RenderOptions(kind=pb.RENDER_KIND_HEATMAP, color_map=pb.COLOR_MAP_GRAY),
    )
    async with serving("--engine", "openvino", "--decode-processes", "0") as stub:
        described = await stub.DescribeModel(pb.DescribeModelRequest())
        (only,) = (await stub.Explain(request)).explanations
    assert list(described.methods) == [
        pb.EXPLANATION_METHOD_GRAD_CAM,
        pb.EXPLANATION_METHOD_EIGEN_CAM,
    ]
    assert only.method == pb.EXPLANATION_METHOD_EIGEN_CAM
    (region,) = only.regions
    assert (region.box.x_px, region.box.y_px, region.box.width_px) == (0, 0, 100)
    picture = pixels_of(only.heatmap)
    assert (picture[:56, :56] == 255).all()
    assert not picture[56:].any()
