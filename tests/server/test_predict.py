"""Predict over a real channel, on the shipped phantom."""

from pathlib import Path

import numpy as np
import pytest

from cxr.v1 import chest_xray_pb2 as pb
from cxr.v1.chest_xray_pb2_grpc import ChestXrayServiceStub
from cxr_phantom.draw import draw_phantom
from images import chest_like, jpeg, png
from trust.outcomes import outcome_of


def phantom_png(*findings: str, seed: int = 5, size_px: int = 512) -> bytes:
    return png(draw_phantom(seed, findings=findings, size_px=size_px).pixels_hw)


@pytest.fixture(scope="module")
def labels(phantom_stub: ChestXrayServiceStub) -> list[str]:
    return [each.label for each in phantom_stub.DescribeModel(pb.DescribeModelRequest()).findings]


def test_findings_come_best_first_and_say_where_their_boundary_is(
    phantom_stub: ChestXrayServiceStub, labels: list[str]
) -> None:
    reply = phantom_stub.Predict(pb.PredictRequest(image=phantom_png("Cardiomegaly"), top_k=99))
    assert sorted(each.label for each in reply.findings) == sorted(labels)
    scores = [each.score for each in reply.findings]
    assert scores == sorted(scores, reverse=True)
    assert reply.findings[0].label == "Cardiomegaly"
    for finding in reply.findings:
        assert labels[finding.class_index] == finding.label
        assert finding.above_threshold == (finding.probability > finding.threshold)
        assert finding.above_threshold == (finding.score > 0.5)
        p, t = finding.probability, finding.threshold
        expected = p / (2 * t) if p < t else 1 - (1 - p) / (2 * (1 - t))
        assert finding.score == pytest.approx(expected, abs=1e-5)


@pytest.mark.parametrize(("top_k", "count"), [(None, 5), (1, 1), (3, 3), (6, 6), (2**31 - 1, 6)])
def test_top_k_bounds_the_findings(
    phantom_stub: ChestXrayServiceStub, top_k: int | None, count: int
) -> None:
    reply = phantom_stub.Predict(pb.PredictRequest(image=png(), top_k=top_k))
    assert len(reply.findings) == count


def test_a_reply_explains_itself(phantom_stub: ChestXrayServiceStub) -> None:
    image = jpeg(chest_like(300, 400))
    reply, call = phantom_stub.Predict.with_call(
        pb.PredictRequest(image=image), metadata=(("x-request-id", "my-id.7"),)
    )
    assert reply.request_id == "my-id.7"
    assert dict(call.trailing_metadata())["x-request-id"] == "my-id.7"
    assert "research use only" in reply.notice
    assert "Phantom" in reply.notice
    assert reply.model.name == "phantom"
    assert len(reply.model.weights_sha256) == 64
    assert reply.model.precision == "float32"
    info = reply.image_info
    assert (info.format, info.width_px, info.height_px) == (pb.IMAGE_FORMAT_JPEG, 400, 300)
    assert info.bit_depth == 8
    box = info.crop_box
    assert (box.x_px, box.y_px, box.width_px, box.height_px) == (50, 0, 300, 300)
    codes = [warning.code for warning in reply.warnings]
    assert codes[0] == pb.WARNING_CODE_PHANTOM_MODEL
    assert pb.WARNING_CODE_CROPPED in codes
    assert reply.timing.inference_duration.ToMicroseconds() > 0
    assert reply.timing.decode_duration.ToMicroseconds() > 0


@pytest.mark.parametrize("bad_id", ["", "x" * 65, "with space", "semi;colon"])
def test_an_invalid_request_id_is_replaced(phantom_stub: ChestXrayServiceStub, bad_id: str) -> None:
    reply = phantom_stub.Predict(
        pb.PredictRequest(image=png()), metadata=(("x-request-id", bad_id),)
    )
    assert len(reply.request_id) == 32
    assert reply.request_id != bad_id


def test_strict_input_refuses_what_is_no_radiograph(phantom_stub: ChestXrayServiceStub) -> None:
    flat = png(np.full((256, 256), 128, np.uint8))
    lenient = phantom_stub.Predict(pb.PredictRequest(image=flat))
    assert pb.WARNING_CODE_LOW_CONTRAST in [warning.code for warning in lenient.warnings]
    code, reason = outcome_of(
        lambda: phantom_stub.Predict(pb.PredictRequest(image=flat, strict_input=True))
    )
    assert (code, reason) == ("INVALID_ARGUMENT", "IMAGE_REFUSED")


def test_strict_input_answers_radiographs(
    phantom_stub: ChestXrayServiceStub, radiographs: list[Path]
) -> None:
    for path in radiographs:
        image = path.read_bytes()
        assert phantom_stub.Predict(pb.PredictRequest(image=image, strict_input=True)).findings


def test_a_16_bit_image_scores_as_its_8_bit_twin(phantom_stub: ChestXrayServiceStub) -> None:
    pixels = draw_phantom(11, findings=["Effusion"], size_px=512).pixels_hw
    deep = pixels.astype(np.uint16) * 257
    replies = [
        phantom_stub.Predict(pb.PredictRequest(image=png(each), top_k=6)) for each in (pixels, deep)
    ]
    assert [reply.image_info.bit_depth for reply in replies] == [8, 16]
    one, other = ({f.label: f.probability for f in reply.findings} for reply in replies)
    assert one == pytest.approx(other, abs=1e-4)
