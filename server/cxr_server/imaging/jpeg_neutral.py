"""JPEG neutral: whether chroma is neutral, told by decoding the luma alone. Used by jpeg_pixels.

Most radiographs in colour are grey that was saved as colour: every coefficient of their chroma is
zero. Such a block is coded in two codes, that of a DC difference of zero and that of the end of the
block, which encoders give the shortest codes, all of whose bits are zero. So libjpeg gets tables
for chroma that have nothing but these codes. If it then decodes the file to grey, for which it
transforms the luma alone, and meets no unknown code, then the image has no colour, and there is no
need to decode chroma.

libjpeg-turbo passes over unknown codes in its fast decoder (`decode_mcu_fast` in `jdhuff.c`), which
it does not use in files with restart intervals. Where a file has none, one longer than the image is
stated, which takes a tenth more time. No table makes the fast decoder tell: of components that are
not wanted it keeps nothing but its place in the coded data, and a crafted file can make that right.
"""

import math
import struct
from collections.abc import Iterator, Sequence
from contextlib import suppress

import simplejpeg

from cxr_server.imaging.jpeg_chroma import GREY_CHROMA

Part = bytes | memoryview

MAX_RESTART_INTERVAL = 0xFFFF  # in MCUs (T.81, B.2.4.4)
TOP_ROWS = 32
TOP_BYTES = 16_384
"""Rows and coded bytes of the top of the image, whose chroma is looked at before all is decoded:
photographs have noise in chroma everywhere."""

_SOF0, _SOF1, _DHT, _DRI = 0xC0, 0xC1, 0xC4, 0xDD
_AC = 0x10  # the class of a table, beside its number
_LUMA_TABLES, _CHROMA_TABLES = (0, 1), (2, 3)  # numbers of tables; encoders use the first two
_LUMA_AND_CHROMA = b"\xff\xee\x00\x0eAdobe\x00\x64\x00\x00\x00\x00\x01"
"""Adobe's segment, with the transform 1: the components are luma and chroma."""
AS_STORED = _LUMA_AND_CHROMA[:-1] + b"\x00"
"""The same with the transform 0: the components are red, green and blue. Nothing is converted."""


def neutral_file(before: Sequence[Part], frame: bytes, scans: Sequence[Part]) -> bytes | None:
    """Return a file whose luma libjpeg can decode without a warning only if chroma is neutral.

    None if such a file cannot be made, or if the top of the image is not neutral. Given are the
    segments before the first scan, SOI among them; the header of a sequential frame of luma and
    chroma; and the header of its only scan in two parts, the coded data and EOI.
    """
    if len(scans) != 4 or len(scans[0]) != 11:
        return None
    header = bytearray(scans[0])
    first_bits = _first_bits(before)
    tables, numbers = list[bytes](), iter(_CHROMA_TABLES)
    for at in (5, 7, 9):  # identifier of a component, and numbers of its tables
        dc, ac = header[at + 1] >> 4, header[at + 1] & 0xF
        if header[at] == frame[6]:
            if dc not in _LUMA_TABLES or ac not in _LUMA_TABLES:
                return None
            continue
        number = next(numbers, None)
        dc_bits, ac_bits = first_bits.get(dc), first_bits.get(_AC | ac)
        if number is None or dc_bits is None or ac_bits is None:
            return None
        tables += _table(number, dc_bits), _table(_AC | number, ac_bits)
        header[at + 1] = number << 4 | number
    if len(tables) != 4:  # two components with one identifier
        return None
    if not _has_restarts(before):
        if _mcu_count(frame) > MAX_RESTART_INTERVAL:
            return None
        tables.append(struct.pack(">BBHH", 0xFF, _DRI, 4, MAX_RESTART_INTERVAL))
    if not _is_neutral_at_its_top(before, scans):
        return None
    return b"".join((before[0], _LUMA_AND_CHROMA, *before[1:], *tables, header, *scans[1:]))


def _is_neutral_at_its_top(before: Sequence[Part], scans: Sequence[Part]) -> bool:
    """Tell whether the means of the blocks of chroma are neutral in the first rows.

    They are decoded as they are stored, at an eighth of their size.
    """
    *header, coded, end = scans
    parts = [before[0], AS_STORED]
    for part in before[1:]:
        if part[1] in (_SOF0, _SOF1):
            (height_px,) = struct.unpack_from(">H", part, 5)
            part = b"".join((part[:5], struct.pack(">H", min(height_px, TOP_ROWS)), part[7:]))
        parts.append(part)
    file = b"".join((*parts, *header, coded[:TOP_BYTES], end))
    with suppress(ValueError):  # told by decoding all of it
        top_hwc = simplejpeg.decode_jpeg(file, "RGB", min_height=1, min_width=1, strict=False)
        return bool((top_hwc[..., 1:] == GREY_CHROMA).all())
    return True


def _first_bits(before: Sequence[Part]) -> dict[int, int]:
    """Return the length of the first code of each Huffman table that has it for the symbol 0.

    By class and number of the table (T.81, B.2.4.2). All bits of a first code are zero.
    """
    found = {}
    for table in _tables(before):
        lengths = [bits for bits, count in enumerate(table[1:17], 1) if count]
        if lengths and table[17] == 0:
            found[table[0]] = lengths[0]
        else:
            found.pop(table[0], None)
    return found


def _tables(before: Sequence[Part]) -> Iterator[Part]:
    for part in before[1:]:
        at = 4
        while part[1] == _DHT and at + 17 <= len(part):
            end = at + 17 + sum(part[at + 1 : at + 17])
            if end > len(part):
                return
            yield part[at:end]
            at = end


def _table(number: int, bits: int) -> bytes:
    """Return the segment of a Huffman table of one code, for the symbol 0."""
    counts = bytes(bits == length for length in range(1, 17))
    return struct.pack(">BBHB16sB", 0xFF, _DHT, 20, number, counts, 0)


def _has_restarts(before: Sequence[Part]) -> bool:
    intervals = [bytes(part[4:6]) for part in before[1:] if part[1] == _DRI]
    return bool(intervals) and intervals[-1] != bytes(2)


def _mcu_count(frame: bytes) -> int:
    height_px, width_px = int.from_bytes(frame[1:3]), int.from_bytes(frame[3:5])
    factors = frame[7::3]  # horizontal and vertical, of each component
    mcu_h = 8 * max(1, *(factor & 0xF for factor in factors))
    mcu_w = 8 * max(1, *(factor >> 4 for factor in factors))
    return math.ceil(height_px / mcu_h) * math.ceil(width_px / mcu_w)
