"""Image files that somebody might send to do harm, or by mistake: built here, byte by byte.

Each case says how it must end: "OK", a reason, or several where both are right.
"""

import gzip
import io
import random
import zipfile
from collections.abc import Iterator
from dataclasses import dataclass

from PIL import Image

import hostile_jpeg
import hostile_png
from handmade import SIGNATURE, with_segment
from hostile_ends import EMPTY, MIB, OK, UNREADABLE, UNSUPPORTED
from hostile_png import GOOD_PNG_CHUNKS, png_of
from images import chest_like, jpeg


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
    parts = (*hostile_png.PARTS, *hostile_jpeg.PARTS, _polyglots, _others)
    made = [Case(name, data, ends) for part in parts for name, data, *ends in part()]
    assert len({case.name for case in made}) == len(made)
    return made


def a_zip() -> bytes:
    archive = io.BytesIO()
    with zipfile.ZipFile(archive, "w") as file:
        file.writestr("run.sh", "echo hello")
    return archive.getvalue()


def _polyglots() -> Iterator[tuple[str, ...]]:
    tail = a_zip()
    good_png, good_jpeg = png_of(*GOOD_PNG_CHUNKS), jpeg(chest_like(64, 64), quality=80)
    yield "png with a ZIP behind it", good_png + tail, OK
    yield "jpeg with a ZIP behind it", good_jpeg + tail, OK
    yield "png with a jpeg behind it", good_png + good_jpeg, OK
    yield "jpeg with a png behind it", good_jpeg + good_png, OK
    yield "png with 10 MiB behind it", good_png + bytes(10 * MIB), OK
    yield "jpeg with 10 MiB behind it", good_jpeg + bytes(10 * MIB), OK
    yield "jpeg with 5,000 scans behind it", good_jpeg + b"\xff\xda" * 5_000, OK
    yield (
        "jpeg with a script in its comment",
        with_segment(good_jpeg, 0xFE, b"<?php eval($_GET[0]); ?>"),
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
    yield "DICOM without pixels", bytes(128) + b"DICM\2\0\0\0UL\4\0" + bytes(200), UNREADABLE
    yield "a ZIP file", a_zip(), UNSUPPORTED
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
