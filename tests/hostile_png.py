"""PNG files that somebody might send to do harm, or by mistake: name, file and how it may end."""

import struct
import zlib
from collections.abc import Iterator

import handmade
from handmade import SIGNATURE, chunk
from hostile_ends import HEATMAP, MIB, OK, TOO_MANY, TOO_SMALL, UNREADABLE, UNSUPPORTED

SIDE = 48


def ihdr(
    width: int = SIDE, height: int = SIDE, depth: int = 8, color: int = 0, interlace: int = 0
) -> bytes:
    return chunk(b"IHDR", handmade.ihdr(width, height, depth, color, interlace))


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
        end = OK if each is END else UNREADABLE
        yield f"png cut before chunk {number}", whole[:place], end
        yield f"png cut in chunk {number}", whole[: place + 6], end
        place += len(each)
    yield "png cut in its last checksum", whole[:-1], OK
    yield "png cut in a text behind its pixels", whole[:-12] + chunk(b"tEXt", bytes(9))[:-2], OK
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
        ("one pixel", (1, 1), TOO_SMALL),
        ("taller than its data", (SIDE, 10 * SIDE), UNREADABLE),
        ("wider than its data", (4 * SIDE, SIDE), UNREADABLE),
        ("as large as is allowed, without data", (7000, 7000), UNREADABLE),
        ("shorter than its data", (SIDE, SIDE - 8), OK, UNREADABLE),
    ]:
        yield f"png header says {name}", png_of(ihdr(width, height), idat(), END), *ends
    for depth, color in [(16, 0), (8, 2), (16, 6)]:
        data = png_of(ihdr(depth=depth, color=color), idat(), END)
        yield f"png header says type {color} of {depth} bits", data, UNREADABLE
    for depth, color in [(3, 0), (0, 0), (4, 2), (16, 3), (8, 1), (8, 5), (8, 7), (8, 255)]:
        data = png_of(ihdr(depth=depth, color=color), idat(), END)
        yield f"png has no type {color} of {depth} bits", data, UNREADABLE
    yield "png header says interlaced", png_of(ihdr(interlace=1), idat(), END), UNREADABLE, OK
    yield "png interlace method 9", png_of(ihdr(interlace=9), idat(), END), UNREADABLE
    first_pass = idat(bytes(SIDE // 8 * (1 + SIDE // 8)))
    yield "png of its first pass alone", png_of(ihdr(interlace=1), first_pass, END), UNREADABLE
    for depth, color in [(1, 0), (16, 0), (8, 2), (8, 4), (8, 6), (16, 6)]:
        row_bytes = SIDE * depth * {0: 1, 2: 3, 4: 2, 6: 4}[color] // 8
        half = png_of(ihdr(depth=depth, color=color), idat(rows(row_bytes, SIDE // 2)), END)
        yield f"png of half its rows, type {color} of {depth} bits", half, UNREADABLE
    for place, name in ((10, "compression"), (11, "filter")):
        header = bytearray(handmade.ihdr(SIDE, SIDE))
        header[place] = 7
        odd = png_of(chunk(b"IHDR", bytes(header)), idat(), END)
        yield f"png of {name} method 7", odd, UNREADABLE
    for payload in (bytes(12), handmade.ihdr(SIDE, SIDE) + b"\0"):
        odd = png_of(chunk(b"IHDR", payload), idat(), END)
        yield f"png header of {len(payload)} bytes", odd, UNREADABLE
    yield "png with two headers", png_of(ihdr(), ihdr(96, 96), idat(), END), UNREADABLE
    yield "png without header", png_of(idat(), END), UNREADABLE


def _png_chunks() -> Iterator[tuple[str, ...]]:
    for kind, end in [(b"IDAT", UNREADABLE), (b"gAMA", OK), (b"tEXt", OK), (b"IEND", OK)]:
        broken = [each if each[4:8] != kind else each[:-1] + b"\0" for each in GOOD_PNG_CHUNKS]
        yield f"png wrong checksum in {kind.decode()}", png_of(*broken), end
    mark = chunk(b"tEXt", b"cxr-serve\0{}")
    yield "png drawn by this service", png_of(ihdr(), mark, idat(), END), HEATMAP
    yield "png with a mark behind its pixels", png_of(ihdr(), idat(), mark, END), HEATMAP
    broken_mark = mark[:-1] + b"\0"
    yield "png with a broken mark", png_of(ihdr(), broken_mark, idat(), END), HEATMAP
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
        (b"zTXt", b"Raw profile type exif\0\0"),
        (b"iTXt", b"Comment\0\1\0\0\0"),
        (b"iTXt", b"XML:com.adobe.xmp\0\1\0\0\0"),
        (b"iCCP", b"profile\0\0"),
    ]:
        data = png_of(ihdr(), chunk(kind, head + grows), idat(), END)
        keyword = head.split(b"\0")[0].decode()
        yield f"png {kind.decode()} {keyword} that grows to 512 MiB", data, OK
    profile = chunk(b"tEXt", b"Raw profile type exif\0\nexif\n 9\n" + b"4d" * 8 * MIB)
    yield "png EXIF of 16 MiB of digits", png_of(ihdr(), profile, idat(), END), OK
    yield "png EXIF of 20 MiB", png_of(ihdr(), chunk(b"eXIf", bytes(20 * MIB)), idat(), END), OK
    packet = chunk(b"iTXt", b"XML:com.adobe.xmp\0\0\0\0\0" + b"tiff:Orientation=" * MIB)
    yield "png XMP of 17 MiB", png_of(ihdr(), packet, idat(), END), OK
    texts = chunk(b"zTXt", b"Raw profile type exif\0\0" + bomb(MIB)) * 2_000
    yield "png of 2,000 EXIF bombs", png_of(ihdr(), texts, idat(), END), OK
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


PARTS = (_png_cuts, _png_headers, _png_chunks, _png_bombs)
