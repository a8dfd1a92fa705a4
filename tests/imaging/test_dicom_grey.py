"""Stored values become grey as pydicom, numpy and torchxrayvision make them."""

from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray
from pydicom.pixels import apply_modality_lut, apply_voi_lut

import dicom_files
from cxr_server.errors import ImageUnreadable
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
