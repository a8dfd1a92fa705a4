"""`cxr --strip-header`: what is sent of a DICOM file."""

import io
import sys
from pathlib import Path

import numpy as np
import pytest
from pydicom import dcmread, uid

import dicom_files
from clients import PNG
from cxr_client.testing import FakeServer
from cxr_command import Run
from images import chest_like
from serving import ServerProcess

STORED_HW = chest_like(64, 80).astype(np.uint16) * 16
PERSONAL = {
    "PatientName": "Nobody^Real",
    "PatientID": "A-17",
    "PatientBirthDate": "19500131",
    "AccessionNumber": "ACC-9",
    "InstitutionName": "Hospital of Nowhere",
    "StudyInstanceUID": "1.2.3.4.5",
    "ImageComments": "seen by Dr Noone",
}
SYNTAXES = [
    uid.ExplicitVRLittleEndian,
    uid.ImplicitVRLittleEndian,
    uid.ExplicitVRBigEndian,
    uid.DeflatedExplicitVRLittleEndian,
    uid.RLELossless,
    uid.JPEGLosslessSV1,
    uid.JPEG2000Lossless,
]


def film(syntax: str = uid.ExplicitVRLittleEndian) -> bytes:
    """A DICOM file that is full of what identifies a person, its file meta information too."""
    made = dcmread(io.BytesIO(dicom_files.dicom(STORED_HW, 12, syntax, WindowCenter=900)))
    for keyword, value in PERSONAL.items():
        setattr(made, keyword, value)
    made.WindowWidth = 1800
    made.file_meta.SourceApplicationEntityTitle = "WARD-3"
    made.preamble = b"Nobody".ljust(128, b"\0")
    made.add_new(0x0009_0010, "LO", "NOWHERE PRIVATE")
    made.add_new(0x0009_1001, "LO", "private of A-17")
    file = io.BytesIO()
    made.save_as(file)
    return file.getvalue()


@pytest.mark.parametrize("command", ["predict", "explain", "report"])
@pytest.mark.parametrize("syntax", SYNTAXES, ids=lambda syntax: uid.UID(syntax).keyword)
def test_nothing_about_the_patient_is_sent_and_the_image_is(
    cxr: Run, fake: FakeServer, tmp_path: Path, syntax: str, command: str
) -> None:
    file = tmp_path / "film.dcm"
    file.write_bytes(film(syntax))
    where = [] if command == "predict" else ["--output", tmp_path / "out"]
    assert cxr(command, "--strip-header", *where, file)[0] == 0
    received = dcmread(io.BytesIO(fake.calls[-1].request.image))
    everything = f"{received.file_meta}{received}{received.preamble!r}"
    for value in (*PERSONAL.values(), "WARD-3", "NOWHERE", "private"):
        assert value not in everything
    assert received.file_meta.TransferSyntaxUID == syntax
    assert received.PixelData == dcmread(io.BytesIO(film(syntax))).PixelData
    assert (received.WindowCenter, received.WindowWidth) == (900, 1800)


def test_without_the_option_a_file_is_sent_as_it_is(
    cxr: Run, fake: FakeServer, tmp_path: Path
) -> None:
    file = tmp_path / "film.dcm"
    file.write_bytes(film())
    assert cxr("predict", file)[0] == 0
    assert fake.calls[-1].request.image == film()


def test_png_and_jpeg_are_sent_as_they_are(cxr: Run, fake: FakeServer, tmp_path: Path) -> None:
    for name, data in {"a.png": PNG + b"pixels", "b.jpg": b"\xff\xd8\xff\xe0"}.items():
        (tmp_path / name).write_bytes(data)
        assert cxr("predict", "--strip-header", tmp_path / name)[0] == 0
        assert fake.calls[-1].request.image == data


@pytest.mark.parametrize(
    "data",
    [
        film()[132:],
        bytes(128) + b"DICM" + b"\xff" * 64,
        b"Nobody^Real",
        b"",
    ],
    ids=["without preamble", "garbage", "text", "empty"],
)
def test_what_cannot_be_stripped_is_not_sent(
    cxr: Run, fake: FakeServer, tmp_path: Path, data: bytes
) -> None:
    file = tmp_path / "film.dcm"
    file.write_bytes(data)
    status, _, err = cxr("predict", "--strip-header", "--json", file)
    assert status == 1
    assert f"cxr: {file}: Not sent: its header cannot be read" in err
    assert not fake.calls


def test_a_file_that_is_too_large_is_said_to_be(cxr: Run, fake: FakeServer, tmp_path: Path) -> None:
    file = tmp_path / "film.dcm"
    file.write_bytes(film() + bytes(2 * 2**20))
    status, _, err = cxr("predict", "--strip-header", "--max-request-mib", 1, file)
    assert status == 1
    assert "--max-request-mib" in err
    assert not fake.calls


def test_without_pydicom_nothing_is_sent_and_the_reason_is_told(
    cxr: Run, fake: FakeServer, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(sys.modules, "pydicom", None)
    file = tmp_path / "film.dcm"
    file.write_bytes(b"DICOM")
    status, out, err = cxr("predict", "--strip-header", file)
    assert (status, out) == (2, "")
    assert err.startswith("cxr: --strip-header: needs pydicom, which is not installed (see")
    assert not fake.calls


def test_a_stripped_file_is_scored_as_the_whole_one(
    cxr: Run, phantom_server: ServerProcess, tmp_path: Path
) -> None:
    file = tmp_path / "film.dcm"
    file.write_bytes(film())
    arguments = ["predict", "--csv", "--top-k", "all", "--server", phantom_server.address, file]
    whole, stripped = cxr(*arguments), cxr(*arguments, "--strip-header")
    assert whole[0] == 0
    assert stripped[:2] == whole[:2]
