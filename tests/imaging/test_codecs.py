"""What holds for every codec: the registry, orientation, limits and what a Radiograph tells."""

import pickle
import re
from concurrent.futures import ThreadPoolExecutor

import numpy as np
import pytest

from cxr_server.errors import (
    ImageError,
    ImageFormatUnsupported,
    ImageTooManyPixels,
    ImageTooSmall,
    ImageUnreadable,
)
from cxr_server.imaging.codecs import CODECS, decode, readable_formats
from cxr_server.imaging.radiograph import (
    Decoded,
    DecodeLimits,
    DecodeOptions,
    Header,
    ImageBytes,
    InputWarning,
    Pixels,
    Radiograph,
)
from dicom_files import dicom
from images import chest_like, jpeg, png

GREY_HW = chest_like(96, 120)


class ToyCodec:
    """A format of height, width and 16-bit pixels behind the signature "TOY"."""

    name = "TOY"
    needs = "nothing"

    def why_not(self) -> str | None:
        return None

    def sniff(self, head: bytes) -> bool:
        return head.startswith(b"TOY")

    def read_header(self, data: ImageBytes) -> Header:
        height_px, width_px = np.frombuffer(data, "<u2", 2, 3)
        return Header(int(height_px), int(width_px), 12, 6, data[7:], 0)

    def decode(self, header: Header, options: DecodeOptions) -> Decoded:
        if len(header.pixel_data) != 2 * header.height_px * header.width_px:
            raise ImageUnreadable("The toy is broken.")
        pixels = np.frombuffer(header.pixel_data, "<u2").reshape(header.height_px, header.width_px)
        return Decoded(pixels, (InputWarning.COLOR,))


class MissingCodec(ToyCodec):
    needs = "a toy shop"

    def why_not(self) -> str | None:
        return "it is closed"


def toy_file(pixels_hw: np.ndarray) -> bytes:
    return b"TOY" + np.array(pixels_hw.shape, "<u2").tobytes() + pixels_hw.astype("<u2").tobytes()


def test_a_registered_format_is_decoded(monkeypatch: pytest.MonkeyPatch) -> None:
    pixels_hw = np.arange(40 * 50, dtype=np.uint16).reshape(40, 50)
    with pytest.raises(ImageFormatUnsupported):
        decode(toy_file(pixels_hw))
    monkeypatch.setitem(CODECS, "TOY", ToyCodec())
    radiograph = decode(toy_file(pixels_hw))
    assert (radiograph.pixels_hw == pixels_hw.T[:, ::-1]).all()  # orientation 6
    assert radiograph.pixels_hw.flags.c_contiguous
    assert (radiograph.file_format, radiograph.bit_depth) == ("TOY", 12)
    assert radiograph.warnings == (InputWarning.COLOR, InputWarning.REORIENTED)
    assert readable_formats() == ("DICOM", "PNG", "JPEG", "TOY")


def test_a_registered_format_is_held_to_the_limits_before_it_is_decoded(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setitem(CODECS, "TOY", ToyCodec())
    without_pixels = b"TOY" + np.array([20_000, 40], "<u2").tobytes()
    with pytest.raises(ImageTooManyPixels):
        decode(without_pixels)


def test_a_format_that_is_not_available_is_refused_with_the_cause(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setitem(CODECS, "TOY", MissingCodec())
    with pytest.raises(ImageFormatUnsupported, match="TOY files need a toy shop: it is closed"):
        decode(toy_file(GREY_HW))
    assert readable_formats() == ("DICOM", "PNG", "JPEG")


@pytest.mark.parametrize("file", [png(GREY_HW), jpeg(GREY_HW)], ids=["png", "jpeg"])
def test_limits_hold_at_the_pixel(file: bytes) -> None:
    decode(file, DecodeLimits(96, 120, 96 * 120))
    with pytest.raises(ImageTooSmall, match="at least 97"):
        decode(file, DecodeLimits(97, 500, 96 * 120))
    with pytest.raises(ImageTooManyPixels, match="more than 119"):
        decode(file, DecodeLimits(32, 119, 96 * 120))
    with pytest.raises(ImageTooManyPixels, match="maximum is 11519"):
        decode(file, DecodeLimits(32, 120, 96 * 120 - 1))


FULL_HW = chest_like(96, 120).astype(np.uint16) * 257
TWELVE_BITS_HW = chest_like(96, 120).astype(np.uint16) * 16


@pytest.mark.parametrize(
    ("pixels_hw", "display_range"),
    [
        (np.array([[10, 20]] * 2, np.uint8), (0, 255)),
        (FULL_HW, (0, 65_535)),
        (np.array([[20_000, 20_000 + 32_768]] * 2, np.uint16), (0, 65_535)),
        (np.array([[20_000, 20_000 + 32_767]] * 2, np.uint16), (20_000, 52_767)),
        (TWELVE_BITS_HW, (int(TWELVE_BITS_HW.min()), int(TWELVE_BITS_HW.max()))),
        (np.pad(TWELVE_BITS_HW, 1, constant_values=65_535), (0, 65_535)),
        (np.full((40, 40), 9, np.uint16), (0, 65_535)),
    ],
    ids=["8", "16", "half", "less-than-half", "12", "12-with-a-white-frame", "even"],
)
def test_the_range_shown_is_the_range_used_of_16_bits_that_are_mostly_unused(
    pixels_hw: Pixels, display_range: tuple[int, int]
) -> None:
    radiograph = Radiograph(pixels_hw, int(np.iinfo(pixels_hw.dtype).max), "PNG", 16)
    assert radiograph.display_range == display_range


@pytest.mark.parametrize("factor", [257, 16, 1])
def test_a_picture_shows_16_bits_whatever_part_of_the_range_they_use(factor: int) -> None:
    grey_hw = np.tile(np.arange(256, dtype=np.uint16), (40, 1))
    radiograph = Radiograph(grey_hw * np.uint16(factor), 65_535, "PNG", 16)
    assert (radiograph.display_hw() == grey_hw).all()


def test_a_picture_of_8_bits_is_apart_from_the_pixels_which_may_lie_in_the_file() -> None:
    radiograph = Radiograph(np.frombuffer(bytes(1600), np.uint8).reshape(40, 40), 255, "PNG", 8)
    picture_hw = radiograph.display_hw()
    assert (picture_hw == radiograph.pixels_hw).all()
    assert not np.shares_memory(picture_hw, radiograph.pixels_hw)


def test_a_radiograph_can_be_sent_to_another_process() -> None:
    radiograph = decode(jpeg(GREY_HW))
    copy = pickle.loads(pickle.dumps(radiograph))
    assert (copy.pixels_hw == radiograph.pixels_hw).all()
    assert (copy.file_format, copy.warnings) == ("JPEG", ())


@pytest.mark.parametrize("file", [dicom(FULL_HW), png(GREY_HW), jpeg(GREY_HW), b"GIF8", b""])
def test_a_view_of_a_file_among_other_bytes_is_read_as_the_file(file: bytes) -> None:
    view = memoryview(b"before" + file + b"behind")[6:-6]
    try:
        pixels_hw = decode(file).pixels_hw
    except ImageError as error:
        with pytest.raises(type(error), match=re.escape(str(error))):
            decode(view)
    else:
        assert (decode(view).pixels_hw == pixels_hw).all()


def test_threads_decode_side_by_side() -> None:
    pictures = [chest_like(64 + 8 * index, 96, seed=index) for index in range(12)]
    files = [png(picture) for picture in pictures] * 4
    with ThreadPoolExecutor(8) as pool:
        decoded = list(pool.map(decode, files))
    for radiograph, picture in zip(decoded, pictures * 4, strict=True):
        assert (radiograph.pixels_hw == picture).all()
