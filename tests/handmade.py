"""PNG and JPEG files put together byte by byte, for what no encoder writes."""

import struct
import zlib
from collections.abc import Sequence

import numpy as np

SIGNATURE = b"\x89PNG\r\n\x1a\n"

Chunk = tuple[bytes, bytes]
"""Kind and payload of a PNG chunk."""


def chunk(kind: bytes, payload: bytes = b"", *, crc: int | None = None) -> bytes:
    if crc is None:
        crc = zlib.crc32(kind + payload)
    return struct.pack(">I", len(payload)) + kind + payload + struct.pack(">I", crc)


def ihdr(
    width_px: int, height_px: int, bit_depth: int = 8, color_type: int = 0, interlace: int = 0
) -> bytes:
    return struct.pack(">IIBBBBB", width_px, height_px, bit_depth, color_type, 0, 0, interlace)


def packed_rows(samples_hw: np.ndarray, bit_depth: int) -> bytes:
    """Rows of samples as PNG stores them, each behind a filter byte of 0.

    Args:
        samples_hw: The samples [H, W] or [H, W, channels], below 2 ** bit_depth.
        bit_depth: Bits for each of them.
    """
    height_px = samples_hw.shape[0]
    flat = samples_hw.reshape(height_px, -1)
    if bit_depth == 16:
        rows = flat.astype(">u2").view(np.uint8).reshape(height_px, -1)
    else:
        bits = np.unpackbits(flat.astype(np.uint8)[..., None], axis=-1)[..., 8 - bit_depth :]
        rows = np.packbits(bits.reshape(height_px, -1), axis=-1)
    return b"".join(b"\0" + row.tobytes() for row in rows)


def png_of(
    samples_hw: np.ndarray,
    bit_depth: int = 8,
    color_type: int = 0,
    *,
    before: Sequence[Chunk] = (),
    after: Sequence[Chunk] = (),
) -> bytes:
    """A PNG file of samples, with further chunks before and after its pixels."""
    height_px, width_px = samples_hw.shape[:2]
    pixels = zlib.compress(packed_rows(samples_hw, bit_depth), 1)
    chunks = [
        (b"IHDR", ihdr(width_px, height_px, bit_depth, color_type)),
        *before,
        (b"IDAT", pixels),
        *after,
        (b"IEND", b""),
    ]
    return SIGNATURE + b"".join(chunk(kind, payload) for kind, payload in chunks)


def chunk_boundaries(file: bytes) -> list[int]:
    """Offsets of every chunk's length, kind, payload and checksum in a PNG file."""
    boundaries, offset = [], len(SIGNATURE)
    while offset < len(file):
        (length,) = struct.unpack_from(">I", file, offset)
        boundaries += [offset, offset + 4, offset + 8, offset + 8 + length]
        offset += 12 + length
    return sorted(set(boundaries))


def segment(marker: int, payload: bytes) -> bytes:
    """A JPEG segment."""
    return struct.pack(">BBH", 0xFF, marker, len(payload) + 2) + payload


def with_segment(jpeg: bytes, marker: int, payload: bytes) -> bytes:
    """A JPEG file with one more segment behind its first marker."""
    return jpeg[:2] + segment(marker, payload) + jpeg[2:]


def without_segments(jpeg: bytes, *markers: int) -> bytes:
    """A JPEG file without the segments of some markers before its pixels."""
    kept, offset = jpeg[:2], 2
    while jpeg[offset + 1] != 0xDA:
        (length,) = struct.unpack_from(">H", jpeg, offset + 2)
        if jpeg[offset + 1] not in markers:
            kept += jpeg[offset : offset + 2 + length]
        offset += 2 + length
    return kept + jpeg[offset:]


def patched_frame(jpeg: bytes, marker: int | None = None, **fields: int) -> bytes:
    """A JPEG file whose frame header lies: marker, precision, height, width or components."""
    start = min(at for kind in (0xC0, 0xC1, 0xC2) if (at := jpeg.find(bytes([0xFF, kind]))) >= 0)
    out = bytearray(jpeg)
    if marker is not None:
        out[start + 1] = marker
    places = {
        "precision": (4, ">B"),
        "height": (5, ">H"),
        "width": (7, ">H"),
        "components": (9, ">B"),
    }
    for name, value in fields.items():
        offset, layout = places[name]
        struct.pack_into(layout, out, start + offset, value)
    return bytes(out)


def exif(orientation: int, order: str = "<", *, kind: int = 3, tag: int = 0x0112) -> bytes:
    """An EXIF block with one entry, the orientation: a SHORT (3), or a LONG (4)."""
    mark = b"II" if order == "<" else b"MM"
    value = struct.pack(order + ("I" if kind == 4 else "Hxx"), orientation)
    entry = struct.pack(order + "HHI", tag, kind, 1) + value
    return mark + struct.pack(order + "HIH", 42, 8, 1) + entry + b"\0\0\0\0"


def exif_of_a_camera(order: str = "<", *, tag: int = 0x829A) -> bytes:
    """An EXIF block with a second directory, of one entry: the exposure time, 1/60 s."""
    mark = b"II" if order == "<" else b"MM"
    first = struct.pack(order + "HHHIII", 1, 0x8769, 4, 1, 26, 0)
    second = struct.pack(order + "HHHIIIII", 1, tag, 5, 1, 44, 0, 1, 60)
    return mark + struct.pack(order + "HI", 42, 8) + first + second
