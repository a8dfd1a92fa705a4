"""Image files that somebody might send to do harm, or by mistake: built here, byte by byte.

Each case says how it must end: "OK", a reason, or several where both are right.
"""

import gzip
import io
import random
import struct
import zipfile
import zlib
from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np
from PIL import Image

from images import chest_like, jpeg

OK = "OK"
EMPTY, UNREADABLE = "IMAGE_EMPTY", "IMAGE_UNREADABLE"
UNSUPPORTED = "IMAGE_FORMAT_UNSUPPORTED"
TOO_SMALL, TOO_MANY = "IMAGE_TOO_SMALL", "IMAGE_TOO_MANY_PIXELS"

SIDE = 48
SIGNATURE = b"\x89PNG\r\n\x1a\n"
MIB = 2**20


@dataclass(frozen=True)
class Case:
    """A file, and how a call with it may end."""

    name: str
    data: bytes
    ends: tuple[str, ...]

    def __repr__(self) -> str:
        return f"{self.name} ({len(self.data)} bytes)"


def cases() -> list[Case]:
    """Build all of them; some seconds, some 100 MB."""
    made = [Case(name, data, ends) for part in _PARTS for name, data, *ends in part()]
    assert len({case.name for case in made}) == len(made)
    return made


# --- PNG ---


def chunk(kind: bytes, payload: bytes = b"", crc: int | None = None) -> bytes:
    crc = zlib.crc32(kind + payload) if crc is None else crc
    return struct.pack(">I", len(payload)) + kind + payload + struct.pack(">I", crc)


def ihdr(
    width: int = SIDE, height: int = SIDE, depth: int = 8, color: int = 0, interlace: int = 0
) -> bytes:
    return chunk(b"IHDR", struct.pack(">IIBBBBB", width, height, depth, color, 0, 0, interlace))


def rows(row_bytes: int = SIDE, count: int = SIDE, filter_type: int = 0) -> bytes:
    """Filtered scan lines of a ramp."""
    line = bytes(n * 5 % 256 for n in range(row_bytes))
    return (bytes([filter_type]) + line) * count


def idat(raw: bytes | None = None) -> bytes:
    return chunk(b"IDAT", zlib.compress(rows() if raw is None else raw))


def bomb(total: int) -> bytes:
    """A zlib stream of zeros that grows some two hundredfold."""
    pack = zlib.compressobj(1)
    zeros = bytes(MIB)
    return b"".join(pack.compress(zeros) for _ in range(total // MIB)) + pack.flush()


END = chunk(b"IEND")
GOOD_PNG_CHUNKS = [
    ihdr(),
    chunk(b"gAMA", struct.pack(">I", 45_455)),
    chunk(b"tEXt", b"Comment\0hello"),
    *(
        chunk(b"IDAT", part)
        for packed in [zlib.compress(rows())]
        for part in (packed[:20], packed[20:40], packed[40:])
    ),
    END,
]


def png_of(*chunks: bytes) -> bytes:
    return SIGNATURE + b"".join(chunks)


def _png_cuts() -> Iterator[tuple[str, ...]]:
    whole = png_of(*GOOD_PNG_CHUNKS)
    yield "png whole", whole, OK
    place = len(SIGNATURE)
    for number, each in enumerate(GOOD_PNG_CHUNKS):
        yield f"png cut before chunk {number}", whole[:place], UNREADABLE
        yield f"png cut in chunk {number}", whole[: place + 6], UNREADABLE
        place += len(each)
    yield "png cut in its last checksum", whole[:-1], UNREADABLE
    yield "png cut in its signature", whole[:5], UNREADABLE


def _png_headers() -> Iterator[tuple[str, ...]]:
    for name, (width, height), *ends in [
        ("zero width", (0, SIDE), UNREADABLE),
        ("zero height", (SIDE, 0), UNREADABLE),
        ("zero both", (0, 0), UNREADABLE),
        ("65535 both", (65_535, 65_535), TOO_MANY),
        ("65535 wide", (65_535, SIDE), TOO_MANY),
        ("65535 by 1", (65_535, 1), TOO_SMALL),
        ("largest side", (2**31 - 1, 2**31 - 1), TOO_MANY),
        ("side above the specification", (2**32 - 1, SIDE), UNREADABLE),
        ("16384 both", (16_384, 16_384), TOO_MANY),
        ("31 high", (SIDE, 31), TOO_SMALL),
        ("taller than its data", (SIDE, 10 * SIDE), UNREADABLE),
        ("wider than its data", (4 * SIDE, SIDE), UNREADABLE),
        ("as large as is allowed, without data", (7000, 7000), UNREADABLE),
        ("shorter than its data", (SIDE, SIDE - 8), OK, UNREADABLE),
    ]:
        yield f"png header says {name}", png_of(ihdr(width, height), idat(), END), *ends
    for depth, color in [(16, 0), (8, 2), (16, 6)]:
        data = png_of(ihdr(depth=depth, color=color), idat(), END)
        yield f"png header says type {color} of {depth} bits", data, UNREADABLE
    for depth, color in [(3, 0), (0, 0), (4, 2), (16, 3), (8, 1), (8, 255)]:
        data = png_of(ihdr(depth=depth, color=color), idat(), END)
        yield f"png has no type {color} of {depth} bits", data, UNREADABLE
    yield "png header says interlaced", png_of(ihdr(interlace=1), idat(), END), UNREADABLE, OK
    yield "png interlace method 9", png_of(ihdr(interlace=9), idat(), END), UNREADABLE
    yield "png header of 12 bytes", png_of(chunk(b"IHDR", bytes(12)), idat(), END), UNREADABLE
    yield "png with two headers", png_of(ihdr(), ihdr(96, 96), idat(), END), UNREADABLE
    yield "png without header", png_of(idat(), END), UNREADABLE


def _png_chunks() -> Iterator[tuple[str, ...]]:
    for kind in (b"IDAT", b"tEXt"):
        broken = [each if each[4:8] != kind else each[:-1] + b"\0" for each in GOOD_PNG_CHUNKS]
        yield f"png wrong checksum in {kind.decode()}", png_of(*broken), UNREADABLE
    yield "png wrong checksum in IHDR", png_of(ihdr()[:-1] + b"\0", idat(), END), UNREADABLE
    packed = zlib.compress(rows())
    wrong_sum = chunk(b"IDAT", packed[:-4] + b"\0\0\0\0")
    yield "png wrong adler sum", png_of(ihdr(), wrong_sum, END), UNREADABLE, OK
    yield (
        "png wrong zlib header",
        png_of(ihdr(), chunk(b"IDAT", b"zz" + packed[2:]), END),
        UNREADABLE,
    )
    yield "png unknown row filter", png_of(ihdr(), idat(rows(filter_type=7)), END), UNREADABLE
    yield "png pixels are noise", png_of(ihdr(), chunk(b"IDAT", bytes(range(256))), END), UNREADABLE
    yield "png no pixels", png_of(ihdr(), END), UNREADABLE
    yield "png empty pixels", png_of(ihdr(), chunk(b"IDAT"), END), UNREADABLE
    yield "png pixels after the end", png_of(ihdr(), END, idat()), UNREADABLE
    text = chunk(b"tEXt", b"a\0b")
    split = png_of(ihdr(), chunk(b"IDAT", packed[:30]), text, chunk(b"IDAT", packed[30:]), END)
    yield "png pixels interrupted", split, UNREADABLE
    unknown = png_of(ihdr(), chunk(b"ABCD", b"x"), idat(), END)
    yield "png unknown critical chunk", unknown, UNSUPPORTED
    for length in (0x7FFFFFFF, 0xFFFFFFFF):
        data = png_of(ihdr()) + struct.pack(">I", length) + b"IDAT" + packed
        yield f"png chunk of {length:#x} bytes", data, UNREADABLE
    palette_rows = idat(rows())
    yield "png without palette", png_of(ihdr(color=3), palette_rows, END), UNREADABLE
    short = chunk(b"PLTE", bytes(6))
    yield (
        "png palette too short for its pixels",
        png_of(ihdr(color=3), short, palette_rows, END),
        OK,
        UNREADABLE,
    )
    yield (
        "png palette of 7 bytes",
        png_of(ihdr(color=3), chunk(b"PLTE", bytes(7)), palette_rows, END),
        UNREADABLE,
    )
    yield (
        "png palette of 300 colours",
        png_of(ihdr(color=3), chunk(b"PLTE", bytes(900)), palette_rows, END),
        UNREADABLE,
    )
    late = png_of(ihdr(color=3), palette_rows, short, END)
    yield "png palette after the pixels", late, UNREADABLE
    odd = png_of(ihdr(), chunk(b"tRNS", b"abc"), idat(), END)
    yield "png transparency of 3 bytes", odd, UNREADABLE
    for frames, end in [(1, OK), (3, UNSUPPORTED), (0, UNSUPPORTED)]:
        control = chunk(b"acTL", struct.pack(">II", frames, 0))
        yield f"png animation of {frames} frames", png_of(ihdr(), control, idat(), END), end
    yield "png animation cut short", png_of(ihdr(), chunk(b"acTL", b"ab"), idat(), END), UNSUPPORTED
    for name, exif in [
        ("of nothing", b""),
        ("that points at itself", b"II*\0" + struct.pack("<I", 4) + bytes(64)),
        ("of 65535 entries", b"MM\0*" + struct.pack(">IH", 8, 65_535) + bytes(600)),
        ("beyond its end", b"MM\0*" + struct.pack(">I", 2**32 - 1)),
    ]:
        yield f"png EXIF {name}", png_of(ihdr(), chunk(b"eXIf", exif), idat(), END), OK


def _png_bombs() -> Iterator[tuple[str, ...]]:
    grows = bomb(512 * MIB)
    yield (
        "png pixels that grow to 512 MiB",
        png_of(ihdr(), chunk(b"IDAT", grows), END),
        OK,
        UNREADABLE,
    )
    for kind, head in [
        (b"zTXt", b"Comment\0\0"),
        (b"iTXt", b"Comment\0\1\0\0\0"),
        (b"iCCP", b"profile\0\0"),
    ]:
        data = png_of(ihdr(), chunk(kind, head + grows), idat(), END)
        yield f"png {kind.decode()} that grows to 512 MiB", data, OK
    yield (
        "png text of 20 MiB",
        png_of(ihdr(), chunk(b"tEXt", b"a\0" + b"x" * 20 * MIB), idat(), END),
        OK,
    )
    yield (
        "png profile of 20 MiB",
        png_of(ihdr(), chunk(b"iCCP", b"a\0\0" + bytes(20 * MIB)), idat(), END),
        OK,
    )
    small = chunk(b"tEXt", b"a\0b")
    yield "png of 16,000 texts", png_of(ihdr(), small * 16_000, idat(), END), OK
    yield "png of 20,000 texts", png_of(ihdr(), small * 20_000, idat(), END), UNREADABLE
    packed = zlib.compress(rows())
    crumbs = b"".join(chunk(b"IDAT", packed[n : n + 1]) for n in range(len(packed)))
    yield "png pixels in crumbs", png_of(ihdr(), crumbs, END), OK
    empties = chunk(b"IDAT") * 50_000
    yield "png 50,000 empty pixel chunks", png_of(ihdr(), empties, idat(), END), OK, UNREADABLE
    # Allowed by its size; 49 million pixels from 200 KB, and 392 MB of raw rows from 1.7 MB.
    for name, depth, color, pixel_bytes in [("grey", 8, 0, 1), ("16-bit RGBA", 16, 6, 8)]:
        pack = zlib.compressobj(1)
        row = bytes(1 + 7000 * pixel_bytes)
        raw = b"".join(pack.compress(row) for _ in range(7000)) + pack.flush()
        data = png_of(ihdr(7000, 7000, depth, color), chunk(b"IDAT", raw), END)
        yield f"png 7000 x 7000 black {name}", data, OK


# --- JPEG ---


def segment(marker: int, payload: bytes) -> bytes:
    return struct.pack(">BBH", 0xFF, marker, len(payload) + 2) + payload


def segments(data: bytes) -> tuple[list[tuple[int, bytes]], bytes]:
    """Marker and payload of each segment before the first scan, and the scan with the rest."""
    found, place = [], 2
    while data[place + 1] != 0xDA:
        marker, length = struct.unpack_from(">xBH", data, place)
        found.append((marker, data[place + 4 : place + 2 + length]))
        place += 2 + length
    return found, data[place:]


def joined(parts: list[tuple[int, bytes]], scan: bytes) -> bytes:
    return b"\xff\xd8" + b"".join(segment(*part) for part in parts) + scan


def _with(data: bytes, marker: int, change: object) -> bytes:
    parts, scan = segments(data)
    changed = [(m, change(p) if m == marker else p) for m, p in parts]  # type: ignore[operator]
    return joined(changed, scan)


def _base_jpeg(**options: object) -> bytes:
    return jpeg(chest_like(64, 64), quality=80, **options)


def _colors() -> np.ndarray:
    return np.random.default_rng(3).integers(0, 256, (64, 64, 3), dtype=np.uint8)


def _cmyk() -> bytes:
    file = io.BytesIO()
    Image.fromarray(_colors()).convert("CMYK").save(file, "JPEG")
    return file.getvalue()


def _jpeg_cuts() -> Iterator[tuple[str, ...]]:
    whole = _base_jpeg()
    yield "jpeg whole", whole, OK
    parts, scan = segments(whole)
    place = 2
    for number, (_, payload) in enumerate(parts):
        yield f"jpeg cut before segment {number}", whole[:place], UNREADABLE
        yield f"jpeg cut in segment {number}", whole[: place + 3], UNREADABLE
        place += 4 + len(payload)
    yield "jpeg cut before its pixels", whole[:place], UNREADABLE
    yield "jpeg cut in its scan header", whole[: place + 6], UNREADABLE
    yield "jpeg cut in its pixels", whole[: place + len(scan) // 2], UNREADABLE
    yield "jpeg cut before its end marker", whole[:-2], UNREADABLE, OK
    yield "jpeg of two bytes", whole[:2], UNREADABLE
    many = _base_jpeg(progressive=True)
    yield "jpeg cut in its progressive scans", many[: len(many) * 2 // 3], UNREADABLE


def _jpeg_frames() -> Iterator[tuple[str, ...]]:
    whole = _base_jpeg()

    def sized(height: int, width: int) -> bytes:
        return _with(whole, 0xC0, lambda p: p[:1] + struct.pack(">HH", height, width) + p[5:])

    for height, width, *ends in [
        (0, 64, UNREADABLE),
        (64, 0, UNREADABLE),
        (65_535, 65_535, TOO_MANY),
        (65_535, 64, TOO_MANY),
        (1, 65_535, TOO_SMALL),
        (640, 640, UNREADABLE),
        (32, 32, OK, UNREADABLE),
        (7000, 7000, UNREADABLE),
    ]:
        yield f"jpeg header says {width} x {height}", sized(height, width), *ends
    for precision in (0, 12, 16):
        data = _with(whole, 0xC0, lambda p, bits=precision: bytes([bits]) + p[1:])
        yield f"jpeg of {precision} bits", data, UNSUPPORTED
    for count in (0, 2, 5, 255):
        data = _with(whole, 0xC0, lambda p, n=count: p[:5] + bytes([n]) + bytes(3 * n))
        yield f"jpeg of {count} components", data, UNSUPPORTED, UNREADABLE
    parts, scan = segments(whole)
    for marker in (0xC3, 0xC5, 0xC9, 0xCA, 0xF7):
        data = joined([(marker if m == 0xC0 else m, p) for m, p in parts], scan)
        yield f"jpeg frame marker {marker:#x}", data, UNSUPPORTED
    no_frame = joined([part for part in parts if part[0] != 0xC0], scan)
    yield "jpeg without frame", no_frame, UNREADABLE
    twice = joined([*parts, next(part for part in parts if part[0] == 0xC0)], scan)
    yield "jpeg with two frames", twice, UNREADABLE
    wild = _with(whole, 0xC0, lambda p: p[:7] + b"\xff" + p[8:])
    yield "jpeg sampling of 15 x 15", wild, UNREADABLE, UNSUPPORTED
    nowhere = _with(whole, 0xC0, lambda p: p[:8] + b"\3" + p[9:])
    yield "jpeg table that is not there", nowhere, UNREADABLE


def _jpeg_tables() -> Iterator[tuple[str, ...]]:
    whole = _base_jpeg()
    parts, scan = segments(whole)

    def deep(payload: bytes) -> bytes:  # 16-bit entries of the same values
        return bytes([payload[0] | 0x10]) + b"".join(struct.pack(">H", v) for v in payload[1:65])

    yield "jpeg 16-bit quantisation table", _with(whole, 0xDB, deep), OK, UNREADABLE
    yield (
        "jpeg quantisation of zero",
        _with(whole, 0xDB, lambda p: p[:1] + bytes(64)),
        OK,
        UNREADABLE,
    )
    for marker, name in [(0xDB, "quantisation"), (0xC4, "Huffman")]:
        without = joined([part for part in parts if part[0] != marker], scan)
        # libjpeg falls back on the standard Huffman tables, as motion JPEG wants it.
        yield f"jpeg without {name} tables", without, UNREADABLE, OK
    full = _with(whole, 0xC4, lambda p: p[:1] + b"\xff" * 16 + p[17:])
    yield "jpeg overfull Huffman table", full, UNREADABLE
    tables = [part for part in parts if part[0] == 0xDB] * 2000
    yield "jpeg of 2,000 tables", joined([*tables, *parts], scan), UNREADABLE
    comments = [(0xFE, b"x" * 65_000)] * 300
    yield "jpeg comments of 19 MiB", joined([*comments, *parts], scan), OK
    yield "jpeg of 10,000 comments", joined([(0xFE, b"")] * 10_000 + parts, scan), UNREADABLE
    profile = [(0xE2, b"ICC_PROFILE\0" + bytes([n, 250]) + bytes(65_000)) for n in range(1, 251)]
    yield "jpeg profile of 16 MiB", joined([*profile, *parts], scan), OK
    yield (
        "jpeg of several pictures",
        joined([(0xE2, b"MPF\0" + bytes(60)), *parts], scan),
        UNSUPPORTED,
    )
    for name, exif in [
        ("that points at itself", b"II*\0" + struct.pack("<I", 4) + bytes(64)),
        ("of 65535 entries", b"MM\0*" + struct.pack(">IH", 8, 65_535) + bytes(600)),
        ("of orientation 6", b"MM\0*" + struct.pack(">IHHHIHH", 8, 1, 0x0112, 3, 1, 6, 0)),
        ("of orientation 99", b"MM\0*" + struct.pack(">IHHHIHH", 8, 1, 0x0112, 3, 1, 99, 0)),
    ]:
        yield f"jpeg EXIF {name}", joined([(0xE1, b"Exif\0\0" + exif), *parts], scan), OK
    yield "jpeg segment of length 0", b"\xff\xd8\xff\xdb\0\0" + whole[2:], UNREADABLE
    yield "jpeg fill bytes of 1 MiB", b"\xff\xd8" + b"\xff" * MIB + whole[3:], OK, UNREADABLE
    yield "jpeg restarts it does not have", joined([*parts, (0xDD, b"\0\1")], scan), UNREADABLE, OK
    noise = random.Random(4).randbytes(len(scan))
    broken = scan[:20] + noise.replace(b"\xff", b"\0")
    yield "jpeg pixels are noise", joined(parts, broken), UNREADABLE, OK


def _jpeg_kinds() -> Iterator[tuple[str, ...]]:
    inverted = _cmyk()
    yield "jpeg CMYK inverted by Adobe", inverted, UNSUPPORTED
    parts, scan = segments(inverted)
    yield "jpeg CMYK plain", joined([part for part in parts if part[0] != 0xEE], scan), UNSUPPORTED
    ycck = _with(inverted, 0xEE, lambda p: p[:-1] + b"\2")
    yield "jpeg YCCK", ycck, UNSUPPORTED
    odd = _with(inverted, 0xEE, lambda p: p[:-1] + b"\x63")
    yield "jpeg Adobe transform 99", odd, UNSUPPORTED
    yield "jpeg colours", jpeg(_colors()), OK
    as_rgb = joined(
        [(0xEE, b"Adobe\0\x64\0\0\0\0\0"), *segments(jpeg(_colors()))[0]],
        segments(jpeg(_colors()))[1],
    )
    yield "jpeg RGB by Adobe", as_rgb, OK
    many = _base_jpeg(progressive=True)
    yield "jpeg progressive", many, OK
    last = many.rindex(b"\xff\xda")
    again = many[last:-2]
    yield "jpeg of 5,000 scans", many[:-2] + again * 5_000 + many[-2:], UNREADABLE
    parts, scan = segments(many)
    wide = [
        (m, p[:1] + struct.pack(">HH", 7000, 7000) + p[5:] if m == 0xC2 else p) for m, p in parts
    ]
    yield (
        "jpeg of 60 scans over 49 million pixels",
        joined(wide, scan[:-2] + again * 50 + scan[-2:]),
        UNREADABLE,
    )
    baseline = _base_jpeg()
    parts, scan = segments(baseline)
    yield "jpeg baseline with 3,000 scans", joined(parts, scan[:-2] * 3_000 + scan[-2:]), UNREADABLE
    black = io.BytesIO()
    Image.new("RGB", (7000, 7000)).save(black, "JPEG")
    yield "jpeg RGB of 7000 x 7000", black.getvalue(), OK
    yield "jpeg grey of 7000 x 7000", jpeg(np.zeros((7000, 7000), np.uint8)), OK


# --- other things ---


def _polyglots() -> Iterator[tuple[str, ...]]:
    archive = io.BytesIO()
    with zipfile.ZipFile(archive, "w") as file:
        file.writestr("run.sh", "echo hello")
    tail = archive.getvalue()
    good_png, good_jpeg = png_of(*GOOD_PNG_CHUNKS), _base_jpeg()
    yield "png with a ZIP behind it", good_png + tail, OK
    yield "jpeg with a ZIP behind it", good_jpeg + tail, OK, UNREADABLE
    yield "png with a jpeg behind it", good_png + good_jpeg, OK
    yield "jpeg with a png behind it", good_jpeg + good_png, OK, UNREADABLE
    yield "png with 10 MiB behind it", good_png + bytes(10 * MIB), OK
    yield "jpeg with 10 MiB behind it", good_jpeg + bytes(10 * MIB), OK, UNREADABLE
    yield (
        "jpeg with a script in its comment",
        joined(
            [(0xFE, b"<?php eval($_GET[0]); ?>"), *segments(good_jpeg)[0]], segments(good_jpeg)[1]
        ),
        OK,
    )
    yield "gif that is a script", b"GIF89a/*" + bytes(40) + b"*/=1;", UNSUPPORTED
    yield "pdf with a png in it", b"%PDF-1.7\n" + good_png, UNSUPPORTED
    yield "png behind a byte-order mark", b"\xef\xbb\xbf" + good_png, UNSUPPORTED
    yield "jpeg behind a line break", b"\r\n" + good_jpeg, UNSUPPORTED
    yield "jpeg in a png's clothes", SIGNATURE + good_jpeg, UNREADABLE
    yield "png in a jpeg's clothes", b"\xff\xd8\xff" + good_png, UNREADABLE
    yield "png changed by a text-mode transfer", good_png.replace(b"\r\n", b"\n"), UNSUPPORTED
    yield "gzip of a png", gzip.compress(good_png), UNSUPPORTED
    yield "gzip bomb", gzip.compress(bytes(64 * MIB)), UNSUPPORTED


def _others() -> Iterator[tuple[str, ...]]:
    for name in ("GIF", "TIFF", "WEBP", "BMP", "ICO", "PPM", "TGA", "JPEG2000"):
        file = io.BytesIO()
        Image.fromarray(chest_like(64, 64)).save(file, name)
        yield f"a {name} file", file.getvalue(), UNSUPPORTED
    yield "a DICOM file", bytes(128) + b"DICM\2\0\0\0UL\4\0" + bytes(200), UNSUPPORTED
    yield "an SVG file", b'<svg xmlns="http://www.w3.org/2000/svg"/>', UNSUPPORTED
    entity = b'<?xml version="1.0"?><!DOCTYPE a [<!ENTITY b "&c;&c;">]><svg>&b;</svg>'
    yield "an XML file with entities", entity, UNSUPPORTED
    yield "a pickle", b"\x80\x04cos\nsystem\n(S'true'\ntR.", UNSUPPORTED
    yield "nothing", b"", EMPTY
    for byte in (b"\0", b"\xfe", b"G", b" "):
        yield f"one byte {byte.hex()}", byte, UNSUPPORTED
    for byte in (b"\x89", b"\xff"):
        yield f"one byte {byte.hex()}", byte, UNREADABLE
    yield "text", "Thorax p.a. im Stehen, Befund: unauffällig".encode(), UNSUPPORTED
    yield "text in UTF-16", "no image".encode("utf-16"), UNSUPPORTED
    yield "base64 of a png", b"iVBORw0KGgoAAAANSUhEUgAAAAEAAAABCAAAAAA6fptV", UNSUPPORTED
    yield "a path", b"../../../../etc/passwd", UNSUPPORTED
    yield "zeros", bytes(4096), UNSUPPORTED
    yield "noise", random.Random(5).randbytes(4096), UNSUPPORTED


_PARTS = (
    _png_cuts,
    _png_headers,
    _png_chunks,
    _png_bombs,
    _jpeg_cuts,
    _jpeg_frames,
    _jpeg_tables,
    _jpeg_kinds,
    _polyglots,
    _others,
)
