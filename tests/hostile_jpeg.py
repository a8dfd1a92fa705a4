"""JPEG files that somebody might send to do harm, or by mistake: name, file and how it may end."""

import io
import random
import struct
from collections.abc import Iterator

import numpy as np
from PIL import Image

from handmade import segment
from hostile_ends import HEATMAP, MIB, OK, TOO_MANY, TOO_SMALL, UNREADABLE, UNSUPPORTED
from images import chest_like, jpeg


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
    yield "jpeg cut before its end marker", whole[:-2], UNREADABLE
    # Closed properly, so that a lenient decoder fills the rest with grey.
    closed = whole[: place + len(scan) // 2] + whole[-2:]
    yield "jpeg of half its pixels, with an end marker", closed, UNREADABLE
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
    yield "jpeg of several pictures", joined([(0xE2, b"MPF\0" + bytes(60)), *parts], scan), OK
    mark = (0xFE, b"cxr-serve {}")
    yield "jpeg drawn by this service", joined([*parts[:1], mark, *parts[1:]], scan), HEATMAP
    yield "jpeg with arithmetic tables", joined([(0xCC, b"\0\x10"), *parts], scan), UNSUPPORTED
    for name, junk in [("zeros", b"\0"), ("stuffed zeros", b"\xff\0"), ("fill bytes", b"\xff")]:
        data = whole[:20] + junk * (2 * MIB) + whole[20:]
        yield f"jpeg with 2 MiB of {name} between segments", data, OK
    yield "jpeg with text between segments", whole[:20] + b"junk" + whole[20:], OK
    yield "jpeg of restarts without end", whole[:2] + b"\xff\xd0" * (10 * MIB), UNREADABLE
    for name, exif in [
        ("that points at itself", b"II*\0" + struct.pack("<I", 4) + bytes(64)),
        ("of 65535 entries", b"MM\0*" + struct.pack(">IH", 8, 65_535) + bytes(600)),
        ("of orientation 6", b"MM\0*" + struct.pack(">IHHHIHH", 8, 1, 0x0112, 3, 1, 6, 0)),
        ("of orientation 99", b"MM\0*" + struct.pack(">IHHHIHH", 8, 1, 0x0112, 3, 1, 99, 0)),
    ]:
        yield f"jpeg EXIF {name}", joined([(0xE1, b"Exif\0\0" + exif), *parts], scan), OK
    packets = [(0xE1, b"http://ns.adobe.com/xap/1.0/\0" + b"tiff:Orientation=" * 3_000)] * 300
    yield "jpeg XMP of 15 MiB", joined([*packets, *parts], scan), OK
    yield "jpeg segment of length 0", b"\xff\xd8\xff\xdb\0\0" + whole[2:], UNREADABLE
    yield "jpeg of fill bytes alone", b"\xff\xd8" + b"\xff" * 3 * MIB, UNREADABLE
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
    comments = segment(0xFE, b"\xff\xd9") * 9_000
    yield "jpeg of 9,000 comments between scans", many[:last] + comments + many[last:], UNREADABLE
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


PARTS = (_jpeg_cuts, _jpeg_frames, _jpeg_tables, _jpeg_kinds)
