"""Pixels of every transfer syntax; damaged ones are errors."""

from pathlib import Path
from typing import Any

import imagecodecs
import numpy as np
import pytest
from numpy.typing import NDArray
from pydicom import uid
from pydicom.data import get_testdata_file
from pydicom.encaps import encapsulate

import dicom_files
from cxr_server.errors import ImageFormatUnsupported, ImageUnreadable
from cxr_server.imaging.codecs import decode
from cxr_server.imaging.dicom import codec
from cxr_server.imaging.dicom.objects import refuse_objects
from images import chest_like, jpeg

CHEST_HW = chest_like(96, 80).astype(np.float64) / 255
LOSSLESS = (
    uid.JPEGLossless,
    uid.JPEGLosslessSV1,
    uid.JPEGLSLossless,
    uid.JPEG2000Lossless,
    uid.HTJ2KLossless,
    uid.HTJ2KLosslessRPCL,
    uid.RLELossless,
)
MAX_ERROR = {
    uid.JPEGBaseline8Bit: 3,
    uid.JPEGExtended12Bit: 8,
    uid.JPEGLSNearLossless: 2,
    uid.JPEG2000: 16,
    uid.HTJ2K: 0,
}


def stored(bits: int) -> NDArray[Any]:
    return np.rint(CHEST_HW * (2**bits - 1)).astype("u1" if bits <= 8 else "u2")


def decoded(file: bytes) -> NDArray[Any]:
    return codec.stored_values(codec.read(file))


@pytest.mark.parametrize("syntax", [*dicom_files.NATIVE, *LOSSLESS])
@pytest.mark.parametrize("bits", [8, 10, 12, 15, 16])
def test_lossless_syntaxes_keep_every_bit(syntax: str, bits: int) -> None:
    stored_hw = stored(bits)
    assert (decoded(dicom_files.dicom(stored_hw, bits, syntax)) == stored_hw).all()


@pytest.mark.parametrize("syntax", [*dicom_files.NATIVE, uid.JPEG2000Lossless, uid.RLELossless])
@pytest.mark.parametrize("bits", [8, 12, 16])
def test_negative_values_keep_every_bit(syntax: str, bits: int) -> None:
    signed_hw = (stored(bits).astype(np.int64) - 2 ** (bits - 1)).astype(
        "i1" if bits <= 8 else "i2"
    )
    mask = 2**bits - 1
    cells_hw = decoded(dicom_files.dicom(signed_hw, bits, syntax))
    assert ((cells_hw & mask) == (signed_hw.astype(np.int64) & mask)).all()


@pytest.mark.parametrize("syntax", MAX_ERROR)
def test_lossy_syntaxes_stay_close(syntax: str) -> None:
    bits = 8 if syntax == uid.JPEGBaseline8Bit else 12
    stored_hw = stored(bits)
    cells_hw = decoded(dicom_files.dicom(stored_hw, bits, syntax))
    assert np.abs(cells_hw.astype(int) - stored_hw).max() <= MAX_ERROR[syntax]


def test_pixels_of_8_bits_in_words_of_big_endian_are_swapped() -> None:
    stored_hw = stored(8)
    made = dicom_files.dataset(stored_hw, 8)
    made.PixelData = stored_hw.tobytes()
    made["PixelData"].VR = "OW"
    little = dicom_files.write(made)
    swapped = stored_hw.reshape(-1, 2)[:, ::-1].tobytes()
    made.PixelData = swapped
    made["PixelData"].VR = "OW"
    big = dicom_files.write(made, uid.ExplicitVRBigEndian)
    assert (decoded(little) == stored_hw).all()
    assert (decoded(big) == stored_hw).all()


def padded(made: Any, syntax: str, surplus: bytes) -> bytes:
    """A file with bytes behind its pixels."""
    order = ">" if syntax == uid.ExplicitVRBigEndian else "<"
    made.PixelData = stored(12).astype(f"{order}u2").tobytes() + surplus
    made["PixelData"].VR = "OW"
    return dicom_files.write(made, syntax)


@pytest.mark.parametrize("syntax", dicom_files.NATIVE)
def test_padding_behind_the_pixels_is_passed_over_and_more_pixels_are_an_error(syntax: str) -> None:
    made = dicom_files.dataset(stored(12), 12)
    for surplus in (2, codec.BLOCK_BYTES - 2):
        assert (decoded(padded(made, syntax, bytes(surplus))) == stored(12)).all()
    for surplus in (codec.BLOCK_BYTES, 9 * stored(12).nbytes):  # nine frames more
        with pytest.raises(ImageUnreadable, match="more pixels than it states"):
            codec.read(padded(made, syntax, bytes(surplus)))
    made.Rows //= 2
    with pytest.raises(ImageUnreadable, match="more pixels than it states"):
        codec.read(padded(made, syntax, b""))


ENCAPSULATED = [*LOSSLESS, *MAX_ERROR]


def frame_of(syntax: str) -> tuple[Any, bytes]:
    bits = 8 if syntax == uid.JPEGBaseline8Bit else 12
    found = codec.read(dicom_files.dicom(stored(bits), bits, syntax)).elements.pixels
    assert isinstance(found, list)
    return dicom_files.dataset(stored(bits), bits), b"".join(found)


@pytest.mark.parametrize("syntax", ENCAPSULATED)
def test_a_frame_cut_short_is_an_error(syntax: str) -> None:
    made, frame = frame_of(syntax)
    for share in (0.3, 0.6, 0.9):
        cut = frame[: int(len(frame) * share) // 2 * 2]
        with pytest.raises(ImageUnreadable):
            decoded(dicom_files.encapsulated(made, cut, syntax))


@pytest.mark.parametrize("syntax", ENCAPSULATED)
def test_a_damaged_frame_shows_nothing_of_the_memory_that_it_is_decoded_into(syntax: str) -> None:
    made, frame = frame_of(syntax)
    for place in range(len(frame) // 3, len(frame) - 8, len(frame) // 5):
        damaged = frame[:place] + b"\x5a" * 8 + frame[place + 8 :]
        file = dicom_files.encapsulated(made, damaged, syntax)
        results = []
        for filling in (0x11, 0xEE):
            held = [np.full((96, 80), filling * 0x101, np.uint16) for _ in range(64)]
            del held  # its memory is free, and dirty
            try:
                results.append(decoded(file).tobytes())
            except ImageUnreadable:
                results.append(b"")
        assert results[0] == results[1]


@pytest.mark.parametrize("syntax", ENCAPSULATED)
def test_a_frame_of_another_size_is_an_error(syntax: str) -> None:
    made, frame = frame_of(syntax)
    for rows, columns in ((95, 80), (96, 81), (9_000, 9_000)):
        made.Rows, made.Columns = rows, columns
        with pytest.raises(ImageUnreadable):
            decoded(dicom_files.encapsulated(made, frame, syntax))


@pytest.mark.parametrize("syntax", ENCAPSULATED)
@pytest.mark.parametrize("has_table", [False, True])
def test_a_second_frame_that_the_header_does_not_state_is_refused(
    syntax: str, *, has_table: bool
) -> None:
    made, frame = frame_of(syntax)
    for fragments in (1, 2):
        frames = encapsulate([frame] * 2, fragments_per_frame=fragments, has_bot=has_table)
        with pytest.raises(ImageFormatUnsupported, match="several frames"):
            codec.read(dicom_files.with_fragments(made, frames, syntax))


def test_a_frame_in_fragments_that_the_offset_table_lists_is_read() -> None:
    for syntax in (uid.JPEGLosslessSV1, uid.JPEGLSLossless, uid.JPEG2000Lossless):
        made, frame = frame_of(syntax)
        half = len(frame) // 4 * 2
        fragments = encapsulate([frame[:half], frame[half:]], has_bot=True)
        assert (decoded(dicom_files.with_fragments(made, fragments, syntax)) == stored(12)).all()


NARROW = [uid.JPEGLosslessSV1, uid.JPEGLSLossless, uid.JPEG2000Lossless, uid.HTJ2KLossless]


@pytest.mark.parametrize("syntax", NARROW)
def test_a_codestream_of_8_bits_is_read_into_cells_of_16(syntax: str) -> None:
    stored_hw = stored(8)
    stored_hw[:9] = 0
    frame = bytes(dicom_files.ENCODERS[syntax](stored_hw, 8))
    made = dicom_files.dataset(stored(12), 12, PixelPaddingValue=0)
    radiograph = decode(dicom_files.encapsulated(made, frame, syntax))
    assert (radiograph.pixels_hw == np.rint(stored_hw / 4095 * 65_535)).all()
    assert radiograph.padding_hw is not None
    assert (radiograph.padding_hw == (stored_hw == 0)).all()


def test_negative_values_of_a_codestream_of_8_bits_keep_their_sign_in_cells_of_16() -> None:
    signed_hw = (stored(8).astype(int) - 128).astype(np.int8)
    frame = imagecodecs.jpeg2k_encode(signed_hw, level=0, reversible=True, codecformat="J2K")
    made = dicom_files.dataset(signed_hw.astype(np.int16), 12)
    cells_hw = decoded(dicom_files.encapsulated(made, bytes(frame), uid.JPEG2000Lossless))
    assert (cells_hw.view(np.int16) == signed_hw).all()


STRIPES_HW = np.where(np.indices((96, 80)).sum(axis=0) // 7 % 2, 1023, 20).astype(np.uint16)
"""What a lossy codec overshoots at."""


@pytest.mark.parametrize(
    ("syntax", "frame"),
    [
        (uid.JPEGExtended12Bit, imagecodecs.jpeg8_encode(STRIPES_HW, level=80, bitspersample=12)),
        (uid.JPEGLSNearLossless, imagecodecs.jpegls_encode(STRIPES_HW | 2048, level=9)),
        (
            uid.JPEG2000,
            imagecodecs.jpeg2k_encode(
                STRIPES_HW, level=80, reversible=False, codecformat="J2K", bitspersample=16
            ),
        ),
    ],
    ids=["JPEG", "JPEG-LS", "JPEG 2000"],
)
def test_white_that_a_lossy_codec_exceeds_stays_white(syntax: str, frame: bytes) -> None:
    file = dicom_files.encapsulated(dicom_files.dataset(STRIPES_HW, 10), bytes(frame), syntax)
    assert decode(file).pixels_hw[STRIPES_HW == 1023].min() > 50_000


def test_a_colour_jpeg_behind_a_greyscale_header_is_an_error() -> None:
    made, _ = frame_of(uid.JPEGBaseline8Bit)
    color = imagecodecs.jpeg8_encode(np.stack([stored(8)] * 3, axis=-1))
    with pytest.raises(ImageUnreadable):
        decoded(dicom_files.encapsulated(made, bytes(color), uid.JPEGBaseline8Bit))


@pytest.mark.parametrize("syntax", [uid.JPEGBaseline8Bit, uid.JPEGExtended12Bit])
def test_a_progressive_jpeg_whose_scans_could_go_on_for_hours_is_an_error(syntax: str) -> None:
    made = dicom_files.dataset(stored(8), 8)
    frame = jpeg(stored(8), progressive=True)
    with pytest.raises(ImageUnreadable):
        decoded(dicom_files.encapsulated(made, frame, syntax))


@pytest.mark.parametrize("padding", [b"\0", b"\xff", b"\0\0\0"])
def test_padding_behind_a_frame_is_passed_over(padding: bytes) -> None:
    for syntax in (uid.JPEGLosslessSV1, uid.JPEGLSLossless, uid.JPEG2000Lossless):
        made, frame = frame_of(syntax)
        file = dicom_files.encapsulated(made, frame.rstrip(b"\0") + padding, syntax)
        assert (decoded(file) == stored(12)).all()


JPEGS = [uid.JPEGBaseline8Bit, uid.JPEGExtended12Bit, uid.JPEGLosslessSV1, uid.JPEGLSLossless]


@pytest.mark.parametrize("syntax", JPEGS)
def test_fill_bytes_before_a_marker_are_passed_over_and_bounded(syntax: str) -> None:
    made, frame = frame_of(syntax)
    whole = decoded(dicom_files.encapsulated(made, frame, syntax))
    second = 4 + int.from_bytes(frame[4:6])
    for place in (2, second):
        filled = frame[:place] + b"\xff" * 3 + frame[place:]
        assert (decoded(dicom_files.encapsulated(made, filled, syntax)) == whole).all()
        filled = frame[:place] + b"\xff" * 9_999 + frame[place:]
        with pytest.raises(ImageUnreadable):
            decoded(dicom_files.encapsulated(made, filled, syntax))


def test_a_jpeg_2000_with_an_offset_of_its_tiles_is_an_error() -> None:
    made, frame = frame_of(uid.JPEG2000Lossless)
    moved = bytearray(frame)
    moved[16:20] = (8).to_bytes(4, "big")  # XOsiz
    with pytest.raises(ImageUnreadable):
        decoded(dicom_files.encapsulated(made, bytes(moved), uid.JPEG2000Lossless))


WITH_PIXELS = ("Volume Storage", "Volume Analysis Storage", "Map Storage")
"""Ends of the names of further SOP classes whose objects are images."""
REFUSED: dict[str, tuple[dict[str, Any], str]] = {
    "frames": ({"NumberOfFrames": 2}, "2 frames"),
    "palette": ({"PhotometricInterpretation": "PALETTE COLOR"}, "palette"),
    "colour": ({"PhotometricInterpretation": "RGB"}, "not greyscale"),
    "samples": ({"SamplesPerPixel": 3}, "samples"),
    "structured report": ({"SOPClassUID": "1.2.840.10008.5.1.4.1.1.88.34"}, "structured report"),
    "presentation": ({"SOPClassUID": "1.2.840.10008.5.1.4.1.1.11.1"}, "presentation state"),
    "document": ({"SOPClassUID": "1.2.840.10008.5.1.4.1.1.104.1"}, "document"),
    "bits": ({"BitsAllocated": 32}, "32 bits"),
}


@pytest.mark.parametrize("name", REFUSED)
def test_what_is_no_single_greyscale_image_is_refused_by_name(name: str) -> None:
    attributes, words = REFUSED[name]
    with pytest.raises(ImageFormatUnsupported, match=words):
        codec.read(dicom_files.dicom(stored(12), 12, **attributes))


@pytest.mark.parametrize(
    ("name", "words"),
    [
        ("DICOMDIR", "a DICOM directory"),
        ("DICOMDIR-bigEnd", "a DICOM directory"),
        ("DICOMDIR-implicit", "a DICOM directory"),
        ("rtplan.dcm", "a radiotherapy plan"),
        ("rtplan_truncated.dcm", "a radiotherapy plan"),
        ("rtdose.dcm", "a radiotherapy dose"),
        ("waveform_ecg.dcm", "a waveform"),
        ("liver_1frame.dcm", "a segmentation"),
        ("test-SR.dcm", "a structured report"),
    ],
)
def test_an_object_that_is_no_image_is_refused_by_name(name: str, words: str) -> None:
    path = get_testdata_file(name, download=False)
    assert path
    with pytest.raises(ImageFormatUnsupported, match=words):
        codec.read(Path(str(path)).read_bytes())


@pytest.mark.parametrize("stated_in", ["file meta", "dataset"])
def test_either_statement_of_the_sop_class_names_an_object_without_pixels(stated_in: str) -> None:
    made = dicom_files.dataset(stored(12), 12, SOPClassUID="1.2.840.10008.5.1.4.1.1.481.5")
    file = dicom_files.write(made)
    known, plain = b"1.2.840.10008.5.1.4.1.1.481.5\0", b"1.2.840.10008.5.1.4.1.1.999.5\0"
    kept = file.find(known) if stated_in == "file meta" else file.rfind(known)
    file = bytearray(file.replace(known, plain))
    file[kept : kept + len(known)] = known
    with pytest.raises(ImageFormatUnsupported, match="a radiotherapy plan, not an image"):
        codec.read(bytes(file))


def test_all_sop_classes_for_storage_are_refused_but_those_of_images() -> None:
    for sop_class, (name, kind, _, retired, _) in uid.UID_dictionary.items():
        is_storage = kind == "SOP Class" and name.endswith("Storage") and not retired
        if not is_storage or name.startswith("DICOS"):  # of luggage
            continue
        pixels = "Image Storage" in name or name.endswith(WITH_PIXELS)
        try:
            refuse_objects(sop_class.encode())
            assert pixels, name
        except ImageFormatUnsupported:
            assert not pixels, name


def test_a_file_that_does_not_say_what_its_pixels_are_is_unreadable() -> None:
    with pytest.raises(ImageUnreadable, match="does not state"):
        codec.read(dicom_files.dicom(stored(12), 12, PhotometricInterpretation=None))


def test_an_unknown_transfer_syntax_is_refused_by_its_uid() -> None:
    made, frame = frame_of(uid.JPEG2000Lossless)
    file = dicom_files.encapsulated(made, frame, uid.JPEG2000Lossless)
    file = file.replace(b"1.2.840.10008.1.2.4.90", b"1.2.840.10008.1.2.4.95")
    with pytest.raises(ImageFormatUnsupported, match=r"1\.2\.840\.10008\.1\.2\.4\.95"):
        codec.read(file)
