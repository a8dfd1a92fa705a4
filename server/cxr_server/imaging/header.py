"""Header: image bytes -> file format, and what the formats' readers share. Next: png, jpeg."""

import struct
from typing import Literal

from cxr_server.errors import (
    ImageEmpty,
    ImageFormatUnsupported,
    ImageUnreadable,
)

FileFormat = Literal["PNG", "JPEG"]

PNG_SIGNATURE = b"\x89PNG\r\n\x1a\n"
JPEG_SIGNATURE = b"\xff\xd8\xff"

_OTHER_SIGNATURES: tuple[tuple[int, bytes, str], ...] = (
    (0, b"GIF8", "GIF"),
    (0, b"II*\x00", "TIFF"),
    (0, b"MM\x00*", "TIFF"),
    (0, b"II+\x00", "BigTIFF"),
    (0, b"MM\x00+", "BigTIFF"),
    (8, b"WEBP", "WebP"),
    (0, b"BM", "BMP"),
    (128, b"DICM", "DICOM"),
    (0, b"\x8aMNG", "MNG"),
    (0, b"\x8bJNG", "JNG"),
    (0, b"\x00\x00\x00\x0cjP", "JPEG 2000"),
    (0, b"\xff\x4f\xff\x51", "JPEG 2000"),
    (0, b"\x00\x00\x00\x0cJXL", "JPEG XL"),
    (0, b"\xff\x0a", "JPEG XL"),
    (4, b"ftyp", "HEIF or AVIF"),
    (0, b"%PDF", "PDF"),
    (0, b"<svg", "SVG"),
    (0, b"<?xml", "XML or SVG"),
    (0, b"PK\x03\x04", "ZIP"),
    (0, b"\x1f\x8b", "gzip"),
)
"""Offset, signature and name of files that people send by mistake."""

_ORIENTATION_TAG, _SHORT_TYPE = 0x0112, 3


def file_format(data: bytes) -> FileFormat:
    """Tell PNG from JPEG by the signature.

    Raises:
        ImageEmpty: There are no bytes.
        ImageUnreadable: The signature itself is cut short.
        ImageFormatUnsupported: It is something else, by name where it is well known.
    """
    if not data:
        raise ImageEmpty("The image has no bytes.")
    if data.startswith(PNG_SIGNATURE):
        return "PNG"
    if data.startswith(JPEG_SIGNATURE):
        return "JPEG"
    if PNG_SIGNATURE.startswith(data) or JPEG_SIGNATURE.startswith(data):
        raise ImageUnreadable("The image file is cut short.")
    for offset, signature, name in _OTHER_SIGNATURES:
        if data.startswith(signature, offset):
            raise ImageFormatUnsupported(f"This is a {name} file; send PNG or JPEG.")
    raise ImageFormatUnsupported("The image is neither PNG nor JPEG.")


def exif_orientation(exif: bytes) -> int:
    """Return the orientation, 1 to 8, that an EXIF block states; 1 where it states none.

    Args:
        exif: A TIFF header and what follows, without JPEG's leading "Exif" and zeros.

    Reads the first directory alone (TIFF 6.0, section 2; EXIF 2.32, tag 0x0112), whatever the
    rest of the block holds. A broken block states nothing.
    """
    order = {b"II*\x00": "<", b"MM\x00*": ">"}.get(exif[:4])
    if order is None or len(exif) < 8:
        return 1
    try:
        (directory,) = struct.unpack_from(order + "I", exif, 4)
        (entry_count,) = struct.unpack_from(order + "H", exif, directory)
        for index in range(entry_count):
            entry = directory + 2 + 12 * index
            tag, kind, count, value = struct.unpack_from(order + "HHIH", exif, entry)
            if tag == _ORIENTATION_TAG:
                stated = kind == _SHORT_TYPE and count == 1 and 1 <= value <= 8
                return int(value) if stated else 1
    except struct.error:
        return 1
    return 1
