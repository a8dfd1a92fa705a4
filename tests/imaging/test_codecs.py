"""What holds for every codec: the registry, orientation, limits and what a Radiograph tells."""

import pickle
from concurrent.futures import ThreadPoolExecutor
from io import BytesIO

import numpy as np
import pytest
from PIL import Image, ImageOps

import handmade
from cxr_server.errors import (
    ImageFormatUnsupported,
    ImageTooManyPixels,
    ImageTooSmall,
    ImageUnreadable,
)
from cxr_server.imaging.codecs import CODECS, decode, readable_formats
from cxr_server.imaging.radiograph import (
    DecodeLimits,
    Header,
    InputWarning,
    Pixels,
    Radiograph,
)
from images import chest_like, jpeg, png

GREY_HW = chest_like(96, 120)


class ToyCodec:
    """A format of height, width and 16-bit pixels behind the signature "TOY"."""

    name = "TOY"
    needs = "nothing"

    def why_not(self) -> str | None:
        return None

    def sniff(self, data: bytes) -> bool:
        return data.startswith(b"TOY")

    def read_header(self, data: bytes) -> Header:
        height_px, width_px = np.frombuffer(data, "<u2", 2, 3)
        return Header(int(height_px), int(width_px), 12, 6, data[7:])

    def decode(self, header: Header) -> tuple[Pixels, tuple[InputWarning, ...]]:
        if len(header.pixel_data) != 2 * header.height_px * header.width_px:
            raise ImageUnreadable("The toy is broken.")
        pixels = np.frombuffer(header.pixel_data, "<u2").reshape(header.height_px, header.width_px)
        return pixels, (InputWarning.COLOR,)


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
    assert readable_formats() == ("PNG", "JPEG", "TOY")


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
    assert readable_formats() == ("PNG", "JPEG")


@pytest.mark.parametrize(
    ("magic", "name"),
    [(b"GIF89a", "GIF"), (b"II*\0", "TIFF"), (b"BM", "BMP"), (b"RIFF\0\0\0\0WEBPVP8 ", "WebP")],
)
def test_well_known_formats_are_named(magic: bytes, name: str) -> None:
    with pytest.raises(ImageFormatUnsupported, match=f"{name} file; send PNG or JPEG"):
        decode(magic + bytes(64))


@pytest.mark.parametrize("file", [png(GREY_HW), jpeg(GREY_HW)], ids=["png", "jpeg"])
def test_limits_hold_at_the_pixel(file: bytes) -> None:
    decode(file, DecodeLimits(96, 120, 96 * 120))
    with pytest.raises(ImageTooSmall, match="at least 97"):
        decode(file, DecodeLimits(97, 500, 96 * 120))
    with pytest.raises(ImageTooManyPixels, match="more than 119"):
        decode(file, DecodeLimits(32, 119, 96 * 120))
    with pytest.raises(ImageTooManyPixels, match="maximum is 11519"):
        decode(file, DecodeLimits(32, 120, 96 * 120 - 1))


@pytest.mark.parametrize(
    ("pixels_hw", "value_range", "bits_used"),
    [
        (np.full((40, 40), 0, np.uint8), (0, 0), 0),
        (np.array([[10, 200]] * 2, np.uint8), (10, 200), 7),
        (np.array([[0, 255]] * 2, np.uint8), (0, 255), 8),
        (np.array([[0, 4095, 7]] * 2, np.uint16), (0, 4095), 12),
        (np.array([[16, 4095 * 16]] * 2, np.uint16), (16, 65_520), 12),
        (np.array([[0, 257, 65_535]] * 2, np.uint16), (0, 65_535), 16),
    ],
    ids=["black", "even", "8", "12 lower", "12 upper", "16"],
)
def test_a_radiograph_tells_the_bits_and_the_range_that_are_used(
    pixels_hw: Pixels, value_range: tuple[int, int], bits_used: int
) -> None:
    radiograph = Radiograph(pixels_hw, int(np.iinfo(pixels_hw.dtype).max), "PNG", 16)
    assert radiograph.value_range == value_range
    assert radiograph.bits_used == bits_used


def test_a_radiograph_can_be_sent_to_another_process() -> None:
    radiograph = decode(jpeg(GREY_HW))
    copy = pickle.loads(pickle.dumps(radiograph))
    assert (copy.pixels_hw == radiograph.pixels_hw).all()
    assert (copy.file_format, copy.warnings) == ("JPEG", ())


@pytest.mark.parametrize("file_format", ["PNG", "JPEG"])
@pytest.mark.parametrize("order", ["<", ">"], ids=["little", "big"])
@pytest.mark.parametrize("orientation", range(1, 9))
def test_the_exif_orientation_is_applied(orientation: int, order: str, file_format: str) -> None:
    block = handmade.exif(orientation, order)
    if file_format == "PNG":
        file = handmade.png_of(GREY_HW, before=[(b"eXIf", block)])
    else:
        file = handmade.with_segment(jpeg(GREY_HW), 0xE1, b"Exif\0\0" + block)
    expected = np.asarray(ImageOps.exif_transpose(Image.open(BytesIO(file))))
    radiograph = decode(file)
    assert (radiograph.pixels_hw == expected).all()
    assert radiograph.pixels_hw.flags.c_contiguous
    assert radiograph.warnings == ((InputWarning.REORIENTED,) if orientation > 1 else ())


@pytest.mark.parametrize(
    "block",
    [
        b"",
        b"II*\0",
        b"II*\0\xff\xff\xff\xff",
        handmade.exif(0),
        handmade.exif(9),
        handmade.exif(6)[:-9],
        b"XX" + handmade.exif(6)[2:],
        handmade.exif(6).replace(b"\x12\x01\x03\x00", b"\x12\x01\x04\x00"),
    ],
    ids=["empty", "short", "far", "zero", "nine", "cut", "order", "type"],
)
def test_a_broken_exif_block_states_nothing(block: bytes) -> None:
    radiograph = decode(handmade.png_of(GREY_HW, before=[(b"eXIf", block)]))
    assert (radiograph.pixels_hw == GREY_HW).all()
    assert radiograph.warnings == ()


def test_threads_decode_side_by_side() -> None:
    pictures = [chest_like(64 + 8 * index, 96, seed=index) for index in range(12)]
    files = [png(picture) for picture in pictures] * 4
    with ThreadPoolExecutor(8) as pool:
        decoded = list(pool.map(decode, files))
    for radiograph, picture in zip(decoded, pictures * 4, strict=True):
        assert (radiograph.pixels_hw == picture).all()
