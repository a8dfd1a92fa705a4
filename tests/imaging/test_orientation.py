"""Orientation, wherever a file states it; Pillow is the reference."""

import struct
import tracemalloc
import zlib
from io import BytesIO

import numpy as np
import pytest
from PIL import Image, ImageOps

import handmade
from cxr_server.imaging.codecs import decode
from cxr_server.imaging.radiograph import InputWarning
from images import chest_like, jpeg

GREY_HW = chest_like(96, 120)
XMP = (
    b"<x:xmpmeta xmlns:x='adobe:ns:meta/'><rdf:RDF><rdf:Description "
    b"xmlns:tiff='http://ns.adobe.com/tiff/1.0/' %s</rdf:Description></rdf:RDF></x:xmpmeta>"
)
XMP_KEYWORD = b"XML:com.adobe.xmp\0\0\0\0\0"
XMP_ATTRIBUTE = XMP % b'tiff:Orientation="6">'
XMP_ELEMENT = XMP % b"><tiff:Orientation>6</tiff:Orientation>"


def as_seen(file: bytes) -> np.ndarray:
    with Image.open(BytesIO(file)) as image:
        return np.asarray(ImageOps.exif_transpose(image))


def png_with(*chunks: handmade.Chunk) -> bytes:
    return handmade.png_of(GREY_HW, before=chunks)


def jpeg_with(*payloads: bytes) -> bytes:
    file = jpeg(GREY_HW)
    for payload in reversed(payloads):
        file = handmade.with_segment(file, 0xE1, payload)
    return file


def raw_profile(block: bytes, name: str = "exif") -> bytes:
    """An EXIF block as ImageMagick writes it into a text chunk."""
    digits = block.hex()
    lines = "\n".join(digits[at : at + 72] for at in range(0, len(digits), 72))
    return f"\n{name}\n{len(block):8d}\n{lines}\n".encode()


def exif_segment(orientation: int, **options: str) -> bytes:
    return b"Exif\0\0" + handmade.exif(orientation, **options)


def xmp_segment(packet: bytes) -> bytes:
    return b"http://ns.adobe.com/xap/1.0/\0" + packet


PLACES = {
    "png-exif-with-jpegs-prefix": png_with((b"eXIf", exif_segment(6))),
    "png-exif-long": png_with((b"eXIf", handmade.exif(6, kind=4))),
    "png-exif-long-big-endian": png_with((b"eXIf", handmade.exif(6, ">", kind=4))),
    "png-ztxt-raw-profile": png_with(
        (b"zTXt", b"Raw profile type exif\0\0" + zlib.compress(raw_profile(exif_segment(6))))
    ),
    "png-text-raw-profile": png_with(
        (b"tEXt", b"Raw profile type exif\0" + raw_profile(handmade.exif(6)))
    ),
    "png-itxt-xmp": png_with((b"iTXt", XMP_KEYWORD + XMP_ATTRIBUTE)),
    "png-itxt-xmp-compressed": png_with(
        (b"iTXt", b"XML:com.adobe.xmp\0\1\0en\0XMP\0" + zlib.compress(XMP_ELEMENT))
    ),
    "jpeg-exif-long": jpeg_with(exif_segment(6, kind=4)),
    "jpeg-xmp-attribute": jpeg_with(xmp_segment(XMP_ATTRIBUTE)),
    "jpeg-xmp-element": jpeg_with(xmp_segment(XMP_ELEMENT)),
    "jpeg-exif-twice": jpeg_with(exif_segment(6), exif_segment(1)),
    "jpeg-xmp-beside-exif-without-it": jpeg_with(
        b"Exif\0\0" + handmade.exif(6, tag=0x0110), xmp_segment(XMP_ATTRIBUTE)
    ),
}
"""Files to be turned by 90 degrees."""


@pytest.mark.parametrize("place", PLACES)
def test_the_orientation_is_applied_wherever_it_is_stated(place: str) -> None:
    radiograph = decode(PLACES[place])
    assert radiograph.pixels_hw.shape == (120, 96)
    assert (radiograph.pixels_hw == as_seen(PLACES[place])).all()
    assert radiograph.warnings == (InputWarning.REORIENTED,)


@pytest.mark.parametrize(
    "file",
    [
        png_with((b"tEXt", b"Raw profile type APP1\0" + raw_profile(exif_segment(6), "APP1"))),
        jpeg_with(xmp_segment(XMP % b"tiff:Orientation='6'>")),
    ],
    ids=["png-raw-profile-of-app1", "jpeg-xmp-single-quotes"],
)
def test_places_that_pillow_does_not_know_count_as_well(file: bytes) -> None:
    assert decode(file).pixels_hw.shape == (120, 96)


@pytest.mark.parametrize(
    "file",
    [
        png_with((b"eXIf", handmade.exif(1)), (b"iTXt", XMP_KEYWORD + XMP_ELEMENT)),
        jpeg_with(xmp_segment(XMP_ELEMENT), exif_segment(1)),
        jpeg_with(xmp_segment(XMP_ELEMENT), exif_segment(9)),
        jpeg_with(xmp_segment(XMP % b'tiff:Orientation="9">')),
    ],
    ids=["png", "jpeg", "jpeg-of-an-unknown-value", "xmp-of-an-unknown-value"],
)
def test_xmp_counts_only_where_exif_is_silent(file: bytes) -> None:
    radiograph = decode(file)
    assert (radiograph.pixels_hw == as_seen(file)).all()
    assert radiograph.warnings == ()


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
        handmade.exif(6).replace(b"\x12\x01\x03\x00", b"\x12\x01\x05\x00"),
    ],
    ids=["empty", "short", "far", "zero", "nine", "cut", "order", "type"],
)
def test_a_broken_exif_block_states_nothing(block: bytes) -> None:
    radiograph = decode(handmade.png_of(GREY_HW, before=[(b"eXIf", block)]))
    assert (radiograph.pixels_hw == GREY_HW).all()
    assert radiograph.warnings == ()


@pytest.mark.parametrize(
    "chunk",
    [
        (b"zTXt", b"Raw profile type exif\0\0" + zlib.compress(bytes(50_000_000))),
        (b"zTXt", b"Raw profile type exif\0\0not compressed"),
        (b"tEXt", b"Raw profile type exif\0\nexif\n 9\nno hexadecimal"),
        (b"tEXt", b"Raw profile type exif\0"),
        (b"tEXt", b"Raw profile type exif"),
        (b"iTXt", b"XML:com.adobe.xmp\0\1\0\0\0" + zlib.compress(bytes(50_000_000))),
        (b"iTXt", b"XML:com.adobe.xmp\0"),
        (b"iTXt", b"XML:com.adobe.xmp\0\0\0\0\0" + b"tiff:Orientation=" * 400_000),
        (b"eXIf", b"Exif\0\0" * 1_000_000),
        (b"eXIf", b"MM\0*" + struct.pack(">IH", 8, 65_535) + bytes(8_000_000)),
    ],
    ids=[
        "bomb",
        "plain",
        "text",
        "empty",
        "alone",
        "xmp-bomb",
        "xmp",
        "xmp-long",
        "long",
        "entries",
    ],
)
def test_broken_and_endless_metadata_states_nothing_and_costs_little(chunk: handmade.Chunk) -> None:
    file = png_with(chunk)
    tracemalloc.start()
    radiograph = decode(file)
    _, peak_bytes = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    assert (radiograph.pixels_hw == GREY_HW).all()
    assert radiograph.warnings == ()
    assert peak_bytes < 4_000_000


@pytest.mark.parametrize("kind", [b"eXIf", b"tEXt"])
def test_an_orientation_with_a_wrong_checksum_is_ignored(kind: bytes) -> None:
    text = b"Raw profile type exif\0" + raw_profile(handmade.exif(6))
    payload = handmade.exif(6) if kind == b"eXIf" else text
    broken = handmade.chunk(kind, payload, crc=7)
    file = handmade.png_of(GREY_HW)
    end_of_header = len(handmade.SIGNATURE) + 25
    file = file[:end_of_header] + broken + file[end_of_header:]
    assert (decode(file).pixels_hw == GREY_HW).all()
