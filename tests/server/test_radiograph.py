"""The radiograph as the server reads it: `RENDER_KIND_RADIOGRAPH`, over a real channel."""

from io import BytesIO

import grpc
import numpy as np
import pytest
from PIL import Image

import dicom_files
from cxr.v1 import chest_xray_pb2 as pb
from cxr.v1.chest_xray_pb2_grpc import ChestXrayServiceStub
from images import chest_like, jpeg, pixels_of, png

MODEL_INPUT, ORIGINAL = pb.RENDER_FRAME_MODEL_INPUT, pb.RENDER_FRAME_ORIGINAL
FILM_HW = chest_like(500, 330)


def sixteen_bit() -> bytes:
    """A file that uses a narrow part of its range, which pictures show stretched."""
    return png(FILM_HW.astype(np.uint16) * 16 + 9_000)


def lying_down() -> bytes:
    """A JPEG that its EXIF orientation stands up again."""
    exif = Image.Exif()
    exif[0x0112] = 6
    return jpeg(np.rot90(FILM_HW), exif=exif, quality=95)


def inverted_dicom() -> bytes:
    stored_hw = 4095 - FILM_HW.astype(np.uint16) * 16
    return dicom_files.dicom(stored_hw, 12, PhotometricInterpretation="MONOCHROME1")


def signed_dicom() -> bytes:
    attributes = {"RescaleSlope": 2, "RescaleIntercept": 100, "WindowCenter": 1500}
    stored_hw = FILM_HW.astype(np.int16) * 8 - 900
    return dicom_files.dicom(stored_hw, 12, WindowWidth=2500, **attributes)


FILES = {
    "8 bits": lambda: png(FILM_HW),
    "16 bits": sixteen_bit,
    "colour": lambda: png(np.stack([FILM_HW, FILM_HW // 2, FILM_HW // 3], axis=-1)),
    "EXIF": lying_down,
    "MONOCHROME1": inverted_dicom,
    "signed DICOM": signed_dicom,
}


def explain(stub: ChestXrayServiceStub, image: bytes, **fields: object) -> pb.ExplainResponse:
    names = {field.name for field in pb.RenderOptions.DESCRIPTOR.fields}
    render = {name: fields.pop(name) for name in list(fields) if name in names}
    render.setdefault("kind", pb.RENDER_KIND_RADIOGRAPH)
    return stub.Explain(pb.ExplainRequest(image=image, render=pb.RenderOptions(**render), **fields))


@pytest.fixture(scope="module")
def labels(phantom_stub: ChestXrayServiceStub) -> list[str]:
    return [each.label for each in phantom_stub.DescribeModel(pb.DescribeModelRequest()).findings]


@pytest.mark.parametrize("frame", [MODEL_INPUT, ORIGINAL])
@pytest.mark.parametrize("file", FILES)
def test_the_radiograph_is_the_overlay_without_heat(
    phantom_stub: ChestXrayServiceStub, file: str, frame: pb.RenderFrame
) -> None:
    image = FILES[file]()
    for max_side_px in (4096, 150):
        options = {"frame": frame, "max_side_px": max_side_px}
        bare = explain(
            phantom_stub, image, kind=pb.RENDER_KIND_OVERLAY, opacity=0.0, **options
        ).explanations[0]
        reply = explain(phantom_stub, image, **options)
        shown_hw = pixels_of(reply.radiograph)
        assert shown_hw.dtype == np.uint8
        assert shown_hw.ndim == 2  # grey
        assert np.array_equal(pixels_of(bare.heatmap), np.repeat(shown_hw[..., None], 3, axis=-1))
        height, width = reply.image_info.height_px, reply.image_info.width_px
        whole = (height, width) if frame == ORIGINAL else (224, 224)
        assert max(shown_hw.shape) == min(max_side_px, max(whole))
        assert shown_hw.std() > 20  # a picture, not a plane


def test_a_file_of_8_bits_comes_back_pixel_by_pixel(phantom_stub: ChestXrayServiceStub) -> None:
    shown = explain(phantom_stub, png(FILM_HW), frame=ORIGINAL).radiograph
    assert np.array_equal(pixels_of(shown), FILM_HW)


def test_an_image_is_shown_upright_and_bones_are_white(phantom_stub: ChestXrayServiceStub) -> None:
    turned = pixels_of(explain(phantom_stub, lying_down(), frame=ORIGINAL).radiograph)
    assert turned.shape == FILM_HW.shape
    assert np.abs(turned.astype(int) - FILM_HW).mean() < 3
    inverted = pixels_of(explain(phantom_stub, inverted_dicom(), frame=ORIGINAL).radiograph)
    assert np.abs(inverted.astype(int) - FILM_HW).max() <= 1


def test_the_presentation_of_a_dicom_image_shows(phantom_stub: ChestXrayServiceStub) -> None:
    image = signed_dicom()
    stored = pb.DicomOptions(presentation=pb.DICOM_PRESENTATION_STORED)
    as_shown, as_stored = (
        explain(phantom_stub, image, frame=ORIGINAL, **options).radiograph
        for options in ({}, {"dicom": stored})
    )
    assert as_shown != as_stored


def test_there_is_one_radiograph_and_no_heat_map_for_all_labels(
    phantom_stub: ChestXrayServiceStub, labels: list[str]
) -> None:
    image = png(FILM_HW)
    reply = explain(phantom_stub, image, labels=labels, heatmap_labels=labels[:2], frame=ORIGINAL)
    numbers = explain(phantom_stub, image, labels=labels, kind=pb.RENDER_KIND_NONE, frame=ORIGINAL)
    assert reply.radiograph
    assert not any(each.heatmap for each in reply.explanations)
    assert reply.explanations == numbers.explanations
    assert reply.findings == numbers.findings
    assert numbers.radiograph == b""


def test_what_draws_heat_changes_no_pixel_and_the_scale_counts_for_the_numbers(
    phantom_stub: ChestXrayServiceStub,
) -> None:
    image = png(FILM_HW)
    plain = explain(phantom_stub, image, frame=ORIGINAL)
    drawn = explain(
        phantom_stub,
        image,
        frame=ORIGINAL,
        opacity=1.0,
        color_map=pb.COLOR_MAP_GRAY,
        legend=True,
        contours=True,
        scale=pb.HEAT_SCALE_FIXED,
        fixed_scale_logits=100,
    )
    assert drawn.radiograph == plain.radiograph
    assert drawn.explanations[0].peak.value < plain.explanations[0].peak.value


@pytest.mark.parametrize("file_format", [pb.RENDER_FORMAT_PNG, pb.RENDER_FORMAT_JPEG])
def test_the_radiograph_has_the_format_asked_for_and_may_be_sent_again(
    phantom_stub: ChestXrayServiceStub, file_format: pb.RenderFormat
) -> None:
    first = explain(phantom_stub, png(FILM_HW), frame=ORIGINAL, format=file_format)
    with Image.open(BytesIO(first.radiograph)) as picture:
        assert f"RENDER_FORMAT_{picture.format}" == pb.RenderFormat.Name(file_format)
        assert picture.mode == "L"
        assert not {"cxr-serve", "comment"} & picture.info.keys()
    assert np.abs(pixels_of(first.radiograph).astype(int) - FILM_HW).mean() < 3
    again = phantom_stub.Predict(pb.PredictRequest(image=first.radiograph, top_k=18))
    scores = {each.label: each.score for each in first.findings}
    for each in again.findings:
        assert each.score == pytest.approx(scores[each.label], abs=0.05)


def test_the_models_frame_of_an_image_seen_before_decodes_nothing(
    phantom_stub: ChestXrayServiceStub,
) -> None:
    image = png(chest_like(310, 290, seed=77))
    fresh = explain(phantom_stub, image)
    again = explain(phantom_stub, image)
    assert fresh.timing.HasField("decode_duration")
    assert not again.timing.HasField("decode_duration")
    assert again.radiograph == fresh.radiograph


def test_a_file_that_cannot_be_read_has_no_radiograph(phantom_stub: ChestXrayServiceStub) -> None:
    with pytest.raises(grpc.RpcError) as refusal:
        explain(phantom_stub, png(FILM_HW)[:-400], frame=ORIGINAL)
    assert dict(refusal.value.trailing_metadata())["x-error-reason"] == "IMAGE_UNREADABLE"
