"""Some mutations in every run; `make fuzz` sends thousands."""

import warnings
from collections import Counter
from io import BytesIO

import numpy as np
import pytest
from PIL import Image

from cxr_server.errors import ImageError
from cxr_server.imaging.codecs import decode
from cxr_server.imaging.radiograph import DecodeLimits
from hostile_images import cases
from serving import ServerProcess
from trust import fuzz

MIB = 2**20
LIMITS = DecodeLimits(max_pixel_count=1_000_000)


async def test_mutated_images_end_ok_or_with_a_reason(plain_server: ServerProcess) -> None:
    ends, wrong = await fuzz.send(plain_server.address, 1, range(160), until=0)
    assert wrong == []
    assert ends.total() == 160
    assert ends["IMAGE_UNREADABLE"] > 50
    assert ends["OK"] > 5
    assert "internal error" not in plain_server.log


def test_mutations_are_repeatable_and_reach_behind_the_checksums() -> None:
    assert [fuzz.mutation(7, n) for n in range(50)] == [fuzz.mutation(7, n) for n in range(50)]
    data = bytearray(fuzz.BASES[0])
    data[60] ^= 1
    fuzz.mend_checksums(data)
    assert data != fuzz.BASES[0]
    mended = bytearray(data)
    fuzz.mend_checksums(mended)
    assert mended == data


@pytest.mark.parametrize("syntax", fuzz.DICOM_BASES)
def test_damaged_dicom_is_read_or_refused(syntax: str) -> None:
    ends = Counter[str]()
    for number in range(60):
        try:
            pixels_hw = decode(
                fuzz.mutation(5, number, [fuzz.DICOM_BASES[syntax]]), LIMITS
            ).pixels_hw
        except ImageError as error:
            ends[error.reason] += 1
        else:
            ends["OK"] += 1
            assert pixels_hw.size <= LIMITS.max_pixel_count
    assert ends.keys() <= {
        "OK",
        "IMAGE_EMPTY",
        "IMAGE_UNREADABLE",
        "IMAGE_FORMAT_UNSUPPORTED",
        "IMAGE_TOO_SMALL",
        "IMAGE_TOO_MANY_PIXELS",
    }
    assert ends["IMAGE_UNREADABLE"] > 5


UNLIKE = {"transparency", "exif", "xmp", "XML:com.adobe.xmp", "Raw profile type exif"}
"""What makes a file look otherwise than its pixels."""


def greyscale_by_pillow(file: bytes) -> np.ndarray | None:
    """The pixels of a grey file as Pillow reads them; None if it is not grey, or is `UNLIKE`."""
    if len(file) > MIB:  # Pillow looks at each byte of junk
        return None
    try:
        with warnings.catch_warnings(action="ignore"), Image.open(BytesIO(file)) as image:
            image.load()
    except (OSError, SyntaxError, ValueError, EOFError):
        return None
    if image.mode not in ("1", "L", "I;16") or image.info.keys() & UNLIKE:
        return None
    return np.asarray(image.convert("L") if image.mode == "1" else image)


@pytest.mark.slow
def test_every_file_is_read_or_refused_and_what_is_read_equals_pillows_reading() -> None:
    files = [case.data for case in cases()] + [fuzz.mutation(3, n) for n in range(1200)]
    read, compared = 0, Counter[str]()
    for file in files:
        try:
            radiograph = decode(file, LIMITS)
        except ImageError:
            continue
        read += 1
        expected_hw = greyscale_by_pillow(file)
        if expected_hw is not None:
            assert radiograph.pixels_hw.dtype == expected_hw.dtype
            assert (radiograph.pixels_hw == expected_hw).all()
            compared[radiograph.file_format] += 1
    assert read > 100
    assert min(compared["PNG"], compared["JPEG"]) > 8
