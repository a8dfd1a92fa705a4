"""The walk over DICOM's elements: agrees with pydicom, and ends early whatever the header holds."""

import struct
import time
import tracemalloc
import zlib
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pydicom
import pytest
from pydicom import uid
from pydicom.data import data_manager
from pydicom.encaps import generate_fragments

import dicom_files
from cxr_server.errors import ImageFormatUnsupported, ImageUnreadable
from cxr_server.imaging.codecs import decode
from cxr_server.imaging.dicom.elements import (
    MAX_HEADER_BYTES,
    PIXEL_DATA,
    DeflatedPixels,
    read_elements,
)
from images import chest_like, png

STORED_HW = np.arange(48 * 40, dtype=np.uint16).reshape(48, 40)
HEADER = dicom_files.dicom(STORED_HW)[: 144 + 200]
ITEM, UNDEFINED = struct.pack("<HH", 0xFFFE, 0xE000), b"\xff\xff\xff\xff"
HOSTILE_BYTES = 8 * 2**20


def file_meta() -> bytes:
    """The preamble and the file meta information of an explicit little endian file."""
    file = dicom_files.dicom(STORED_HW)
    return file[: 144 + struct.unpack_from("<I", file, 140)[0]]


def sequence(tag: tuple[int, int]) -> bytes:
    return struct.pack("<HH2sH", *tag, b"SQ", 0) + UNDEFINED


HOSTILE: dict[str, Callable[[], bytes]] = {
    "a million empty elements": lambda: b"".join(
        struct.pack("<HH2sH", 0x0009 + 2 * (number >> 16), number & 0xFFFF, b"UL", 0)
        for number in range(HOSTILE_BYTES // 8)
    ),
    "sequences in sequences": lambda: (
        (sequence((0x0008, 0x1140)) + ITEM + UNDEFINED) * (HOSTILE_BYTES // 20)
    ),
    "a million empty items": lambda: (
        sequence((0x0008, 0x1140)) + (ITEM + bytes(4)) * (HOSTILE_BYTES // 8)
    ),
    "a million items of a lookup table": lambda: (
        sequence((0x0028, 0x3010)) + (ITEM + bytes(4)) * (HOSTILE_BYTES // 8)
    ),
    "an unknown value of undefined length": lambda: (
        struct.pack("<HH2sH", 0x0009, 0x1010, b"UN", 0) + UNDEFINED + bytes(HOSTILE_BYTES)
    ),
    "a value without its delimiter": lambda: (
        struct.pack("<HH2sH", 0x0009, 0x1010, b"OB", 0)
        + UNDEFINED
        + (ITEM + bytes(4)) * (HOSTILE_BYTES // 8)
    ),
    "a value longer than the file": lambda: (
        struct.pack("<HH2sHI", 0x0009, 0x1010, b"OB", 0, 0xFFFF_FFF0) + bytes(HOSTILE_BYTES)
    ),
    "a million fragments": lambda: (
        struct.pack("<HH2sH", 0x7FE0, 0x0010, b"OB", 0)
        + UNDEFINED
        + (ITEM + bytes(4)) * (HOSTILE_BYTES // 8)
    ),
}


@pytest.mark.parametrize("name", HOSTILE)
def test_eight_mebibytes_of_hostile_header_end_within_the_bounds(
    name: str, record_property: Callable[[str, object], None]
) -> None:
    file = file_meta() + HOSTILE[name]()
    tracemalloc.start()
    start_s = time.process_time()
    with pytest.raises(ImageUnreadable):
        read_elements(file)
    record_property("cpu_ms", round(1000 * (time.process_time() - start_s), 1))
    peak_bytes = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert peak_bytes < 16 * 2**20  # 20,000 items at most


def test_a_deflated_header_is_inflated_up_to_its_bound(
    record_property: Callable[[str, object], None],
) -> None:
    # 8 MiB that inflate to 8 GiB: a private element of 1 GiB, over and over.
    deflater = zlib.compressobj(9, wbits=-zlib.MAX_WBITS)
    head = struct.pack("<HH2sHI", 0x0009, 0x1010, b"OB", 0, 2**30)
    bomb = deflater.compress(head) + deflater.compress(bytes(256 * 2**20)) + deflater.flush()
    meta = dicom_files.dicom(STORED_HW, syntax=uid.DeflatedExplicitVRLittleEndian)
    file = meta[: 144 + struct.unpack_from("<I", meta, 140)[0]] + bomb
    tracemalloc.start()
    start_s = time.process_time()
    with pytest.raises(ImageUnreadable):
        read_elements(file)
    record_property("cpu_ms", round(1000 * (time.process_time() - start_s), 1))
    peak_bytes = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert peak_bytes < 3 * MAX_HEADER_BYTES


def test_the_header_of_a_large_deflated_file_is_read_without_a_copy_of_its_pixels() -> None:
    noise_hw = np.random.default_rng(0).integers(0, 2**16, (2000, 2200), dtype=np.uint16)
    file = dicom_files.dicom(noise_hw, 16, syntax=uid.DeflatedExplicitVRLittleEndian)
    tracemalloc.start()
    assert isinstance(read_elements(file).pixels, DeflatedPixels)
    peak_bytes = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert peak_bytes < len(file)
    assert peak_bytes < 3 * MAX_HEADER_BYTES


def test_pixels_that_inflate_to_more_than_is_stated_are_refused_before_they_do() -> None:
    meta = dicom_files.dicom(STORED_HW, syntax=uid.DeflatedExplicitVRLittleEndian)
    start = 144 + struct.unpack_from("<I", meta, 140)[0]
    dataset = zlib.decompress(meta[start:], -zlib.MAX_WBITS)
    length = dataset.index(struct.pack("<HH2s", 0x7FE0, 0x0010, b"OW")) + 8
    deflater = zlib.compressobj(9, wbits=-zlib.MAX_WBITS)
    head = dataset[:length] + struct.pack("<I", 256 * 2**20)
    bomb = deflater.compress(head) + deflater.compress(bytes(256 * 2**20)) + deflater.flush()
    tracemalloc.start()
    with pytest.raises(ImageUnreadable, match="more pixels than it states"):
        decode(meta[:start] + bomb)
    peak_bytes = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert peak_bytes < 3 * MAX_HEADER_BYTES


@pytest.mark.filterwarnings("ignore")
def test_every_image_of_pydicom_has_the_attributes_and_pixels_that_pydicom_reads() -> None:
    compared = 0
    for path in Path(data_manager.__file__).with_name("test_files").rglob("*.dcm"):
        data = Path(path).read_bytes()
        if data[128:132] != b"DICM":
            continue
        try:
            found = read_elements(data)
        except (ImageUnreadable, ImageFormatUnsupported):
            continue
        try:
            expected = pydicom.dcmread(path)
            wanted = expected["PixelData"].value
        except Exception:
            continue
        if found.pixels is None or 0x0028_0010 not in found.values:
            continue
        rows = struct.unpack_from(found.byte_order + "H", found.values[0x0028_0010])[0]
        photometric = found.values[0x0028_0004].strip(b" \0").decode()
        assert (rows, photometric) == (expected.Rows, expected.PhotometricInterpretation), path
        pixels = found.pixels
        if isinstance(pixels, list):
            fragments = list(generate_fragments(wanted))[1:]
            assert [bytes(each) for each in pixels] == fragments, path
        elif isinstance(pixels, DeflatedPixels):
            assert pixels.inflated(pixels.length) == wanted, path
        else:
            assert bytes(pixels) == wanted, path
        compared += 1
    assert compared > 50


def test_a_preamble_that_is_the_header_of_another_format_is_passed_over() -> None:
    file = dicom_files.dicom(STORED_HW, 16)
    for preamble in (b"II*\0" + bytes(124), png(chest_like(64, 64))[:128]):
        assert decode(preamble + file[128:]).file_format == "DICOM"


def test_no_element_about_the_patient_is_kept() -> None:
    found = read_elements(dicom_files.dicom(STORED_HW, PatientID="17", PatientBirthDate="19000101"))
    groups = {tag >> 16 for tag in found.values}
    assert 0x0010 not in groups
    assert not any(b"Nobody" in value for value in found.values.values())


@pytest.mark.parametrize("syntax", dicom_files.NATIVE)
def test_a_file_cut_anywhere_is_refused(syntax: str) -> None:
    file = dicom_files.dicom(STORED_HW, syntax=syntax)
    for length in (*range(132, min(len(file), 400), 7), len(file) * 3 // 4):
        try:
            found = read_elements(file[:length])
            if isinstance(found.pixels, DeflatedPixels):
                found.pixels.inflated(found.pixels.length)
            assert found.pixels is None, length
        except ImageUnreadable:
            pass


def test_float_pixels_are_refused_by_name() -> None:
    made = dicom_files.dataset(STORED_HW, 16)
    made.add_new(0x7FE0_0008, "OF", np.zeros(4, np.float32).tobytes())
    with pytest.raises(ImageFormatUnsupported, match="floating-point"):
        read_elements(dicom_files.write(made))


def test_sequences_of_either_length_and_order_are_walked_past() -> None:
    for syntax in (uid.ExplicitVRLittleEndian, uid.ImplicitVRLittleEndian, uid.ExplicitVRBigEndian):
        for is_undefined in (False, True):
            made = dicom_files.dataset(STORED_HW, 16)
            inner, outer = pydicom.Dataset(), pydicom.Dataset()
            inner.CodeValue, inner.Rows = "1", 7  # not the image's rows
            outer.ConceptNameCodeSequence = [inner]
            made.AnatomicRegionSequence = [outer, outer]
            made["AnatomicRegionSequence"].is_undefined_length = is_undefined
            for item in made.AnatomicRegionSequence:
                item.is_undefined_length_sequence_item = is_undefined
            made.PixelData = STORED_HW.astype(">u2" if syntax.endswith("2.2") else "<u2").tobytes()
            made["PixelData"].VR = "OW"
            found = read_elements(dicom_files.write(made, syntax))
            rows = struct.unpack_from(found.byte_order + "H", found.values[0x0028_0010])[0]
            assert rows == 48
            assert found.pixels is not None
            assert PIXEL_DATA not in found.values
