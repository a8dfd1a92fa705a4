"""Images: what a caller may pass as an image, and that arrays and PIL images lose nothing."""

import io
import os
import struct
import zlib
from array import array
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image
from pydicom import dcmread, uid

import dicom_files
from clients import PNG, Ask
from cxr.v1 import chest_xray_pb2 as pb
from cxr_client import DicomPresentation, ImageError, RequestTooLargeError
from cxr_client.images import read_image
from cxr_client.testing import FakeServer
from images import chest_like, jpeg, pixels_of, png
from serving import ServerProcess

LIMIT = 2**25


def test_a_file_object_is_read_from_its_position(
    fake: FakeServer, ask: Ask, tmp_path: Path
) -> None:
    path = tmp_path / "archive"
    path.write_bytes(b"header" + PNG)
    with path.open("rb") as file, io.BytesIO(PNG) as memory, path.open("rb", buffering=0) as raw:
        for source in (file, raw):
            source.seek(6)
            ask(fake.address, "predict", source)
        ask(fake.address, "predict", memory)
    assert [call.request.image for call in fake.calls] == [PNG] * 3


def test_a_file_that_returns_little_at_a_time_is_read_to_its_end() -> None:
    class Slow(io.BytesIO):
        def read(self, size: int | None = -1, /) -> bytes:
            return super().read(3)

    assert read_image(Slow(PNG * 5), LIMIT) == PNG * 5


def test_a_file_object_without_end_is_refused_at_the_limit(fake: FakeServer, ask: Ask) -> None:
    with open("/dev/zero", "rb") as endless, pytest.raises(RequestTooLargeError):
        ask(fake.address, "predict", endless)
    assert not fake.calls


@pytest.mark.parametrize("dtype", ["u1", "<u2", ">u2"])
@pytest.mark.parametrize("layout", ["C", "F", "strided", "read-only"])
def test_an_array_arrives_with_every_value(dtype: str, layout: str) -> None:
    top = np.iinfo(dtype).max
    pixels = np.random.default_rng(0).integers(0, top, (37, 53), dtype=dtype[-2:], endpoint=True)
    pixels = pixels.astype(dtype)
    given = {
        "C": pixels,
        "F": np.asfortranarray(pixels),
        "strided": np.repeat(pixels, 2, axis=1)[:, ::2],
        "read-only": pixels.view(),
    }[layout]
    given.flags.writeable = layout != "read-only"
    np.testing.assert_array_equal(pixels_of(read_image(given, LIMIT)), pixels)


@pytest.mark.parametrize("mode", ["1", "L", "LA", "P", "RGB", "RGBA", "I;16"])
def test_a_pil_image_arrives_with_every_value(mode: str) -> None:
    if mode == "I;16":
        image = Image.fromarray(chest_like().astype(np.uint16) * 257)
    else:
        image = Image.fromarray(chest_like()).convert(mode)
    with Image.open(io.BytesIO(read_image(image, LIMIT))) as sent:
        assert sent.format == "PNG"
        np.testing.assert_array_equal(np.asarray(sent.convert(mode)), np.asarray(image))


def test_of_a_pil_image_s_metadata_only_the_orientation_is_sent(tmp_path: Path) -> None:
    exif = Image.Exif()
    exif[0x0112], exif[0x010E] = 6, "Jane Doe"
    Image.fromarray(chest_like()).save(tmp_path / "film.jpg", exif=exif, comment=b"Jane Doe")
    with Image.open(tmp_path / "film.jpg") as image:
        sent = read_image(image, LIMIT)
    assert b"Jane" not in sent
    with Image.open(io.BytesIO(sent)) as image:
        assert dict(image.getexif()) == {0x0112: 6}


def test_every_source_of_one_film_gets_the_same_scores(
    phantom_server: ServerProcess, ask: Ask, tmp_path: Path
) -> None:
    pixels = chest_like(300, 260)
    path = tmp_path / "film.png"
    path.write_bytes(png(pixels))
    film = Image.fromarray(pixels)
    sources = [path, path.read_bytes(), io.BytesIO(path.read_bytes()), film, pixels]
    sources += [pixels.astype(np.uint16) * 257, film.convert("RGB")]
    answers = [ask(phantom_server.address, "predict", each).findings for each in sources]
    for findings in answers:
        assert [each.probability for each in findings] == pytest.approx(
            [each.probability for each in answers[0]], abs=1e-6
        )


def test_a_turned_pil_image_gets_the_answer_of_its_file(
    phantom_server: ServerProcess, ask: Ask, tmp_path: Path
) -> None:
    exif = Image.Exif()
    exif[0x0112] = 6
    path = tmp_path / "film.jpg"
    Image.open(io.BytesIO(jpeg(chest_like(300, 200)))).save(path, exif=exif, quality=100)
    with Image.open(path) as image:
        ours, theirs = (ask(phantom_server.address, "predict", each) for each in (image, path))
    assert ours.warnings == theirs.warnings
    assert (ours.image_info.width_px, ours.image_info.height_px) == (300, 200)


@pytest.mark.parametrize(
    ("source", "kind"),
    [
        (None, "NoneType"),
        (7, "int"),
        ([1, 2], "list"),
        ((1, 2), "tuple"),
        (3.5, "float"),
        (array("B", [1, 2]), "array"),
        ({"image": b""}, "dict"),
    ],
)
def test_another_type_is_refused_with_what_is_taken(
    fake: FakeServer, ask: Ask, source: object, kind: str
) -> None:
    with pytest.raises(TypeError, match=f"image is of the type {kind}; pass the bytes of a DICOM"):
        ask(fake.address, "predict", source)
    assert not fake.calls


def buffers() -> dict[str, Any]:
    return {
        "float32": chest_like().astype(np.float32),
        "int16": chest_like().astype(np.int16),
        "int64": chest_like().astype(np.int64),
        "bool": chest_like() > 100,
        r"\[256, 256, 3\]": np.dstack([chest_like()] * 3),
        r"\[256\]": chest_like()[0],
        r"\[0, 256\]": chest_like()[:0],
        r"shape \[\]": np.uint8(7),
        "mode F": Image.fromarray(chest_like()).convert("F"),
        "mode CMYK": Image.fromarray(chest_like()).convert("CMYK"),
        "memoryview": memoryview(chest_like()),
        "text mode": io.StringIO("text"),
    }


@pytest.mark.parametrize("part", buffers())
def test_pixels_that_png_cannot_carry_are_refused_and_never_sent_raw(
    fake: FakeServer, ask: Ask, part: str
) -> None:
    with pytest.raises((TypeError, ValueError), match=part):
        ask(fake.address, "explain", buffers()[part])
    assert not fake.calls


@pytest.mark.parametrize("mode", ["I", "F"])
def test_advice_for_images_of_more_than_16_bits_loses_nothing(mode: str) -> None:
    image = Image.fromarray(chest_like()).convert(mode)
    with pytest.raises(ValueError, match=r"would clip it; pass an array of it, scaled"):
        read_image(image, LIMIT)
    scaled = np.asarray(image).astype(np.uint8)
    np.testing.assert_array_equal(pixels_of(read_image(scaled, LIMIT)), chest_like())


@pytest.mark.parametrize("encode", [png, jpeg])
def test_one_opened_pil_image_may_be_sent_by_many_threads_at_once(encode: Any) -> None:
    file = encode(chest_like(1500, 1500))
    expected = np.asarray(Image.open(io.BytesIO(file)))
    with ThreadPoolExecutor(4) as pool:
        for _ in range(5):
            opened = Image.open(io.BytesIO(file))  # reads no pixels yet
            for sent in pool.map(lambda each: read_image(each, LIMIT), [opened] * 4):
                np.testing.assert_array_equal(pixels_of(sent), expected)


def test_a_library_that_converts_to_an_array_is_taken() -> None:
    class Tensor:
        def __array__(self, dtype: Any = None, copy: Any = None) -> np.ndarray:
            return chest_like()

    np.testing.assert_array_equal(pixels_of(read_image(Tensor(), LIMIT)), chest_like())


def test_a_path_is_anything_that_names_a_file(tmp_path: Path) -> None:
    path = tmp_path / "film.png"
    path.write_bytes(PNG)

    class Entry:
        def __fspath__(self) -> str:
            return str(path)

    with os.scandir(tmp_path) as entries:
        sources = [str(path), path, Entry(), *entries]
    assert [read_image(each, LIMIT) for each in sources] == [PNG] * 4


def test_the_encoded_array_is_a_plain_greyscale_png() -> None:
    data = read_image(np.full((2, 3), 0x1234, np.uint16), LIMIT)
    assert struct.unpack(">IIBB", data[16:26]) == (3, 2, 16, 0)
    start = data.index(b"IDAT") + 4
    length = struct.unpack(">I", data[start - 8 : start - 4])[0]
    assert zlib.decompress(data[start : start + length]) == (b"\0" + b"\x12\x34" * 3) * 2


def test_a_file_that_is_no_image_is_still_the_server_s_to_refuse(
    phantom_server: ServerProcess, ask: Ask
) -> None:
    with pytest.raises(ImageError):
        ask(phantom_server.address, "predict", io.BytesIO(b"GIF89a"))


def test_a_dataset_of_pydicom_is_sent_without_what_is_about_the_patient(
    fake: FakeServer, ask: Ask
) -> None:
    stored_hw = chest_like(64, 64).astype(np.uint16) * 16
    made = dcmread(io.BytesIO(dicom_files.dicom(stored_hw, 12, PatientID="A-17", WindowCenter=9)))
    ask(fake.address, "predict", made)
    sent = fake.calls[0].request.image
    assert b"Nobody" not in sent
    assert b"A-17" not in sent
    received = dcmread(io.BytesIO(sent))
    assert (received.pixel_array == stored_hw).all()
    assert received.WindowCenter == 9
    assert made.PatientID == "A-17"


@pytest.mark.parametrize("syntax", [uid.ImplicitVRLittleEndian, uid.JPEGLosslessSV1])
def test_a_dataset_of_pydicom_is_scored_as_its_file(
    phantom_server: ServerProcess, ask: Ask, syntax: str
) -> None:
    file = dicom_files.dicom(chest_like(224, 224).astype(np.uint16) * 16, 12, syntax)
    sources = (file, dcmread(io.BytesIO(file)))
    scored = [ask(phantom_server.address, "predict", source) for source in sources]
    assert scored[0].findings == scored[1].findings
    assert scored[0].image_info == scored[1].image_info


def test_the_presentation_is_sent_with_both_methods(fake: FakeServer, ask: Ask) -> None:
    ask(fake.address, "predict", PNG, presentation="stored")
    ask(fake.address, "explain", PNG, presentation=DicomPresentation.AS_SHOWN)
    ask(fake.address, "predict", PNG)
    sent = [call.request.dicom.presentation for call in fake.calls]
    assert sent == [pb.DICOM_PRESENTATION_STORED, pb.DICOM_PRESENTATION_AS_SHOWN, 0]
    with pytest.raises(ValueError, match="AS_SHOWN, STORED"):
        ask(fake.address, "predict", PNG, presentation="raw")
