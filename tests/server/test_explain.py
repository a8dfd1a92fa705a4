"""Explain over a real channel, on the shipped phantom."""

import json
import math
from collections.abc import Callable
from io import BytesIO

import grpc
import numpy as np
import pytest
from google.protobuf.message import Message
from PIL import Image

from cxr.v1 import chest_xray_pb2 as pb
from cxr.v1.chest_xray_pb2_grpc import ChestXrayServiceStub
from cxr_phantom.draw import draw_phantom
from images import chest_like, jpeg, pixels_of, png

OVERLAY, HEATMAP, NONE, RADIOGRAPH = (
    pb.RENDER_KIND_OVERLAY,
    pb.RENDER_KIND_HEATMAP,
    pb.RENDER_KIND_NONE,
    pb.RENDER_KIND_RADIOGRAPH,
)
MODEL_INPUT, ORIGINAL = pb.RENDER_FRAME_MODEL_INPUT, pb.RENDER_FRAME_ORIGINAL


@pytest.fixture(scope="module")
def labels(phantom_stub: ChestXrayServiceStub) -> list[str]:
    return [each.label for each in phantom_stub.DescribeModel(pb.DescribeModelRequest()).findings]


@pytest.fixture(scope="module")
def cardiomegaly() -> np.ndarray:
    return draw_phantom(21, findings=["Cardiomegaly"], size_px=512).pixels_hw


def explain(stub: ChestXrayServiceStub, image: bytes, **fields: object) -> pb.ExplainResponse:
    render = {name: fields.pop(name) for name in list(fields) if name in _RENDER}
    return stub.Explain(pb.ExplainRequest(image=image, render=pb.RenderOptions(**render), **fields))


_RENDER = {field.name for field in pb.RenderOptions.DESCRIPTOR.fields}


def test_without_a_label_the_top_finding_is_explained(
    phantom_stub: ChestXrayServiceStub, cardiomegaly: np.ndarray
) -> None:
    image = png(cardiomegaly)
    best = phantom_stub.Predict(pb.PredictRequest(image=image, top_k=1)).findings[0]
    (only,) = explain(phantom_stub, image).explanations
    assert only.finding == best
    assert only.method == pb.EXPLANATION_METHOD_GRAD_CAM
    assert pixels_of(only.heatmap).shape == (224, 224, 3)


def test_several_labels_come_back_in_the_order_asked_for(
    phantom_stub: ChestXrayServiceStub, labels: list[str], cardiomegaly: np.ndarray
) -> None:
    wanted = labels[::-1]
    reply = explain(phantom_stub, png(cardiomegaly), labels=wanted)
    assert [each.finding.label for each in reply.explanations] == wanted


def test_one_call_gives_every_score_and_the_pictures_of_chosen_labels(
    phantom_stub: ChestXrayServiceStub, labels: list[str], cardiomegaly: np.ndarray
) -> None:
    image = png(cardiomegaly)
    predicted = phantom_stub.Predict(pb.PredictRequest(image=image, top_k=len(labels)))
    reply = explain(phantom_stub, image, labels=labels, heatmap_labels=labels[1:2])
    assert reply.findings == predicted.findings
    drawn = [each.finding.label for each in reply.explanations if each.heatmap]
    assert drawn == labels[1:2]
    assert all(len(each.evidence.values) == 49 for each in reply.explanations)


def test_a_picture_that_is_asked_for_repeatedly_counts_once(
    phantom_stub: ChestXrayServiceStub, cardiomegaly: np.ndarray
) -> None:
    described = phantom_stub.DescribeModel(pb.DescribeModelRequest())
    repeated = ["Mass"] * (described.limits.max_drawn_pixels // 224**2 + 1)
    reply = explain(phantom_stub, png(cardiomegaly), labels=["Mass"], heatmap_labels=repeated)
    assert len(reply.explanations) == 1


def test_mean_evidence_plus_bias_is_the_logit_of_every_finding(
    phantom_stub: ChestXrayServiceStub, labels: list[str]
) -> None:
    biases = []
    for seed in (1, 2):
        image = png(draw_phantom(seed, findings=["Effusion", "Mass"], size_px=300).pixels_hw)
        reply = explain(phantom_stub, image, labels=labels, kind=NONE)
        means = [np.mean(each.evidence.values) for each in reply.explanations]
        sums = [each.logit for each in reply.explanations]
        biases.append(np.array(sums) - np.array(means))
        for each in reply.explanations:
            assert (each.evidence.rows, each.evidence.columns) == (7, 7)
            assert len(each.evidence.values) == 49
            probability = 1 / (1 + math.exp(-each.logit))
            assert each.finding.probability == pytest.approx(probability, abs=1e-6)
    assert biases[0] == pytest.approx(biases[1], abs=1e-4)  # the same for every image


def test_the_kind_decides_what_is_drawn(
    phantom_stub: ChestXrayServiceStub, cardiomegaly: np.ndarray
) -> None:
    image = png(cardiomegaly)
    (overlay,) = explain(phantom_stub, image, kind=OVERLAY).explanations
    (heatmap,) = explain(phantom_stub, image, kind=HEATMAP).explanations
    (nothing,) = explain(phantom_stub, image, kind=NONE).explanations
    assert nothing.heatmap == b""
    assert overlay.evidence == heatmap.evidence == nothing.evidence
    assert overlay.peak == nothing.peak
    coldest = pixels_of(heatmap.heatmap).sum(axis=2) < 30
    assert coldest.any()  # inferno is black where there is no heat
    assert pixels_of(overlay.heatmap)[coldest].mean() > 30  # there the film shows through


def test_heat_alone_of_an_image_seen_before_decodes_nothing(
    phantom_stub: ChestXrayServiceStub, cardiomegaly: np.ndarray
) -> None:
    image = png(cardiomegaly[20:, :300])
    fresh = explain(phantom_stub, image, kind=HEATMAP, frame=ORIGINAL)
    again = explain(phantom_stub, image, kind=HEATMAP, frame=ORIGINAL)
    assert fresh.timing.HasField("decode_duration")
    assert again.timing.evidence_cached
    assert not again.timing.HasField("decode_duration")
    assert again.explanations == fresh.explanations
    assert pixels_of(again.explanations[0].heatmap).shape == (492, 300, 3)


def test_opacity_and_colour_map_change_the_picture_and_nothing_else(
    phantom_stub: ChestXrayServiceStub, cardiomegaly: np.ndarray
) -> None:
    image = png(cardiomegaly)
    pictures = [
        explain(phantom_stub, image, **options).explanations[0].heatmap
        for options in (
            {"opacity": 0.0},
            {"opacity": 0.3},
            {"opacity": 1.0},
            {"color_map": pb.COLOR_MAP_VIRIDIS},
            {"color_map": pb.COLOR_MAP_JET},
            {"color_map": pb.COLOR_MAP_GRAY, "kind": HEATMAP},
            {"scale": pb.HEAT_SCALE_FIXED, "kind": HEATMAP},
            {"scale": pb.HEAT_SCALE_FIXED, "kind": HEATMAP, "fixed_scale_logits": 100},
            {"contours": True},
        )
    ]
    assert len(set(pictures)) == len(pictures)
    bare = pixels_of(pictures[0]).astype(int)
    assert np.ptp(bare, axis=2).max() == 0  # opacity 0 leaves the grey film


def test_max_side_bounds_the_picture_and_never_enlarges(
    phantom_stub: ChestXrayServiceStub,
) -> None:
    image = png(chest_like(600, 900))
    for asked, expected in ((None, (600, 900)), (450, (300, 450)), (4096, (600, 900))):
        options = {} if asked is None else {"max_side_px": asked}
        (only,) = explain(phantom_stub, image, frame=ORIGINAL, **options).explanations
        assert pixels_of(only.heatmap).shape[:2] == expected
    (small,) = explain(phantom_stub, image, max_side_px=100).explanations
    assert pixels_of(small.heatmap).shape[:2] == (100, 100)


def test_a_jpeg_is_served_in_place_of_the_png(
    phantom_stub: ChestXrayServiceStub, cardiomegaly: np.ndarray
) -> None:
    image = png(cardiomegaly)
    for frame in (MODEL_INPUT, ORIGINAL):
        (lossless,) = explain(phantom_stub, image, frame=frame).explanations
        (lossy,) = explain(
            phantom_stub, image, frame=frame, format=pb.RENDER_FORMAT_JPEG
        ).explanations
        assert lossless.heatmap.startswith(b"\x89PNG")
        assert lossy.heatmap.startswith(b"\xff\xd8")
        difference = pixels_of(lossless.heatmap).astype(int) - pixels_of(lossy.heatmap)
        assert np.abs(difference).mean() < 3
        assert len(lossy.heatmap) < len(lossless.heatmap)
        assert lossy.peak == lossless.peak


def test_a_legend_widens_the_picture_without_moving_the_map(
    phantom_stub: ChestXrayServiceStub, cardiomegaly: np.ndarray
) -> None:
    image = png(cardiomegaly)
    plain = pixels_of(explain(phantom_stub, image).explanations[0].heatmap)
    with_legend = pixels_of(explain(phantom_stub, image, legend=True).explanations[0].heatmap)
    assert with_legend.shape[1] > plain.shape[1]
    assert np.array_equal(with_legend[:224, :224], plain)


@pytest.mark.parametrize("layout", ["tall", "wide", "odd", "exif-rotated", "exif-mirrored"])
def test_the_map_lies_on_the_finding_whatever_the_frame(
    phantom_stub: ChestXrayServiceStub, layout: str
) -> None:
    phantom = draw_phantom(3, findings=["Mass"], size_px=512)
    pixels, mask = phantom.pixels_hw, phantom.masks["Mass"]
    edge = int(np.median(pixels[0]))
    pad = {"tall": ((90, 91), (0, 0)), "wide": ((0, 0), (120, 40)), "odd": ((0, 33), (0, 0))}
    if layout in pad:
        pixels = np.pad(pixels, pad[layout], constant_values=edge)
        mask = np.pad(mask, pad[layout])
    if layout == "exif-rotated":  # stored lying down; orientation 6 stands it up again
        image = _with_orientation(np.rot90(pixels), 6)
    elif layout == "exif-mirrored":
        image = _with_orientation(pixels[:, ::-1], 2)
    else:
        image = png(pixels)
    reply = explain(phantom_stub, image, labels=["Mass"], frame=ORIGINAL, kind=HEATMAP)
    height, width = pixels.shape
    assert (reply.image_info.height_px, reply.image_info.width_px) == (height, width)
    (only,) = reply.explanations
    cell_px = min(height, width) / 7
    rows, columns = np.nonzero(mask)
    distance_px = np.hypot(rows - only.peak.y_px, columns - only.peak.x_px).min()
    if layout in ("tall", "odd", "exif-rotated", "exif-mirrored"):  # the mass is in the crop
        assert distance_px <= cell_px
    heat = pixels_of(only.heatmap).astype(int).sum(axis=2)
    row, column = np.unravel_index(heat.argmax(), heat.shape)
    assert math.hypot(row - only.peak.y_px, column - only.peak.x_px) <= cell_px
    crop = reply.image_info.crop_box
    outside = np.ones((height, width), bool)
    outside[crop.y_px : crop.y_px + crop.height_px, crop.x_px : crop.x_px + crop.width_px] = False
    unseen = pixels_of(only.heatmap)[outside]
    assert not np.ptp(unseen, axis=1).any()  # grey: no heat
    assert unseen.max(initial=255) > 100  # and marked, unlike the absence of heat
    for region in only.regions:
        box = region.box
        assert crop.x_px <= box.x_px
        assert box.x_px + box.width_px <= crop.x_px + crop.width_px
        assert crop.y_px <= box.y_px
        assert box.y_px + box.height_px <= crop.y_px + crop.height_px


def test_a_finding_without_positive_evidence_gets_an_empty_map(
    phantom_stub: ChestXrayServiceStub, labels: list[str]
) -> None:
    flagged = 0
    for seed in range(12):
        image = png(draw_phantom(seed, findings=[], size_px=224).pixels_hw)
        reply = explain(phantom_stub, image, labels=labels, kind=HEATMAP)
        for each in reply.explanations:
            nothing = max(each.evidence.values) < 1
            assert each.no_positive_evidence == nothing
            if nothing:
                flagged += 1
                assert not each.HasField("peak")
                assert not each.regions
                assert not np.ptp(pixels_of(each.heatmap), axis=(0, 1)).any()
    assert flagged  # otherwise this test has seen nothing


@pytest.mark.parametrize(
    ("fields", "field"),
    [
        ({"color_map": pb.COLOR_MAP_GRAY}, "render.color_map"),
        ({"fixed_scale_logits": 25}, "render.fixed_scale_logits"),
        ({"fixed_scale_logits": 4, "scale": pb.HEAT_SCALE_FIXED}, "render.fixed_scale_logits"),
        (
            {"method": pb.EXPLANATION_METHOD_LAYER_CAM, "scale": pb.HEAT_SCALE_FIXED},
            "render.scale",
        ),
    ],
)
def test_an_option_that_would_be_ignored_or_mislead_is_refused(
    phantom_stub: ChestXrayServiceStub, fields: dict[str, object], field: str
) -> None:
    with pytest.raises(grpc.RpcError) as refusal:
        explain(phantom_stub, png(), **fields)
    assert refusal.value.code() is grpc.StatusCode.INVALID_ARGUMENT
    detail = dict(refusal.value.trailing_metadata())
    assert detail["x-error-reason"] == "INVALID_FIELD"
    assert field.encode() in detail["grpc-status-details-bin"]


def test_the_fixed_scale_is_in_the_unit_of_the_evidence_grid(
    phantom_stub: ChestXrayServiceStub, cardiomegaly: np.ndarray
) -> None:
    image = png(cardiomegaly)
    options = {"kind": HEATMAP, "color_map": pb.COLOR_MAP_GRAY, "scale": pb.HEAT_SCALE_FIXED}
    for full in (40, 200):
        (only,) = explain(phantom_stub, image, fixed_scale_logits=full, **options).explanations
        highest = max(only.evidence.values)
        assert highest > 10
        assert only.peak.value == pytest.approx(min(1, highest / full), rel=0.03)
        brightest = int(pixels_of(only.heatmap).max())
        assert brightest == pytest.approx(255 * only.peak.value, abs=1)


def test_a_picture_names_its_finding_score_and_model_in_its_file(
    phantom_stub: ChestXrayServiceStub, labels: list[str], cardiomegaly: np.ndarray
) -> None:
    reply = explain(phantom_stub, png(cardiomegaly), labels=labels, frame=ORIGINAL)
    for each in reply.explanations:
        with Image.open(BytesIO(each.heatmap)) as picture:
            mark = json.loads(picture.text["cxr-serve"])
        assert mark["finding"] == each.finding.label
        assert mark["score"] == pytest.approx(each.finding.score, abs=1e-6)
        assert (mark["model"], mark["version"]) == (reply.model.name, reply.model.version)
        assert mark["weights_sha256"] == reply.model.weights_sha256
        assert mark["notice"] == reply.notice


def test_explain_after_predict_uses_the_cache_and_answers_alike(
    phantom_stub: ChestXrayServiceStub,
) -> None:
    image = png(chest_like(seed=991))
    first = phantom_stub.Predict(pb.PredictRequest(image=image, top_k=6))
    assert not first.timing.evidence_cached
    second = explain(phantom_stub, image, frame=ORIGINAL)
    assert second.timing.evidence_cached
    assert not second.timing.HasField("inference_duration")
    assert second.explanations[0].finding == first.findings[0]
    fresh = explain(phantom_stub, png(chest_like(seed=991), compress_level=1), frame=ORIGINAL)
    assert not fresh.timing.evidence_cached
    assert fresh.explanations[0] == second.explanations[0]


def test_how_dicom_is_read_is_nothing_to_the_cache_of_other_files(
    phantom_stub: ChestXrayServiceStub,
) -> None:
    image, presentations = png(chest_like(seed=993)), ("AS_SHOWN", "STORED")
    options = [pb.DicomOptions(presentation=f"DICOM_PRESENTATION_{each}") for each in presentations]
    replies = [phantom_stub.Predict(pb.PredictRequest(image=image, dicom=each)) for each in options]
    assert [reply.timing.evidence_cached for reply in replies] == [False, True]


def test_a_call_may_bypass_the_cache_which_then_keeps_nothing(
    phantom_stub: ChestXrayServiceStub,
) -> None:
    image = png(chest_like(seed=992))

    def is_cached(call: Callable, request: type[Message], cache: str) -> bool:
        message = request(image=image, cache=f"CACHE_MODE_{cache}")
        return call(message).timing.evidence_cached

    predict, asked = phantom_stub.Predict, pb.PredictRequest
    kinds = ("BYPASS", "BYPASS", "USE", "USE", "BYPASS")
    found = [is_cached(predict, asked, cache) for cache in kinds]
    assert found == [False, False, False, True, False]
    assert is_cached(phantom_stub.Explain, pb.ExplainRequest, "UNSPECIFIED")
    assert not is_cached(phantom_stub.Explain, pb.ExplainRequest, "BYPASS")


def _with_orientation(pixels: np.ndarray, orientation: int) -> bytes:
    exif = Image.Exif()
    exif[0x0112] = orientation
    return jpeg(np.ascontiguousarray(pixels), exif=exif, quality=95)
