"""A folder of DICOM files by study and series; nothing about a patient is printed."""

import csv
import io
import json
import struct
from pathlib import Path

import numpy as np
import pytest
from pydicom import Dataset, uid

import dicom_files
from clients import PNG
from cxr.v1 import chest_xray_pb2 as pb
from cxr_client.cli.studies import Series, series_of
from cxr_client.testing import FakeServer
from cxr_command import Run

STORED_HW = np.arange(64 * 64, dtype=np.uint16).reshape(64, 64)


def film(study: str, series: str, syntax: str = uid.ExplicitVRLittleEndian) -> bytes:
    names = {"PatientName": "Beeblebrox^Zaphod", "PatientID": "A-17", "StudyDescription": "Towel"}
    return dicom_files.dicom(
        STORED_HW, 12, syntax, StudyInstanceUID=study, SeriesInstanceUID=series, **names
    )


@pytest.fixture
def archive(tmp_path: Path) -> Path:
    """Two studies and a PNG, mixed up as archives do."""
    for name, content in {
        "1": film("1.2.1", "1.2.1.1"),
        "2": film("1.2.2", "1.2.2.1"),
        "3": film("1.2.1", "1.2.1.2"),
        "4.png": PNG,
        "5": film("1.2.1", "1.2.1.1"),
    }.items():
        (tmp_path / name).write_bytes(content)
    return tmp_path


def test_images_are_printed_below_their_study_and_series(cxr: Run, archive: Path) -> None:
    status, out, err = cxr("predict", "--by-study", archive)
    assert status == 0
    lines = [line.split("  ")[0].removeprefix(f"{archive}/") for line in out.splitlines()]
    assert lines[:9] == [
        "study 1, series 1: 2 images",
        "1",
        "5",
        "study 1, series 2: 1 image",
        "3",
        "study 2, series 1: 1 image",
        "2",
        "not DICOM: 1 image",
        "4.png",
    ]
    assert not {"Beeblebrox", "A-17", "Towel"} & set((out + err).replace("^", " ").split())


def test_json_and_csv_have_the_uids_on_request_alone(cxr: Run, archive: Path) -> None:
    _, out, _ = cxr("predict", "--by-study", "--json", archive)
    answers = [json.loads(line) for line in out.splitlines()]
    assert [each["series_uid"] for each in answers] == [
        "1.2.1.1",
        "1.2.1.1",
        "1.2.1.2",
        "1.2.2.1",
        "",
    ]
    _, out, _ = cxr("predict", "--by-study", "--csv", archive)
    rows = list(csv.DictReader(io.StringIO(out)))
    assert {(row["study_uid"], row["series_uid"]) for row in rows} == {
        ("1.2.1", "1.2.1.1"),
        ("1.2.1", "1.2.1.2"),
        ("1.2.2", "1.2.2.1"),
        ("", ""),
    }
    for form in ("--json", "--csv"):
        _, out, _ = cxr("predict", form, archive)
        assert "1.2.1" not in out


def test_the_presentation_is_sent(cxr: Run, fake: FakeServer, archive: Path) -> None:
    assert cxr("predict", "--presentation", "stored", archive / "1")[0] == 0
    assert fake.calls[-1].request.dicom.presentation == pb.DICOM_PRESENTATION_STORED
    output = archive / "maps"
    assert cxr("explain", "--presentation", "AS_SHOWN", "--output", output, archive / "1")[0] == 0
    assert fake.calls[-1].request.dicom.presentation == pb.DICOM_PRESENTATION_AS_SHOWN


@pytest.mark.parametrize(
    "syntax",
    [uid.ImplicitVRLittleEndian, uid.ExplicitVRLittleEndian, uid.ExplicitVRBigEndian],
)
def test_uids_are_found_behind_sequences_of_any_length(syntax: str) -> None:
    for is_undefined in (False, True):
        made = dicom_files.dataset(
            STORED_HW, 12, StudyInstanceUID="1.2.1", SeriesInstanceUID="1.2.1.1"
        )
        inner = Dataset()
        inner.StudyInstanceUID = "9.9"  # of another study
        made.ReferencedStudySequence = [inner, inner]
        made["ReferencedStudySequence"].is_undefined_length = is_undefined
        for item in made.ReferencedStudySequence:
            item.is_undefined_length_sequence_item = is_undefined
        made.PixelData = STORED_HW.tobytes()
        made["PixelData"].VR = "OW"
        file = dicom_files.write(made, syntax)
        assert series_of(file) == Series("1.2.1", "1.2.1.1")


def test_what_is_broken_has_no_uids_and_ends_soon() -> None:
    file = film("1.2.1", "1.2.1.1")
    for length in range(0, len(file), 13):
        found = series_of(file[:length])
        assert "1.2.1".startswith(found.study_uid)
        assert "1.2.1.1".startswith(found.series_uid)
    empty = struct.pack("<HH2sH", 9, 0, b"UL", 0)
    assert series_of(file[:132] + empty * 100_000) == Series()
