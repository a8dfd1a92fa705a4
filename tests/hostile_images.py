"""A corpus of broken, lying and unwanted image files, with the reasons that they are to get."""

import zlib
from collections.abc import Iterator

import numpy as np

from handmade import (
    SIGNATURE,
    chunk,
    chunk_boundaries,
    ihdr,
    patched_frame,
    png_of,
    segment,
    with_segment,
    without_segments,
)
from images import chest_like, encoded, jpeg, png

EMPTY = "IMAGE_EMPTY"
UNREADABLE = "IMAGE_UNREADABLE"
UNSUPPORTED = "IMAGE_FORMAT_UNSUPPORTED"
TOO_SMALL = "IMAGE_TOO_SMALL"
TOO_MANY = "IMAGE_TOO_MANY_PIXELS"

GREY_HW = chest_like(64, 64)
Case = tuple[str, bytes, str]
"""Name, file and the reason to refuse it."""


def corpus() -> list[Case]:
    """Every case; each is to be refused for its reason, whatever it costs to find out."""
    return [*_not_images(), *_other_formats(), *_broken_png(), *_lying_png(), *_broken_jpeg()]


def _not_images() -> Iterator[Case]:
    yield "empty", b"", EMPTY
    yield "one-byte", b"x", UNSUPPORTED
    yield "text", b"A chest radiograph, honestly." * 40, UNSUPPORTED
    yield "zeros", bytes(4096), UNSUPPORTED
    yield "noise", np.random.default_rng(1).bytes(4096), UNSUPPORTED
    yield "half-a-png-signature", SIGNATURE[:4], UNREADABLE
    yield "png-signature-alone", SIGNATURE, UNREADABLE
    yield "half-a-jpeg-signature", b"\xff\xd8", UNREADABLE
    yield "jpeg-signature-alone", b"\xff\xd8\xff", UNREADABLE
    yield "png-through-text-mode", png(GREY_HW).replace(b"\r\n", b"\n"), UNSUPPORTED
    yield "png-behind-a-space", b" " + png(GREY_HW), UNSUPPORTED


def _other_formats() -> Iterator[Case]:
    for file_format in ("GIF", "TIFF", "WEBP", "BMP", "ICO", "PPM", "JPEG2000"):
        yield file_format.lower(), encoded(GREY_HW, file_format), UNSUPPORTED
    yield "svg", b'<svg xmlns="http://www.w3.org/2000/svg" width="9" height="9"/>', UNSUPPORTED
    entity = b'<?xml version="1.0"?><!DOCTYPE a [<!ENTITY b "bbbb">]><svg>&b;</svg>'
    yield "xml-with-entities", entity, UNSUPPORTED
    yield "dicom", bytes(128) + b"DICM" + bytes(400), UNSUPPORTED
    yield "pdf", b"%PDF-1.7\n%\xe2\xe3", UNSUPPORTED
    yield "gzip-bomb", _gzip_bomb(), UNSUPPORTED
    yield "zip", b"PK\x03\x04" + bytes(100), UNSUPPORTED
    yield "polyglot-gif-png", b"GIF89a" + png(GREY_HW), UNSUPPORTED


def _gzip_bomb() -> bytes:
    deflate = zlib.compressobj(9, zlib.DEFLATED, 31)
    return deflate.compress(bytes(50_000_000)) + deflate.flush()


def _broken_png() -> Iterator[Case]:
    whole = png_of(GREY_HW, before=[(b"gAMA", bytes(4))], after=[(b"tEXt", b"k\0v")])
    for offset in chunk_boundaries(whole):
        yield f"png-cut-at-{offset}", whole[:offset], UNREADABLE
    yield "png-without-its-last-byte", whole[:-1], UNREADABLE
    for kind in (b"IHDR", b"gAMA", b"IDAT", b"IEND"):
        at = whole.index(kind) + 4 + (0 if kind == b"IEND" else 1)
        flipped = whole[:at] + bytes([whole[at] ^ 0x10]) + whole[at + 1 :]
        yield f"png-with-a-flipped-bit-in-{kind.decode()}", flipped, UNREADABLE
    head = chunk(b"IHDR", ihdr(64, 64))
    end = chunk(b"IEND")
    rows = zlib.compress(b"\0" * 65 * 64)
    yield "png-without-pixels", SIGNATURE + head + end, UNREADABLE
    yield "png-of-pixels-alone", SIGNATURE + chunk(b"IDAT", rows) + end, UNREADABLE
    yield "png-with-two-headers", SIGNATURE + head + head + chunk(b"IDAT", rows) + end, UNREADABLE
    split = chunk(b"IDAT", rows[:9]) + chunk(b"tIME", bytes(7)) + chunk(b"IDAT", rows[9:])
    yield "png-with-scattered-pixels", SIGNATURE + head + split + end, UNREADABLE
    yield (
        "png-of-garbage-pixels",
        SIGNATURE + head + chunk(b"IDAT", b"garbage" * 9) + end,
        UNREADABLE,
    )
    filters = zlib.compress((b"\x09" + bytes(64)) * 64)
    yield "png-of-unknown-filters", SIGNATURE + head + chunk(b"IDAT", filters) + end, UNREADABLE
    yield "png-with-a-huge-chunk", SIGNATURE + head + b"\xff\xff\xff\xf0IDAT" + rows, UNREADABLE
    many = chunk(b"tEXt", b"") * 17_000
    yield "png-of-17000-chunks", SIGNATURE + head + many + chunk(b"IDAT", rows) + end, UNREADABLE
    unknown = chunk(b"NEED", b"")
    yield "png-with-a-needed-extension", SIGNATURE + head + unknown + end, UNSUPPORTED
    frames = [(b"acTL", (3).to_bytes(4, "big") + bytes(4))]
    yield "animated-png", png_of(GREY_HW, before=frames), UNSUPPORTED
    index_hw = GREY_HW >> 6
    yield "png-without-its-palette", png_of(index_hw, 2, 3), UNREADABLE
    yield "png-with-half-a-color", png_of(index_hw, 2, 3, before=[(b"PLTE", bytes(5))]), UNREADABLE
    yield "png-with-257-colors", png_of(index_hw, 8, 3, before=[(b"PLTE", bytes(771))]), UNREADABLE
    yield "png-with-half-a-transparency", png_of(GREY_HW, before=[(b"tRNS", b"\0")]), UNREADABLE


def _lying_png() -> Iterator[Case]:
    def lying(header: bytes, rows: bytes = b"\0" * 65 * 64) -> bytes:
        chunks = (chunk(b"IHDR", header), chunk(b"IDAT", zlib.compress(rows, 9)), chunk(b"IEND"))
        return SIGNATURE + b"".join(chunks)

    yield "png-of-65535-pixels-a-side", lying(ihdr(65_535, 65_535)), TOO_MANY
    yield "png-of-two-billion-columns", lying(ihdr(2**31 - 1, 40)), TOO_MANY
    yield "png-of-too-many-pixels", lying(ihdr(9_000, 9_000)), TOO_MANY
    yield "png-of-a-side-beyond-the-format", lying(ihdr(2**31, 64)), UNREADABLE
    yield "png-of-zero-width", lying(ihdr(0, 64)), UNREADABLE
    yield "png-of-zero-height", lying(ihdr(64, 0)), UNREADABLE
    yield "png-of-one-pixel", png_of(GREY_HW[:1, :1]), TOO_SMALL
    yield "png-of-31-rows", png_of(GREY_HW[:31]), TOO_SMALL
    yield "png-of-more-rows-than-there-are", lying(ihdr(64, 4_000)), UNREADABLE
    short_pass = lying(ihdr(64, 64, interlace=1), bytes(9 * 8))
    yield "interlaced-png-of-its-first-pass", short_pass, UNREADABLE
    for bit_depth, color_type in ((1, 0), (16, 0), (8, 2), (8, 4), (8, 6), (16, 6)):
        name = f"png-of-half-its-rows-with-{bit_depth}-bits-and-type-{color_type}"
        stride = 1 + 64 * bit_depth * {0: 1, 2: 3, 4: 2, 6: 4}[color_type] // 8
        yield name, lying(ihdr(64, 64, bit_depth, color_type), bytes(stride * 32)), UNREADABLE
    yield "png-of-wider-rows-than-there-are", lying(ihdr(4_000, 64)), UNREADABLE
    yield "png-of-16-bits-that-are-8", lying(ihdr(64, 64, 16)), UNREADABLE
    for bit_depth, color_type in ((3, 0), (16, 3), (4, 2), (8, 1), (8, 5), (8, 7), (0, 0)):
        name = f"png-of-{bit_depth}-bits-and-type-{color_type}"
        yield name, lying(ihdr(64, 64, bit_depth, color_type)), UNREADABLE
    for place, name in ((10, "compression"), (11, "filter"), (12, "interlace")):
        header = bytearray(ihdr(64, 64))
        header[place] = 7
        yield f"png-of-unknown-{name}", lying(bytes(header)), UNREADABLE
    yield "png-of-a-long-header", lying(ihdr(64, 64) + b"\0"), UNREADABLE


def _broken_jpeg() -> Iterator[Case]:
    whole = jpeg(GREY_HW, quality=90)
    scan = whole.index(b"\xff\xda")
    for offset in (4, 12, 30, scan - 40, scan, scan + 2, scan + 6, scan + 10, scan + 60):
        yield f"jpeg-cut-at-{offset}", whole[:offset], UNREADABLE
    yield "jpeg-without-its-end", whole[:-2], UNREADABLE
    # Closed properly, so that a lenient decoder fills the rest with grey.
    half = whole[: (scan + len(whole)) // 2]
    yield "jpeg-of-half-the-pixels", half + b"\xff\xd9", UNREADABLE
    progressive = jpeg(chest_like(200, 200), progressive=True)
    yield "progressive-jpeg-cut-in-half", progressive[: len(progressive) // 2], UNREADABLE
    yield "jpeg-of-12-bits", patched_frame(whole, precision=12), UNSUPPORTED
    yield "jpeg-of-16-bits", patched_frame(whole, precision=16), UNSUPPORTED
    kinds = {"lossless": 0xC3, "hierarchical": 0xC5, "arithmetic": 0xC9, "jpeg-ls": 0xF7}
    for name, marker in kinds.items():
        yield f"{name}-frame", patched_frame(whole, marker), UNSUPPORTED
    arithmetic = with_segment(whole, 0xCC, b"\0\x10")
    yield "jpeg-with-arithmetic-tables", arithmetic, UNSUPPORTED
    yield "jpeg-of-two-components", patched_frame(whole, components=2), UNREADABLE
    yield "jpeg-of-two-real-components", _two_components(whole), UNSUPPORTED
    yield "jpeg-of-65535-pixels-a-side", patched_frame(whole, height=65_535, width=65_535), TOO_MANY
    yield "jpeg-of-zero-height", patched_frame(whole, height=0), UNREADABLE
    yield "jpeg-of-zero-width", patched_frame(whole, width=0), UNREADABLE
    yield "jpeg-of-31-rows", jpeg(GREY_HW[:31]), TOO_SMALL
    yield "jpeg-of-more-rows-than-there-are", patched_frame(whole, height=8_000), UNREADABLE
    yield "jpeg-with-two-frames", _two_frames(whole), UNREADABLE
    yield "jpeg-without-a-frame", without_segments(whole, 0xC0), UNREADABLE
    yield "jpeg-without-tables", without_segments(whole, 0xC4, 0xDB), UNREADABLE
    yield "jpeg-with-junk-between-segments", whole[:20] + b"junk" + whole[20:], UNREADABLE
    yield "jpeg-with-a-segment-of-no-length", whole[:2] + b"\xff\xe5\0\0" + whole[2:], UNREADABLE
    yield "jpeg-of-several-pictures", with_segment(whole, 0xE2, b"MPF\0II*\0"), UNSUPPORTED
    yield "jpeg-of-fill-bytes", b"\xff\xd8" + b"\xff" * 3_000_000, UNREADABLE
    yield "jpeg-of-9000-comments", whole[:2] + segment(0xFE, b"") * 9_000 + whole[2:], UNREADABLE
    tables = segment(0xDB, b"".join(bytes([slot % 4]) + b"\1" * 64 for slot in range(900)))
    yield "jpeg-of-3600-tables", whole[:2] + tables * 4 + whole[2:], UNREADABLE
    yield "progressive-jpeg-of-5000-scans", _many_scans(progressive, 5_000), UNREADABLE
    yield "jpeg-that-is-a-png-inside", b"\xff\xd8\xff" + png(GREY_HW), UNREADABLE


def _two_components(whole: bytes) -> bytes:
    start = whole.index(b"\xff\xc0")
    (length,) = whole[start + 3 : start + 4]
    frame = bytearray(whole[start + 4 : start + 2 + length])
    frame[5] = 2
    return (
        whole[:start] + segment(0xC0, bytes(frame) + b"\x02\x11\x00") + whole[start + 2 + length :]
    )


def _two_frames(whole: bytes) -> bytes:
    start = whole.index(b"\xff\xc0")
    length = whole[start + 3]
    return whole[: start + 2 + length] + whole[start:]


def _many_scans(progressive: bytes, scan_count: int) -> bytes:
    """A progressive file whose last scan comes again and again: small, and slow to decode."""
    last = progressive.rindex(b"\xff\xda")
    scan = progressive[last:-2]
    return progressive[:last] + scan * scan_count + b"\xff\xd9"
