"""DICOM through Predict and Explain, with a real radiograph of pydicom-data (MIT) among them."""

from importlib.resources import files

import numpy as np
import pytest

import dicom_files
from cxr.v1 import chest_xray_pb2 as pb
from cxr.v1.chest_xray_pb2_grpc import ChestXrayServiceStub
from images import chest_like, pixels_of, png
from trust.outcomes import outcome_of

STORED_HW = chest_like(224, 200).astype(np.uint16) * 16
RG1 = files("data_store").joinpath("data/RG1_UNCR.dcm")
"""A computed radiograph of a chest, PA, MONOCHROME1, 15 bits, with a window."""


def codes(reply: pb.PredictResponse) -> set[str]:
    return {pb.WarningCode.Name(each.code)[len("WARNING_CODE_") :] for each in reply.warnings}


def scores(reply: pb.PredictResponse) -> list[float]:
    return [each.score for each in sorted(reply.findings, key=lambda each: each.class_index)]


def test_its_scores_are_those_of_its_pixels_as_png(phantom_stub: ChestXrayServiceStub) -> None:
    grey_hw = np.rint(STORED_HW / 4095 * 65_535).astype(np.uint16)
    expected = phantom_stub.Predict(pb.PredictRequest(image=png(grey_hw), top_k=99))
    reply = phantom_stub.Predict(
        pb.PredictRequest(image=dicom_files.dicom(STORED_HW, 12), top_k=99)
    )
    assert np.abs(np.subtract(scores(reply), scores(expected))).max() < 1e-3
    info = reply.image_info
    assert (info.format, info.width_px, info.height_px) == (pb.IMAGE_FORMAT_DICOM, 200, 224)
    assert (info.bit_depth, info.presentation) == (12, pb.DICOM_PRESENTATION_AS_SHOWN)
    assert expected.image_info.presentation == pb.DICOM_PRESENTATION_UNSPECIFIED


def test_the_presentation_is_chosen_and_equal_bytes_are_cached_for_each(
    phantom_stub: ChestXrayServiceStub,
) -> None:
    file = dicom_files.dicom(STORED_HW, 12, WindowCenter=500, WindowWidth=300)
    replies = {}
    for presentation in ("AS_SHOWN", "STORED", "AS_SHOWN", "STORED"):
        options = pb.DicomOptions(presentation=f"DICOM_PRESENTATION_{presentation}")
        reply = phantom_stub.Predict(pb.PredictRequest(image=file, top_k=99, dicom=options))
        name = pb.DicomPresentation.Name(reply.image_info.presentation)
        assert name == f"DICOM_PRESENTATION_{presentation}"
        assert scores(replies.setdefault(presentation, reply)) == scores(reply)
        assert reply.timing.evidence_cached == (reply is not replies[presentation])
    assert scores(replies["AS_SHOWN"]) != scores(replies["STORED"])


def test_the_header_warns(phantom_stub: ChestXrayServiceStub) -> None:
    cases = {
        "LATERAL_VIEW": {"ViewPosition": "LL"},
        "MIRRORED": {"PatientOrientation": ["R", "F"]},
        "NOT_CHEST": {"BodyPartExamined": "KNEE"},
        "FOR_PROCESSING": {"PresentationIntentType": "FOR PROCESSING"},
        "BURNED_IN_ANNOTATION": {"BurnedInAnnotation": "YES"},
        "PIXELS_NOT_SQUARE": {"PixelAspectRatio": [2, 1]},
        "PRESENTATION_CONFLICT": {"PresentationLUTShape": "INVERSE"},
    }
    plain = codes(phantom_stub.Predict(pb.PredictRequest(image=dicom_files.dicom(STORED_HW, 12))))
    for code, attributes in cases.items():
        file = dicom_files.dicom(STORED_HW, 12, **attributes)
        assert codes(phantom_stub.Predict(pb.PredictRequest(image=file))) == plain | {code}
    assert not plain & cases.keys()
    rightly = {"ViewPosition": "PA", "BodyPartExamined": "CHEST", "PatientOrientation": ["L", "F"]}
    file = dicom_files.dicom(STORED_HW, 12, PresentationLUTShape="IDENTITY", **rightly)
    assert codes(phantom_stub.Predict(pb.PredictRequest(image=file))) == plain


@pytest.mark.parametrize(
    "attributes",
    [{"ViewPosition": "LATERAL"}, {"Modality": "CT"}, {"PatientOrientation": ["R", "F"]}],
)
def test_strict_input_refuses_what_the_header_says_is_another_view(
    phantom_stub: ChestXrayServiceStub, attributes: dict[str, object]
) -> None:
    file = dicom_files.dicom(STORED_HW, 12, **attributes)
    request = pb.PredictRequest(image=file, strict_input=True)
    assert outcome_of(lambda: phantom_stub.Predict(request)) == (
        "INVALID_ARGUMENT",
        "IMAGE_REFUSED",
    )


def test_padding_counts_in_no_warning(phantom_stub: ChestXrayServiceStub) -> None:
    padded_hw = np.pad(STORED_HW, 120, constant_values=4095)
    padded = dicom_files.dicom(padded_hw, 12, PixelPaddingValue=4095)
    reply = phantom_stub.Predict(pb.PredictRequest(image=padded))
    assert "CLIPPED" not in codes(reply)
    unmarked = dicom_files.dicom(padded_hw, 12)
    assert "CLIPPED" in codes(phantom_stub.Predict(pb.PredictRequest(image=unmarked)))


def test_a_real_radiograph_is_scored_and_drawn_with_bright_bones(
    phantom_stub: ChestXrayServiceStub,
) -> None:
    image = RG1.read_bytes()
    reply = phantom_stub.Predict(pb.PredictRequest(image=image))
    assert codes(reply) & {"POSSIBLY_INVERTED", "NOT_CHEST", "LATERAL_VIEW", "MIRRORED"} == set()
    render = pb.RenderOptions(
        kind=pb.RENDER_KIND_RADIOGRAPH, frame=pb.RENDER_FRAME_ORIGINAL, max_side_px=512
    )
    explained = phantom_stub.Explain(pb.ExplainRequest(image=image, render=render))
    shown_hw = pixels_of(explained.radiograph).astype(int)
    height, width = shown_hw.shape
    spine = shown_hw[height * 6 // 10 : height * 8 // 10, width * 47 // 100 : width * 53 // 100]
    lung = shown_hw[height * 3 // 10 : height * 4 // 10, width * 20 // 100 : width * 30 // 100]
    assert np.median(spine) > np.median(lung) + 40
