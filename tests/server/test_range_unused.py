"""Data of 12 bits, saved in 16 without scaling: scored as it is, told, and shown."""

import grpc
import numpy as np
import pytest

import dicom_files
from cxr.v1 import chest_xray_pb2 as pb
from cxr.v1.chest_xray_pb2_grpc import ChestXrayServiceStub
from images import chest_like, pixels_of, png
from trust.outcomes import outcome_of

EIGHT_HW = chest_like(224, 224)
EIGHT_HW[0, :2] = 0, 255
TWELVE_HW = EIGHT_HW.astype(np.uint16) * 16
TWELVE = png(TWELVE_HW)


def shown(stub: ChestXrayServiceStub, image: bytes, frame: pb.RenderFrame) -> np.ndarray:
    """The radiograph as an overlay without heat shows it."""
    render = pb.RenderOptions(frame=frame, opacity=0, legend=False)
    (only,) = stub.Explain(pb.ExplainRequest(image=image, render=render)).explanations
    return pixels_of(only.heatmap)[..., 0].astype(int)


def test_the_warning_says_what_is_wrong_and_how_to_mend_it(
    phantom_stub: ChestXrayServiceStub,
) -> None:
    reply = phantom_stub.Predict(pb.PredictRequest(image=TWELVE))
    messages = {warning.code: warning.message for warning in reply.warnings}
    assert "from 0 to 4080 of 65535" in messages[pb.WARNING_CODE_RANGE_UNUSED]
    assert "multiply them by 16" in messages[pb.WARNING_CODE_RANGE_UNUSED]
    assert pb.WARNING_CODE_LOW_CONTRAST not in messages


@pytest.mark.parametrize(
    ("presentation", "advice"), [("AS_SHOWN", "(Window Center"), ("STORED", "ask for AS_SHOWN")]
)
def test_of_a_dicom_file_it_speaks_of_the_header_and_the_presentation(
    phantom_stub: ChestXrayServiceStub, presentation: str, advice: str
) -> None:
    request = pb.PredictRequest(
        image=dicom_files.dicom(TWELVE_HW, 16),
        dicom=pb.DicomOptions(presentation=f"DICOM_PRESENTATION_{presentation}"),
    )
    messages = {each.code: each.message for each in phantom_stub.Predict(request).warnings}
    told = messages[pb.WARNING_CODE_RANGE_UNUSED]
    assert "from 0 to 4080 of 65535" in told
    assert advice in told
    assert "multiply" not in told
    request.strict_input = True
    with pytest.raises(grpc.RpcError) as refused:
        phantom_stub.Predict(request)
    assert told in refused.value.details()


def test_an_inverted_film_is_noticed_in_the_range_that_is_used(
    phantom_stub: ChestXrayServiceStub,
) -> None:
    reply = phantom_stub.Predict(pb.PredictRequest(image=png(4080 - TWELVE_HW)))
    assert pb.WARNING_CODE_POSSIBLY_INVERTED in [warning.code for warning in reply.warnings]


def test_strict_input_refuses_it_with_the_same_words(phantom_stub: ChestXrayServiceStub) -> None:
    for _ in range(2):  # the second answer comes from the cache
        code, reason = outcome_of(
            lambda: phantom_stub.Predict(pb.PredictRequest(image=TWELVE, strict_input=True))
        )
        assert (code, reason) == ("INVALID_ARGUMENT", "IMAGE_REFUSED")
        phantom_stub.Predict(pb.PredictRequest(image=TWELVE))


@pytest.mark.parametrize("frame", [pb.RENDER_FRAME_MODEL_INPUT, pb.RENDER_FRAME_ORIGINAL])
def test_its_picture_is_that_of_its_8_bit_twin(
    phantom_stub: ChestXrayServiceStub, frame: pb.RenderFrame
) -> None:
    difference = shown(phantom_stub, TWELVE, frame) - shown(phantom_stub, png(EIGHT_HW), frame)
    assert np.abs(difference).max() <= 1


def test_its_scores_are_those_of_an_equally_dark_film_of_8_bits(
    phantom_stub: ChestXrayServiceStub,
) -> None:
    reply = phantom_stub.Predict(pb.PredictRequest(image=TWELVE, top_k=100))
    dark_file = png((TWELVE_HW >> 8).astype(np.uint8))
    dark = phantom_stub.Predict(pb.PredictRequest(image=dark_file, top_k=100))
    scores = {finding.label: finding.score for finding in reply.findings}
    assert scores == pytest.approx({f.label: f.score for f in dark.findings}, abs=0.05)
