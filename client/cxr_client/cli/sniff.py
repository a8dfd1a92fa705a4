"""Sniff: the first bytes of a file, and its texts -> what it is. Next: files."""

from collections.abc import Iterator
from typing import BinaryIO

HEAD_BYTES = 4096
"""How many bytes of a file `kind_of` needs."""

IMAGES = {"DICOM", "PNG", "JPEG"}
"""The formats to send, as `kind_of` names them."""

_PNG = b"\x89PNG\r\n\x1a\n"
_JPEG = b"\xff\xd8\xff"
_SIGNATURES = (
    (128, b"DICM", "DICOM"),  # Before the others: its preamble may be the header of a TIFF.
    (0, _PNG, "PNG"),
    (0, _JPEG, "JPEG"),
    (0, b"BM", "BMP"),
    (0, b"GIF8", "GIF"),
    (0, b"II*\0", "TIFF"),
    (0, b"MM\0*", "TIFF"),
    (8, b"WEBP", "WebP"),
    (4, b"jP  ", "JPEG 2000"),
    (0, b"\xff\x4f\xff\x51", "JPEG 2000"),
    (4, b"ftypheic", "HEIC"),
    (4, b"ftypavif", "AVIF"),
    (344, b"n+1\0", "NIfTI"),
    (0, b"%PDF", "PDF"),
)

_BARE_DICOM = "DICOM without preamble"
_DICOM_OBJECTS = (
    (b"1.2.840.10008.1.3.10", "DICOM directory"),
    (b"1.2.840.10008.5.1.4.1.1.11.", "DICOM presentation state"),
    (b"1.2.840.10008.5.1.4.1.1.88.", "DICOM report"),
    (b"1.2.840.10008.5.1.4.1.1.104.", "DICOM document"),
)
"""Beginning of the class UID of DICOM objects that are no images, and what they are."""
NO_IMAGE = {_BARE_DICOM, *(kind for _, kind in _DICOM_OBJECTS)}
_CLASS_UID = b"\2\0\2\0UI"  # Media Storage SOP Class UID, in the file meta information.

_MARK = b"cxr-serve"
_TEXTS = (b"tEXt", b"zTXt", b"iTXt")
_MAX_PARTS = 4096  # a file of 32 MiB in parts of 8 KiB, as libpng writes them
_STANDALONE = {0x01, *range(0xD0, 0xD8)}
_START_OF_SCAN, _END_OF_IMAGE, _COMMENT = 0xDA, 0xD9, 0xFE


def kind_of(head: bytes) -> str:
    """Return the format of a file, such as "PNG" or "DICOM"; "other file" if it is unknown.

    DICOM files that hold no image are one of `NO_IMAGE`.
    """
    for offset, signature, kind in _SIGNATURES:
        if head.startswith(signature, offset):
            return _dicom_object(head) if kind == "DICOM" else kind
    return _BARE_DICOM if _is_bare_dicom(head) else "other file"


def _dicom_object(head: bytes) -> str:
    at = head.find(_CLASS_UID, 132)
    for start, kind in _DICOM_OBJECTS:
        if at >= 0 and head.startswith(start, at + len(_CLASS_UID) + 2):
            return kind
    return "DICOM"


def is_heatmap(file: BinaryIO) -> bool:
    """Return whether a PNG or JPEG file is a picture drawn by cxr-serve. Seeks, and reads little.

    Such a picture carries "cxr-serve" as the keyword of a text chunk, of any of the three kinds
    since other programs may have saved it again, or before a space in a comment.
    """
    start = _read(file, 0, len(_PNG))
    if start == _PNG:
        mark = _MARK + b"\0"
        return any(
            kind in _TEXTS and _read(file, at, len(mark)) == mark for kind, at in _chunks(file)
        )
    if start.startswith(_JPEG):
        mark = _MARK + b" "
        return any(
            marker == _COMMENT and _read(file, at, len(mark)) == mark
            for marker, at in _segments(file)
        )
    return False


def _is_bare_dicom(head: bytes) -> bool:
    """Return whether this is DICOM without preamble: it starts with an element of group 2 or 8."""
    group, value_representation, length = head[:2], head[4:6], head[6:8]
    explicit = value_representation.isalpha() and value_representation.isupper()
    return group in (b"\x02\0", b"\x08\0") and (explicit or length == b"\0\0")


def _read(file: BinaryIO, at: int, size: int) -> bytes:
    file.seek(at)
    return file.read(size)


def _chunks(png: BinaryIO) -> Iterator[tuple[bytes, int]]:
    """Yield the type and the offset of the data of each chunk."""
    at = len(_PNG)
    for _ in range(_MAX_PARTS):
        head = _read(png, at, 8)
        if len(head) < 8:
            return
        yield head[4:], at + 8
        at += 12 + int.from_bytes(head[:4])


def _segments(jpeg: BinaryIO) -> Iterator[tuple[int, int]]:
    """Yield the marker and the offset of the payload of each segment before the first scan."""
    at = 2
    for _ in range(_MAX_PARTS):
        head = _read(jpeg, at, 4)
        if len(head) < 4 or head[0] != 0xFF or head[1] in (_START_OF_SCAN, _END_OF_IMAGE):
            return
        if head[1] == 0xFF:  # A fill byte.
            at += 1
        elif head[1] in _STANDALONE:
            at += 2
        else:
            yield head[1], at + 4
            at += 2 + int.from_bytes(head[2:])
