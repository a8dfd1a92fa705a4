"""Stored values become grey as pydicom, numpy and torchxrayvision make them."""

import struct
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray
from pydicom import uid
from pydicom.pixels import apply_modality_lut, apply_voi_lut

import dicom_files
from cxr_server.errors import ImageFormatUnsupported, ImageUnreadable
from cxr_server.imaging.dicom import codec
from cxr_server.imaging.dicom.grey import DicomPresentation, padding_of, to_grey
from dicom_files import lookup_table
from images import chest_like

CHEST_HW = chest_like(96, 80).astype(np.float64) / 255
AS_SHOWN, STORED = DicomPresentation.AS_SHOWN, DicomPresentation.STORED
HALF_A_GREY = 0.51  # of 65,535: rounding


def stored(bits: int, *, signed: bool = False) -> NDArray[Any]:
    """A radiograph of all greys of a depth."""
    values = np.rint(CHEST_HW * (2**bits - 1)).astype(np.int64)
    kind = "i" if signed else "u"
    return (values - 2 ** (bits - 1) * signed).astype(f"{kind}{1 if bits <= 8 else 2}")


def grey(file: bytes, how: DicomPresentation = AS_SHOWN) -> NDArray[np.uint16]:
    data = codec.read(file)
    return to_grey(codec.stored_values(data), data.attributes, how)


@pytest.mark.parametrize("function", ["LINEAR", "LINEAR_EXACT", "SIGMOID"])
@pytest.mark.parametrize("signed", [False, True])
def test_a_window_gives_what_pydicom_gives(function: str, *, signed: bool) -> None:
    made = {"WindowCenter": 300, "WindowWidth": 900, "VOILUTFunction": function}
    made |= {"RescaleSlope": 0.5, "RescaleIntercept": -200}
    stored_hw = stored(12, signed=signed)
    made_set = dicom_files.dataset(stored_hw, 12, **made)
    values = apply_voi_lut(apply_modality_lut(stored_hw, made_set), made_set)
    # pydicom scales to the range that the rescaled values can have.
    ends = (0, 4095) if not signed else (-2048, 2047)
    low, high = (end * 0.5 - 200 for end in ends)
    expected = (values - low) / (high - low) * 65_535
    assert np.abs(grey(dicom_files.dicom(stored_hw, 12, **made)) - expected).max() < HALF_A_GREY


def test_a_voi_lut_takes_precedence_over_a_window() -> None:
    stored_hw, table = stored(10), [int(4095 * (k / 1023) ** 2) for k in range(1024)]
    file = dicom_files.dicom(
        stored_hw,
        10,
        VOILUTSequence=[lookup_table(0, table, 12)],
        WindowCenter=5,
        WindowWidth=5,
    )
    expected = np.array(table)[stored_hw] / 4095 * 65_535
    assert np.abs(grey(file) - expected).max() < HALF_A_GREY


def test_inputs_outside_a_lookup_table_take_its_nearest_entry() -> None:
    stored_hw, table = stored(10), list(range(0, 4096, 8))
    file = dicom_files.dicom(stored_hw, 10, VOILUTSequence=[lookup_table(200, table, 12)])
    expected = np.array(table)[np.clip(stored_hw.astype(int) - 200, 0, 511)] / 4095 * 65_535
    assert np.abs(grey(file) - expected).max() < HALF_A_GREY


def test_a_lookup_table_of_packed_bytes_and_one_of_words_are_equal() -> None:
    stored_hw, table = stored(10), [k // 4 for k in range(1024)]
    words = grey(dicom_files.dicom(stored_hw, 10, VOILUTSequence=[lookup_table(0, table, 8)]))
    packed = grey(
        dicom_files.dicom(stored_hw, 10, VOILUTSequence=[lookup_table(0, table, 8, packed=True)])
    )
    assert (words == packed).all()
    assert np.abs(words - (stored_hw // 4) / 255 * 65_535).max() < HALF_A_GREY


def test_a_lookup_table_of_65536_entries_states_zero() -> None:
    stored_hw = stored(16)
    item = lookup_table(0, list(range(65_535, -1, -1)), 16)
    assert (
        grey(dicom_files.dicom(stored_hw, 16, VOILUTSequence=[item])) == 65_535 - stored_hw
    ).all()


def test_a_table_that_states_its_stored_size_is_scaled_by_its_range() -> None:
    stored_hw = stored(12)
    file = dicom_files.dicom(stored_hw, 12, VOILUTSequence=[lookup_table(0, list(range(4096)), 16)])
    assert np.abs(grey(file) - stored_hw / 4095 * 65_535).max() < HALF_A_GREY


def test_a_modality_lut_comes_before_the_window() -> None:
    stored_hw, table = stored(10), list(range(1023, -1, -1))
    file = dicom_files.dicom(
        stored_hw,
        10,
        ModalityLUTSequence=[lookup_table(0, table, 10)],
        WindowCenter=511.5,
        WindowWidth=1023,
        VOILUTFunction="LINEAR_EXACT",
    )
    assert np.abs(grey(file) - (1023 - stored_hw) / 1023 * 65_535).max() < HALF_A_GREY


@pytest.mark.parametrize("is_undefined", [False, True])
@pytest.mark.parametrize("sequence", ["ModalityLUTSequence", "VOILUTSequence"])
def test_a_lookup_table_of_unknown_type_is_read_as_implicit(
    sequence: str, *, is_undefined: bool
) -> None:
    luts = [lookup_table(0, list(range(4095, -1, -1)), 12)]
    implicit = dicom_files.dicom(stored(12), 12, uid.ImplicitVRLittleEndian, **{sequence: luts})
    tag = struct.pack("<HH", 0x28, 0x3000 if sequence == "ModalityLUTSequence" else 0x3010)
    start = implicit.index(tag) + 8
    items = implicit[start : start + int.from_bytes(implicit[start - 4 : start], "little")]
    length = 0xFFFF_FFFF if is_undefined else len(items)
    end = struct.pack("<HHI", 0xFFFE, 0xE0DD, 0) if is_undefined else b""
    unknown = tag + struct.pack("<2sHI", b"UN", 0, length) + items + end
    plain = dicom_files.dicom(stored(12), 12)
    pixels = plain.index(struct.pack("<HH", 0x7FE0, 0x10))
    shown_hw = grey(plain[:pixels] + unknown + plain[pixels:])
    assert (shown_hw == grey(dicom_files.dicom(stored(12), 12, **{sequence: luts}))).all()


def test_a_signed_lookup_table_begins_below_zero() -> None:
    stored_hw, table = stored(10, signed=True), list(range(0, 4096, 4))
    file = dicom_files.dicom(stored_hw, 10, ModalityLUTSequence=[lookup_table(-512, table, 12)])
    expected = np.array(table)[stored_hw.astype(int) + 512] / 4095 * 65_535
    assert np.abs(grey(file) - expected).max() < HALF_A_GREY


@pytest.mark.parametrize("syntax", dicom_files.NATIVE[:3])  # tables are of little endian
def test_a_voi_lut_of_rescaled_values_begins_below_zero(syntax: str) -> None:
    stored_hw, table = stored(12), list(range(4096))
    file = dicom_files.dicom(
        stored_hw,
        12,
        syntax,
        RescaleSlope=1,
        RescaleIntercept=-1024,
        VOILUTSequence=[lookup_table(-1024, table, 12)],
    )
    assert np.abs(grey(file) - stored_hw / 4095 * 65_535).max() < HALF_A_GREY


def test_a_voi_lut_behind_a_modality_lut_begins_at_an_unsigned_value() -> None:
    stored_hw, table = stored(10, signed=True), list(range(40_000, 41_024))
    file = dicom_files.dicom(
        stored_hw,
        10,
        ModalityLUTSequence=[lookup_table(-512, table, 16)],
        VOILUTSequence=[lookup_table(40_000, list(range(1024)), 10)],
    )
    expected = (stored_hw.astype(int) + 512) / 1023 * 65_535
    assert np.abs(grey(file) - expected).max() < HALF_A_GREY


def with_texts(*, has_voi_lut: bool = False, **texts: str) -> bytes:
    """A file whose header has texts that pydicom writes into no number."""
    stored_hw = stored(12)
    made = dicom_files.dataset(stored_hw, 12)
    if has_voi_lut:
        made.VOILUTSequence = [lookup_table(0, list(range(4095, -1, -1)), 12)]
    for name, text in texts.items():
        made.add_new(name, "LO", text)
    made.PixelData = stored_hw.tobytes()
    made["PixelData"].VR = "OW"
    return dicom_files.write(made)


UNREADABLE: dict[str, dict[str, str]] = {
    "slope": {"RescaleSlope": "0,5"},
    "intercept": {"RescaleIntercept": "-1024,0"},
    "infinite": {"RescaleSlope": "inf"},
    "center": {"WindowCenter": "1000,0", "WindowWidth": "500"},
    "center that is no number": {"WindowCenter": "NaN", "WindowWidth": "500"},
    "center of the first of two": {"WindowCenter": "1000,5\\3000", "WindowWidth": "500\\800"},
    "width": {"WindowCenter": "1000", "WindowWidth": "wide"},
    "negative width": {"WindowCenter": "1000", "WindowWidth": "-500"},
    "function": {"WindowCenter": "1000", "WindowWidth": "500", "VOILUTFunction": "LINEAR_X"},
}


@pytest.mark.parametrize("name", UNREADABLE)
def test_a_number_that_cannot_be_read_is_an_error_where_it_is_used(name: str) -> None:
    file = with_texts(**UNREADABLE[name])
    with pytest.raises(ImageUnreadable, match="rescale or window"):
        grey(file)
    assert (grey(file, STORED) == grey(with_texts(), STORED)).all()


def test_a_voi_lut_uses_the_slope_and_no_window() -> None:
    with pytest.raises(ImageUnreadable, match="rescale or window"):
        grey(with_texts(has_voi_lut=True, RescaleSlope="0,5"))
    with_window = with_texts(has_voi_lut=True, WindowCenter="1000,0", WindowWidth="500")
    assert (grey(with_window) == grey(with_texts(has_voi_lut=True))).all()


@pytest.mark.parametrize(
    ("center", "width"),
    [("1000", "500"), ("\\1000", "4000\\500"), ("7\\1000", "\\500"), ("7\\1000\\9", "0\\500\\9")],
)
def test_the_first_window_with_center_and_width_is_shown(center: str, width: str) -> None:
    expected = dicom_files.dicom(stored(12), 12, WindowCenter=1000, WindowWidth=500)
    assert (grey(with_texts(WindowCenter=center, WindowWidth=width)) == grey(expected)).all()


@pytest.mark.parametrize(
    "texts",
    [
        {"WindowCenter": "0", "WindowWidth": "0"},
        {"WindowCenter": "", "WindowWidth": ""},
        {"RescaleSlope": "", "RescaleIntercept": " "},
        {"RescaleSlope": "0"},
    ],
    ids=str,
)
def test_zeros_that_stand_for_none_and_empty_values_are_absent(texts: dict[str, str]) -> None:
    assert (grey(with_texts(**texts)) == grey(with_texts())).all()


@pytest.mark.parametrize(
    ("frames", "error"),
    [("10.0", ImageFormatUnsupported), ("1,0", ImageUnreadable), ("two", ImageUnreadable)],
)
def test_a_number_of_frames_that_is_no_integer_hides_no_frames(
    frames: str, error: type[Exception]
) -> None:
    with pytest.raises(error, match="frames"):
        codec.read(with_texts(NumberOfFrames=frames))
    assert (grey(with_texts(NumberOfFrames="1.0")) == grey(with_texts())).all()


@pytest.mark.parametrize("header", [{"RescaleIntercept": "1e20"}, {"RescaleSlope": "1e308"}])
def test_numbers_that_nothing_can_be_computed_with_are_an_error(header: dict[str, str]) -> None:
    with pytest.raises(ImageUnreadable, match="rescale or window"):
        grey(dicom_files.dicom(stored(12), 12, **header))


@pytest.mark.parametrize("bits", [8, 10, 11, 12, 13, 15, 16])
@pytest.mark.parametrize("signed", [False, True])
def test_without_a_window_the_full_range_is_shown(bits: int, *, signed: bool) -> None:
    stored_hw = stored(bits, signed=signed)
    low = -(2 ** (bits - 1)) if signed else 0
    expected = (stored_hw.astype(np.float64) - low) / (2**bits - 1) * 65_535
    shown = grey(dicom_files.dicom(stored_hw, bits))
    assert np.abs(shown - expected).max() < HALF_A_GREY


def test_monochrome1_is_inverted_once_whatever_the_presentation_shape_says() -> None:
    stored_hw = stored(12)
    for shape in (None, "INVERSE", "IDENTITY"):
        file = dicom_files.dicom(
            stored_hw, 12, PhotometricInterpretation="MONOCHROME1", PresentationLUTShape=shape
        )
        assert np.abs(grey(file) - (1 - stored_hw / 4095) * 65_535).max() < HALF_A_GREY


def test_high_bits_and_unused_bits_are_ignored() -> None:
    stored_hw = stored(10)
    shifted_hw = (stored_hw << 4) | np.uint16(0xC00F)  # overlay bits above and below
    file = dicom_files.dicom(shifted_hw, 16, BitsStored=10, HighBit=13)
    assert (grey(file) == grey(dicom_files.dicom(stored_hw, 10))).all()


@pytest.mark.parametrize("photometric", ["MONOCHROME1", "MONOCHROME2"])
def test_padding_is_black(photometric: str) -> None:
    stored_hw = stored(12)
    stored_hw[:, :9] = 4095
    stored_hw[:, 9:12] = 4000
    file = dicom_files.dicom(
        stored_hw,
        12,
        PhotometricInterpretation=photometric,
        PixelPaddingValue=4095,
        PixelPaddingRangeLimit=4000,
    )
    shown_hw = grey(file)
    assert (shown_hw[:, :12] == 0).all()
    data = codec.read(file)
    padding_hw = padding_of(codec.stored_values(data), data.attributes)
    assert padding_hw is not None
    assert padding_hw[:, :12].all()
    assert (padding_hw == (stored_hw >= 4000)).all()


def test_signed_padding_is_found_by_its_bits() -> None:
    stored_hw = stored(12, signed=True)
    stored_hw[:5] = -2000
    file = dicom_files.dicom(stored_hw, 12, PixelPaddingValue=-2000)
    assert (grey(file)[:5] == 0).all()


@pytest.mark.parametrize("bits", [8, 10, 12, 15, 16])
@pytest.mark.parametrize("photometric", ["MONOCHROME1", "MONOCHROME2"])
def test_stored_presentation_equals_torchxrayvisions_formula(bits: int, photometric: str) -> None:
    stored_hw = stored(bits)
    file = dicom_files.dicom(
        stored_hw,
        bits,
        PhotometricInterpretation=photometric,
        WindowCenter=50,
        WindowWidth=10,
        RescaleSlope=3,
    )
    # read_xray_dcm: invert by 2 ** bits - 1, then normalize by it to [-1024, 1024].
    values = stored_hw.astype(np.float64)
    if photometric == "MONOCHROME1":
        values = 2**bits - 1 - values
    expected = (2 * values / (2**bits - 1) - 1) * 1024
    network_hw = (2 * grey(file, STORED).astype(np.float64) / 65_535 - 1) * 1024
    assert np.abs(network_hw - expected).max() < 0.02
