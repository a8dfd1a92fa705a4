"""What decoding takes is known from the header, before a pixel is decoded."""

import tracemalloc
from collections.abc import Callable
from functools import partial

import numpy as np
import pytest
from pydicom import uid

from cxr_server.errors import ImageTooManyPixels
from cxr_server.imaging.codecs import read
from cxr_server.imaging.radiograph import DecodeLimits, DecodeOptions
from dicom_files import NATIVE, dicom
from images import jpeg, png

SIDE_PX = 1500
MARGIN_BYTES = 2**20
RNG = np.random.default_rng(5)
PADDING = {"PixelPaddingValue": 0, "PixelPaddingRangeLimit": 9}


def noise(*shape: int, dtype: type = np.uint8) -> np.ndarray:
    return RNG.integers(0, np.iinfo(dtype).max, shape, dtype=dtype)


def film(syntax: str, bits: int) -> bytes:
    """A DICOM file whose padding is looked for."""
    stored_hw = noise(SIDE_PX, SIDE_PX, dtype=np.uint8 if bits == 8 else np.uint16)
    return dicom(stored_hw >> 1 & 2**bits - 1, bits, syntax, **PADDING)


FILES: dict[str, Callable[[], bytes]] = {
    "grey png": lambda: png(noise(SIDE_PX, SIDE_PX), compress_level=1),
    "16-bit png": lambda: png(noise(SIDE_PX, SIDE_PX, dtype=np.uint16), compress_level=1),
    "colour png": lambda: png(noise(SIDE_PX, SIDE_PX, 3), compress_level=1),
    "transparent png": lambda: png(noise(SIDE_PX, SIDE_PX, 4), compress_level=1),
    "flat png": lambda: png(np.zeros((SIDE_PX, SIDE_PX), np.uint8)),
    "grey jpeg": lambda: jpeg(noise(SIDE_PX, SIDE_PX)),
    "colour jpeg": lambda: jpeg(noise(SIDE_PX, SIDE_PX, 3)),
    "progressive jpeg": lambda: jpeg(noise(SIDE_PX, SIDE_PX, 3), progressive=True),
    **{
        f"dicom, {uid.UID(syntax).name}, {bits} bits": partial(film, syntax, bits)
        for syntax in (*NATIVE, uid.RLELossless, uid.JPEGLosslessSV1, uid.JPEGLSLossless)
        for bits in (8, 12)
    },
}


@pytest.mark.parametrize("kind", FILES)
def test_decoding_takes_no_more_than_the_header_says(kind: str) -> None:
    """Of what Python and numpy allocate; `test_memory_bounds` looks at the whole process."""
    file = FILES[kind]()
    tracemalloc.start()
    try:
        image = read(file, DecodeLimits())
        image.radiograph(DecodeOptions())
        _, peak_bytes = tracemalloc.get_traced_memory()
    finally:
        tracemalloc.stop()
    told = image.header.decode_bytes
    assert peak_bytes <= told + MARGIN_BYTES
    assert told < 20 * SIDE_PX**2 + 4 * len(file)  # not far above it either


def test_a_size_is_read_within_the_limits() -> None:
    file = png(noise(70, 90))
    header = read(file, DecodeLimits()).header
    assert (header.height_px, header.width_px) == (70, 90)
    with pytest.raises(ImageTooManyPixels):
        read(file, DecodeLimits(max_side_px=80))
