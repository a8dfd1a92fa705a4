"""What decode refuses: the reason is stable, the cost bounded, the decoder's text unheard."""

import gc
import sys
import tracemalloc
import zlib

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

import handmade
from cxr_server.errors import (
    ImageError,
    ImageTooManyPixels,
    ImageUnreadable,
)
from cxr_server.imaging import jpeg_pixels, png_pixels
from cxr_server.imaging.codecs import decode
from hostile_images import cases
from images import chest_like, jpeg, png

GREY_HW = chest_like(96, 96)
SEEDS = {
    "png": png(GREY_HW),
    "png16": png(GREY_HW.astype(np.uint16) * 257),
    "palette": handmade.png_of(GREY_HW, 8, 3, before=[(b"PLTE", bytes(range(256)) * 3)]),
    "jpeg": jpeg(GREY_HW),
    "progressive": jpeg(np.repeat(GREY_HW[..., None], 3, axis=-1), progressive=True),
}


SECRETS = ("Pillow", "libpng", "libjpeg", "imagecodecs", "BytesIO", "zlib", "0x", "b'", "Error")
"""What would tell of the decoder."""


@pytest.mark.slow
def test_every_hostile_file_ends_as_it_must_and_costs_little() -> None:
    wrong = []
    for case in cases():
        tracemalloc.start()
        end, field, message = "OK", "image", "."
        try:
            decode(case.data)
        except ImageError as error:
            end, field, message = error.reason, error.field, error.message
        _, peak_bytes = tracemalloc.get_traced_memory()
        tracemalloc.stop()
        # Two copies of the file, and the pixels: few, but for those of 7000 x 7000.
        is_large = "7000 x 7000" in case.name
        bound = 2 * len(case.data) + (600_000_000 if is_large else 4_000_000)
        tells = any(word in message for word in SECRETS)
        if end not in case.ends or field != "image" or not message.endswith(".") or tells:
            wrong.append((case, end, field, message))
        if peak_bytes > bound:
            wrong.append((case, peak_bytes, "more than", bound))
    assert wrong == []


def test_a_bomb_of_pixels_is_refused_by_its_header() -> None:
    side_px = 20_000
    rows = zlib.compress(bytes((side_px + 1) * 2_000), 9)
    file = handmade.SIGNATURE + b"".join(
        [
            handmade.chunk(b"IHDR", handmade.ihdr(side_px, 2_000)),
            handmade.chunk(b"IDAT", rows),
            handmade.chunk(b"IEND"),
        ]
    )
    with pytest.raises(ImageTooManyPixels):
        decode(file)


def test_pixels_beyond_the_stated_ones_are_not_inflated() -> None:
    rows = zlib.compress(handmade.packed_rows(GREY_HW, 8) + bytes(20_000_000), 1)
    file = handmade.SIGNATURE + b"".join(
        [
            handmade.chunk(b"IHDR", handmade.ihdr(96, 96)),
            handmade.chunk(b"IDAT", rows),
            handmade.chunk(b"IEND"),
        ]
    )
    assert (decode(file).pixels_hw == GREY_HW).all()


@pytest.mark.parametrize("channels", [1, 3])
@pytest.mark.parametrize("max_locked_bytes", [0, 2**24], ids=["libpng", "kornia-rs"])
def test_a_png_that_fails_in_its_decoder_leaves_nothing_behind(
    channels: int, max_locked_bytes: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(png_pixels, "MAX_LOCKED_BYTES", max_locked_bytes)
    rows = np.zeros((400, 1 + 400 * channels), np.uint8)
    rows[-1, 0] = 5  # no filter has this number
    header = handmade.ihdr(400, 400, color_type=2 if channels == 3 else 0)
    chunks = [(b"IHDR", header), (b"IDAT", zlib.compress(rows.tobytes())), (b"IEND", b"")]
    file = handmade.SIGNATURE + b"".join(handmade.chunk(*parts) for parts in chunks)

    def refused(times: int) -> tuple[int, int]:
        for _ in range(times):
            with pytest.raises(ImageUnreadable):
                decode(file)
        gc.collect()  # what other tests have left holds None, too
        return tracemalloc.get_traced_memory()[0], sys.getrefcount(None)

    tracemalloc.start()
    try:
        before_bytes, before_count = refused(2)
        after_bytes, after_count = refused(100)
    finally:
        tracemalloc.stop()
    assert after_bytes - before_bytes < 100_000
    assert before_count - after_count < 50, "the process ends when nothing holds None"


def test_the_work_of_scans_is_bounded_by_the_pixels(monkeypatch: pytest.MonkeyPatch) -> None:
    file = jpeg(GREY_HW, progressive=True)
    scan_count = file.count(b"\xff\xda")
    assert scan_count > 1
    monkeypatch.setattr(jpeg_pixels, "MAX_SCANNED_PIXEL_COUNT", scan_count * GREY_HW.size)
    decode(file)
    monkeypatch.setattr(jpeg_pixels, "MAX_SCANNED_PIXEL_COUNT", scan_count * GREY_HW.size - 1)
    with pytest.raises(ImageUnreadable):
        decode(file)


@settings(max_examples=300, deadline=None, suppress_health_check=[HealthCheck.too_slow])
@given(
    seed=st.sampled_from(sorted(SEEDS)),
    edits=st.lists(
        st.tuples(st.floats(0, 1), st.integers(0, 255), st.sampled_from(["set", "cut", "insert"])),
        min_size=1,
        max_size=6,
    ),
)
def test_a_mutated_file_is_read_or_refused(seed: str, edits: list[tuple[float, int, str]]) -> None:
    file = bytearray(SEEDS[seed])
    for share, value, edit in edits:
        at = int(share * (len(file) - 1))
        if edit == "set":
            file[at] = value
        elif edit == "insert":
            file[at:at] = bytes([value]) * (value % 9)
        else:
            del file[at : at + value % 40]
    try:
        radiograph = decode(bytes(file))
    except ImageError:
        return
    assert min(radiograph.pixels_hw.shape) >= 32
    assert radiograph.pixels_hw.dtype in (np.uint8, np.uint16)


@settings(max_examples=150, deadline=None)
@given(
    width_px=st.integers(0, 200),
    height_px=st.integers(0, 200),
    bit_depth=st.sampled_from([1, 2, 4, 8, 16]),
    color_type=st.sampled_from([0, 2, 3, 4, 6]),
    interlace=st.integers(0, 1),
    rows=st.binary(max_size=600),
    transparency=st.none() | st.binary(max_size=12),
)
def test_a_png_of_any_header_is_read_or_refused(
    width_px: int,
    height_px: int,
    bit_depth: int,
    color_type: int,
    interlace: int,
    rows: bytes,
    transparency: bytes | None,
) -> None:
    header = handmade.ihdr(width_px, height_px, bit_depth, color_type, interlace)
    chunks = [(b"IHDR", header), (b"PLTE", bytes(range(30)))]
    if transparency is not None:
        chunks.append((b"tRNS", transparency))
    # Filter 0 and black, where the drawn rows end.
    chunks += [(b"IDAT", zlib.compress(rows + bytes(340_000))), (b"IEND", b"")]
    file = handmade.SIGNATURE + b"".join(handmade.chunk(*parts) for parts in chunks)
    try:
        radiograph = decode(file)
    except ImageError:
        return
    assert radiograph.pixels_hw.shape == (height_px, width_px)
    assert radiograph.bit_depth == bit_depth
