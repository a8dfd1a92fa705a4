"""What is registered is served: one entry of a registry, and nothing else, adds a capability."""

import grpc
import numpy as np
import pytest

from cxr.v1 import chest_xray_pb2 as pb
from cxr.v1.chest_xray_pb2_grpc import ChestXrayServiceStub
from cxr_server.app import App
from cxr_server.explanation.heatmap import HeatMap, HeatScale
from cxr_server.explanation.methods import METHODS, ExplanationMethod, MethodSpec
from cxr_server.settings import parse
from images import chest_like, pixels_of, png


async def test_a_registered_explanation_method_is_described_and_served(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    def upper_left(evidence_hw: np.ndarray, side_px: int, scale: HeatScale) -> HeatMap:
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
    app = App(parse(["--listen", "127.0.0.1:0", "--engine", "openvino"], env={}))
    await app.start()
    await app.load()
    async with grpc.aio.insecure_channel(f"127.0.0.1:{app.port}") as channel:
        stub = ChestXrayServiceStub(channel)
        described = await stub.DescribeModel(pb.DescribeModelRequest())
        (only,) = (await stub.Explain(request)).explanations
    await app.drain()
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
