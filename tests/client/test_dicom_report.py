"""Reports as DICOM objects: what they say, and that no header keeps one from being written."""

import dataclasses
import logging
from io import BytesIO
from typing import Any

import numpy as np
import pydicom
import pytest
from pydicom.sr.codedict import codes

import dicom_files
from cxr_client import Client, ExplanationSet, RenderOptions
from cxr_client.dicom_report import Report, is_report, report, structured_uid
from images import chest_like
from serving import ServerProcess

UIDS = {"StudyInstanceUID": "1.2.4", "SeriesInstanceUID": "1.2.5", "SOPInstanceUID": "1.2.6"}


def film(side_px: int = 256, **attributes: Any) -> bytes:
    stored = (chest_like(side_px, side_px) * 16.0).astype(np.uint16)
    return dicom_files.dicom(stored, **{**UIDS, **attributes})


@pytest.fixture(scope="module")
def explained(phantom_server: ServerProcess) -> ExplanationSet:
    """An answer on a film of 256 pixels, whatever else its header says."""
    with Client(phantom_server.address) as client:
        return client.explain(film(), render=RenderOptions(frame="ORIGINAL", legend=True))


def read_again(written: pydicom.Dataset) -> pydicom.Dataset:
    buffer = BytesIO()
    written.save_as(buffer, enforce_file_format=True)
    return pydicom.dcmread(BytesIO(buffer.getvalue()))


def items(container: pydicom.Dataset, code: str) -> list[pydicom.Dataset]:
    """The items of a content tree with this concept name, at any depth."""
    found = []
    for item in container.get("ContentSequence", ()):
        name = item.ConceptNameCodeSequence[0]
        if code in (name.get("CodeValue"), name.get("LongCodeValue")):
            found.append(item)
        found += items(item, code)
    return found


def number(item: pydicom.Dataset) -> float:
    return float(item.MeasuredValueSequence[0].NumericValue)


def test_the_structured_report_holds_every_score_and_names_the_model(
    explained: ExplanationSet,
) -> None:
    tree = read_again(report(film(), explained).structured)
    assert tree.ContentTemplateSequence[0].TemplateIdentifier == "1500"
    assert tree.VerificationFlag == "UNVERIFIED"
    groups = items(tree, codes.DCM.MeasurementGroup.value)
    assert len(groups) == len(explained.findings)
    for group, finding in zip(groups, explained.findings, strict=True):
        (named,) = items(group, codes.DCM.Finding.value)
        assert named.ConceptCodeSequence[0].CodeMeaning == finding.label
        (score,) = items(group, "score")
        assert number(score) == pytest.approx(finding.score, abs=1e-6)
        (above,) = items(group, "above_threshold")
        answer = "Yes" if finding.score >= 0.5 else "No"
        assert above.ConceptCodeSequence[0].CodeMeaning == answer
        texts = [item.TextValue for item in group.ContentSequence if "TextValue" in item]
        assert explained.model.name in texts
        assert explained.model.version in texts
        assert f"weights sha256 {explained.model.weights_sha256}" in texts
        assert "precision float32" in texts
    remarks = [item.TextValue for item in items(tree, codes.DCM.Comment.value)]
    assert explained.notice in remarks
    assert [text for text in remarks if text.startswith("PHANTOM_MODEL")]


def test_the_strongest_region_is_outlined_on_the_film(explained: ExplanationSet) -> None:
    box = explained.explanations[0].regions[0].box
    tree = read_again(report(film(), explained).structured)
    outlines = [
        np.reshape(item.GraphicData, (-1, 2))
        for group in items(tree, codes.DCM.MeasurementGroup.value)
        for item in group.ContentSequence
        if "GraphicData" in item
    ]
    (outline,) = outlines
    assert (outline.min(axis=0) == (box.x_px, box.y_px)).all()
    assert (outline.max(axis=0) == (box.x_px + box.width_px, box.y_px + box.height_px)).all()


def test_the_capture_shows_the_picture_and_names_its_film(explained: ExplanationSet) -> None:
    capture = read_again(report(film(PatientOrientation=["R", "F"]), explained).capture)
    shown_hwc = np.asarray(explained.explanations[0].image().convert("RGB"))
    assert (capture.pixel_array == shown_hwc).all()
    assert capture.PatientOrientation == ["R", "F"]
    assert capture.SourceImageSequence[0].ReferencedSOPInstanceUID == UIDS["SOPInstanceUID"]


def uids(written: Report) -> list[str]:
    both = (written.structured, written.capture)
    return [uid for each in both for uid in (each.SOPInstanceUID, each.SeriesInstanceUID)]


def test_the_uids_follow_from_the_film_and_the_model(explained: ExplanationSet) -> None:
    first = report(film(), explained)
    assert uids(first) == uids(report(film(), explained))
    assert len(set(uids(first))) == 4
    assert set(uids(first)).isdisjoint(uids(report(film(SOPInstanceUID="1.2.7"), explained)))
    assert first.structured.SOPInstanceUID == structured_uid("1.2.6", explained.model)
    assert all(pydicom.uid.UID(uid).is_valid for uid in uids(first))


@pytest.mark.parametrize(
    "changed",
    [
        {"weights_sha256": 64 * "0"},
        {"version": "1+int8.01234567"},
        {"precision": "bfloat16"},
    ],
)
def test_a_report_by_another_model_does_not_replace_one_even_with_the_same_weights(
    explained: ExplanationSet, changed: dict[str, str]
) -> None:
    model = dataclasses.replace(explained.model, **changed)
    other = report(film(), dataclasses.replace(explained, model=model))
    assert set(uids(other)).isdisjoint(uids(report(film(), explained)))


def test_another_answer_on_a_film_is_another_report(
    explained: ExplanationSet, phantom_server: ServerProcess
) -> None:
    render = RenderOptions(frame="ORIGINAL", legend=True)
    with Client(phantom_server.address) as client:
        label = explained.findings[-1].label
        others = [
            client.explain(film(), labels=[label], render=render),
            client.explain(film(), presentation="STORED", render=render),
        ]
        redrawn = client.explain(film(), render=RenderOptions(frame="ORIGINAL", opacity=0.2))
    first = report(film(), explained)
    made = [first, *(report(film(), each) for each in others)]
    assert len({uid for each in made for uid in uids(each)}) == 4 * len(made)
    again = report(film(), redrawn)  # the same answer in another picture
    assert again.structured.SOPInstanceUID == first.structured.SOPInstanceUID
    assert again.capture.SOPInstanceUID != first.capture.SOPInstanceUID


def test_losses_of_the_film_and_of_the_picture_are_stated(
    explained: ExplanationSet, phantom_server: ServerProcess
) -> None:
    lossy = film(
        LossyImageCompression="01",
        LossyImageCompressionRatio=12.5,
        LossyImageCompressionMethod="ISO_15444_1",
    )
    render = RenderOptions(frame="ORIGINAL", legend=True, format="JPEG")
    with Client(phantom_server.address) as client:
        as_jpeg = client.explain(film(), render=render)
    capture = read_again(report(film(), explained).capture)
    assert capture.LossyImageCompression == "00"
    capture = read_again(report(lossy, explained).capture)
    assert capture.LossyImageCompression == "01"
    assert (capture.LossyImageCompressionRatio, capture.LossyImageCompressionMethod) == (
        12.5,
        "ISO_15444_1",
    )
    capture = read_again(report(lossy, as_jpeg).capture)
    assert capture.LossyImageCompressionMethod == ["ISO_15444_1", "ISO_10918_1"]
    assert capture.LossyImageCompressionRatio[0] == 12.5
    assert capture.LossyImageCompressionRatio[1] > 1
    capture = read_again(report(film(), as_jpeg).capture)
    assert capture.LossyImageCompressionMethod == "ISO_10918_1"


def test_reports_are_recognised_and_films_are_not(explained: ExplanationSet) -> None:
    written = report(film(), explained)
    assert is_report(read_again(written.structured))
    assert is_report(read_again(written.capture))
    assert not is_report(pydicom.dcmread(BytesIO(film(Manufacturer="Maker"))))


@pytest.mark.parametrize(
    "attributes",
    [
        {"PatientName": None},
        {"PatientName": "", "PatientID": "", "StudyDate": "", "PatientSex": ""},
        {"PatientName": "one component"},
        {"PatientSex": "U"},
        {"SpecificCharacterSet": "ISO_IR 100", "PatientName": "Müller^Jörg"},
        {"SpecificCharacterSet": "ISO_IR 192", "PatientName": "Yamada^Tarou=山田^太郎"},
    ],
)
def test_patient_and_study_are_those_of_the_film_and_never_told(
    explained: ExplanationSet, attributes: dict[str, Any], caplog: pytest.LogCaptureFixture
) -> None:
    """Warnings are errors in the tests, so none quotes the header."""
    with caplog.at_level(logging.WARNING):
        written = report(film(**attributes), explained)
    assert not caplog.records
    for each in (written.structured, written.capture):
        again = read_again(each)
        assert again.StudyInstanceUID == UIDS["StudyInstanceUID"]
        for keyword, value in attributes.items():
            if keyword != "SpecificCharacterSet":
                assert str(again[keyword].value or "") == (value or "")


def test_odd_dates_are_passed_on_as_they_are(explained: ExplanationSet) -> None:
    dataset = pydicom.dcmread(BytesIO(film()))
    with pytest.warns(UserWarning, match="Invalid value"):
        dataset.StudyDate = "10.11.1995"
    written = report(dataset, explained)
    for each in (written.structured, written.capture):
        buffer = BytesIO()
        each.save_as(buffer, enforce_file_format=True)
        assert b"10.11.1995" in buffer.getvalue()


def test_an_answer_on_another_image_is_refused(explained: ExplanationSet) -> None:
    with pytest.raises(ValueError, match="another size"):
        report(film(side_px=300), explained)
