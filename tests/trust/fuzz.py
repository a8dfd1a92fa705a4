"""Mutations of good images, sent to a server: `python -m trust.fuzz`, or some in the tests.

Image `n` of a seed depends on the two alone, so that a finding is repeated with
`python -m trust.fuzz --seed S --only N`. Half of the PNGs have their checksums mended after
the damage: otherwise nothing behind the first check would ever be reached.
"""

import argparse
import asyncio
import itertools
import os
import random
import struct
import sys
import time
import zlib
from collections import Counter
from collections.abc import Sequence

import grpc
import numpy as np
from pydicom import uid

from cxr.v1 import chest_xray_pb2 as pb
from cxr.v1.chest_xray_pb2_grpc import ChestXrayServiceStub
from dicom_files import ENCODERS, NATIVE, dicom, lookup_table
from handmade import exif, png_of, with_segment
from images import chest_like, jpeg, png
from serving import ServerProcess
from trust.outcomes import reason_of

DEADLINE_S = 20
AT_ONCE = 8
FEWEST = 2_000


def base_files() -> list[bytes]:
    """Small files of every kind that is read."""
    grey = chest_like(64, 64)
    color = np.stack([grey, grey[::-1], grey.T], axis=-1)
    deep = grey.astype(np.uint16) * 257
    profile = f"\nexif\n{len(exif(6)):8d}\n{exif(6).hex()}\n".encode()
    xmp = b'<x:xmpmeta xmlns:tiff="http://ns.adobe.com/tiff/1.0/" tiff:Orientation="8"/>'
    metadata = [
        (b"zTXt", b"Raw profile type exif\0\0" + zlib.compress(profile)),
        (b"iTXt", b"XML:com.adobe.xmp\0\1\0\0\0" + zlib.compress(xmp)),
    ]
    whole = jpeg(grey, quality=70)
    return [
        png(grey),
        png(deep),
        png(deep // 16),
        png_of(grey, before=[(b"eXIf", exif(6))], after=metadata),
        png_of(grey, before=metadata, after=[(b"tEXt", b"cxr-serve\0{}")]),
        png(color),
        png(np.dstack([color, grey])),
        png(grey > 99),
        whole,
        with_segment(whole, 0xE1, b"Exif\0\0" + exif(3, kind=4)) + whole,
        with_segment(whole, 0xE1, b"http://ns.adobe.com/xap/1.0/\0" + xmp) + bytes(99),
        with_segment(whole, 0xFE, b"cxr-serve {}"),
        jpeg(color, quality=70),
        jpeg(color, quality=70, progressive=True, restart_marker_blocks=2),
    ]


def dicom_files_by_syntax() -> dict[str, bytes]:
    """A small file of every transfer syntax of DICOM, by the name of the syntax."""
    stored_hw = chest_like(64, 64).astype(np.uint16) * 16
    files = {
        uid.UID(syntax).name: dicom(stored_hw, 12, syntax, WindowCenter=2000, WindowWidth=3000)
        for syntax in (*NATIVE, *ENCODERS, uid.RLELossless)
        if syntax != uid.JPEGBaseline8Bit
    }
    files["JPEG Baseline"] = dicom(chest_like(64, 64), 8, uid.JPEGBaseline8Bit)
    files["lookup tables"] = dicom(
        stored_hw,
        12,
        ModalityLUTSequence=[lookup_table(0, list(range(4095, -1, -1)), 12)],
        VOILUTSequence=[lookup_table(0, list(range(0, 4096, 2)), 12)],
        PixelPaddingValue=0,
    )
    return files


DICOM_BASES = dicom_files_by_syntax()
BASES = base_files() + list(DICOM_BASES.values())


def mutation(seed: int, number: int, bases: Sequence[bytes] = BASES) -> bytes:
    """Image `number` of a seed: a good file with 1 to 8 faults."""
    chance = random.Random(f"{seed}/{number}")
    data = bytearray(chance.choice(bases))
    for _ in range(chance.choice((1, 1, 2, 4, 8))):
        chance.choice(FAULTS)(data, chance)
    if data.startswith(b"\x89PNG") and chance.random() < 0.5:
        mend_checksums(data)
    return bytes(data)


def _flip(data: bytearray, chance: random.Random) -> None:
    if data:
        data[chance.randrange(len(data))] ^= 1 << chance.randrange(8)


def _flip_in_header(data: bytearray, chance: random.Random) -> None:
    if data:
        start = 132 if data[128:132] == b"DICM" and len(data) > 900 else 0
        data[start + chance.randrange(min(len(data), 200 + 3 * start))] = chance.randrange(256)


def _extreme(data: bytearray, chance: random.Random) -> None:
    place = chance.randrange(len(data) + 1)
    values = (0, 1, 0x7F, 0xFF, 0x7FFF, 0xFFFF, 0x7FFFFFFF, 0xFFFFFFFF)
    data[place : place + 4] = struct.pack(">I", chance.choice(values))


def _remove(data: bytearray, chance: random.Random) -> None:
    place = chance.randrange(len(data) + 1)
    del data[place : place + chance.choice((1, 4, 64, 10_000))]


def _insert(data: bytearray, chance: random.Random) -> None:
    place = chance.randrange(len(data) + 1)
    data[place:place] = chance.randbytes(chance.choice((1, 4, 64, 1000)))


def _repeat(data: bytearray, chance: random.Random) -> None:
    place = chance.randrange(len(data) + 1)
    part = bytes(data[place : place + chance.choice((4, 64, 1000))])
    data[place:place] = part * chance.choice((1, 3, 50))


def _splice(data: bytearray, chance: random.Random) -> None:
    other = chance.choice(BASES)
    data[chance.randrange(len(data) + 1) :] = other[chance.randrange(len(other)) :]


def _marker(data: bytearray, chance: random.Random) -> None:
    """Another JPEG marker, or PNG chunk kind, where one was."""
    if data.startswith(b"\xff\xd8"):
        places = [n for n in range(2, len(data) - 1) if data[n] == 0xFF and data[n + 1]]
        if places:
            data[chance.choice(places) + 1] = chance.randrange(0xC0, 0xFF)
    elif len(data) > 60:
        place = chance.choice((12, 37))
        kinds = (b"IHDR", b"IDAT", b"PLTE", b"tRNS", b"IEND", b"acTL", b"fdAT", b"iCCP", b"eXIf")
        data[place : place + 4] = chance.choice(kinds)


FAULTS = (_flip, _flip_in_header, _extreme, _remove, _insert, _repeat, _splice, _marker)


def mend_checksums(data: bytearray) -> None:
    """Give every PNG chunk that can be found the checksum of what it now holds."""
    place = 8
    while place + 12 <= len(data):
        (length,) = struct.unpack_from(">I", data, place)
        end = place + 8 + length
        if end + 4 > len(data):
            return
        struct.pack_into(">I", data, end, zlib.crc32(data[place + 4 : end]))
        place = end + 4


async def send(
    address: str, seed: int, numbers: "itertools.count[int] | range", until: float
) -> tuple[Counter[str], list[str]]:
    """Send these mutations, some at once. Returns how they ended, and what was wrong."""
    ends: Counter[str] = Counter()
    wrong: list[str] = []
    source = iter(numbers)
    async with grpc.aio.insecure_channel(address) as channel:
        stub = ChestXrayServiceStub(channel)
        good = pb.PredictRequest(image=png(), top_k=100)
        before = (await stub.Predict(good)).findings

        async def one(number: int) -> None:
            request = pb.PredictRequest(image=mutation(seed, number))
            end = "OK"
            try:
                await stub.Predict(request, timeout=DEADLINE_S)
            except grpc.aio.AioRpcError as error:
                end = reason_of(error) if error.code().name == "INVALID_ARGUMENT" else ""
                if not end.startswith("IMAGE_"):
                    end = error.code().name
                    wrong.append(f"--seed {seed} --only {number}: {end}")
            ends[end] += 1

        async def worker() -> None:
            for number in source:
                if number >= FEWEST and time.monotonic() > until:
                    return
                await one(number)

        await asyncio.gather(*(worker() for _ in range(AT_ONCE)))
        if (await stub.Predict(good)).findings != before:
            wrong.append("the good image's answer has changed")
    return ends, wrong


def main() -> int:
    """Fuzz for FUZZ_SECONDS and at least FEWEST images. Returns 1 when something was wrong."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--seed", type=int, default=random.SystemRandom().randrange(2**32))
    parser.add_argument("--only", type=int, help="send this one mutation")
    args = parser.parse_args()
    seconds = float(os.environ.get("FUZZ_SECONDS", "120"))
    numbers = itertools.count() if args.only is None else range(args.only, args.only + 1)
    with ServerProcess("--cache-entries", "0") as server:
        started = time.monotonic()
        ends, wrong = asyncio.run(send(server.address, args.seed, numbers, started + seconds))
        took_s = time.monotonic() - started
        if server.stop() != 0:
            wrong.append("the server did not leave cleanly")
        if "internal error" in server.log:
            wrong.append("the server had an internal error")
    print(f"{ends.total()} mutations of seed {args.seed} in {took_s:.0f} s: {dict(ends)}")
    print("\n".join(wrong) or "each ended OK or with a reason; the good image scored as before")
    return bool(wrong)


if __name__ == "__main__":
    sys.exit(main())
