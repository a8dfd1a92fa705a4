"""Every kind of PNG that is read, pixel by pixel."""

import zlib
from io import BytesIO

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image

import handmade
from cxr_server.errors import ImageIsHeatmap, ImageUnreadable
from cxr_server.imaging import png_pixels
from cxr_server.imaging.codecs import decode
from cxr_server.imaging.radiograph import InputWarning
from images import chest_like, png

GREY_HW = chest_like(96, 120)
RNG = np.random.default_rng(7)


def png_of_rows(rows: np.ndarray, bit_depth: int) -> bytes:
    """A grey PNG file of filtered rows, each behind its filter type."""
    height_px, width_px = len(rows), 8 * (rows.shape[1] - 1) // bit_depth
    header = handmade.ihdr(width_px, height_px, bit_depth)
    chunks = [(b"IHDR", header), (b"IDAT", zlib.compress(rows.tobytes())), (b"IEND", b"")]
    return handmade.SIGNATURE + b"".join(handmade.chunk(*parts) for parts in chunks)


def luma(rgb_hwc: np.ndarray) -> np.ndarray:
    return np.asarray(Image.fromarray(rgb_hwc).convert("L"))


def test_an_8_bit_grey_png_comes_as_it_is() -> None:
    radiograph = decode(png(GREY_HW))
    assert radiograph.pixels_hw.dtype == np.uint8
    assert (radiograph.pixels_hw == GREY_HW).all()
    assert (radiograph.height_px, radiograph.width_px) == GREY_HW.shape
    assert (radiograph.max_value, radiograph.bit_depth) == (255, 8)
    assert (radiograph.file_format, radiograph.warnings) == ("PNG", ())
    assert radiograph.pixels_hw.flags.c_contiguous


def test_a_16_bit_png_keeps_its_range() -> None:
    pixels_hw = RNG.integers(0, 65_536, (50, 60), dtype=np.uint16)
    pixels_hw[0, :3] = 0, 32_768, 65_535
    radiograph = decode(png(pixels_hw))
    assert radiograph.pixels_hw.dtype == np.uint16
    assert (radiograph.pixels_hw == pixels_hw).all()
    assert (radiograph.max_value, radiograph.bit_depth) == (65_535, 16)


def test_a_16_bit_png_of_small_values_is_not_taken_for_8_bits() -> None:
    pixels_hw = RNG.integers(0, 200, (50, 60), dtype=np.uint16)
    radiograph = decode(png(pixels_hw))
    assert (radiograph.pixels_hw == pixels_hw).all()
    assert radiograph.max_value == 65_535


@pytest.mark.parametrize("bit_depth", [8, 16])
@pytest.mark.parametrize("max_locked_bytes", [0, 2**24], ids=["libpng", "kornia-rs"])
def test_each_filter_of_grey_is_undone_and_an_unknown_one_is_an_error(
    bit_depth: int, max_locked_bytes: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(png_pixels, "MAX_LOCKED_BYTES", max_locked_bytes)
    rows = RNG.integers(0, 256, (41, 1 + 35 * bit_depth // 8), dtype=np.uint8)
    for number in range(5):
        rows[:, 0] = np.arange(number, number + len(rows)) % 5
        file = png_of_rows(rows, bit_depth)
        expected_hw = np.asarray(Image.open(BytesIO(file)))
        assert (decode(file).pixels_hw == expected_hw).all()
    rows[17, 0] = 5
    with pytest.raises(ImageUnreadable):
        decode(png_of_rows(rows, bit_depth))


@pytest.mark.parametrize("bit_depth", [1, 2, 4])
def test_few_bits_are_spread_over_the_whole_range(bit_depth: int) -> None:
    samples_hw = RNG.integers(0, 1 << bit_depth, (40, 45))
    radiograph = decode(handmade.png_of(samples_hw, bit_depth))
    assert (radiograph.pixels_hw == samples_hw * 255 // ((1 << bit_depth) - 1)).all()
    assert (radiograph.max_value, radiograph.bit_depth) == (255, bit_depth)


@pytest.mark.parametrize(
    ("bit_depth", "color_type", "channels"),
    [(1, 0, 1), (4, 0, 1), (8, 0, 1), (16, 0, 1), (8, 2, 3), (16, 2, 3), (8, 4, 2), (16, 6, 4)],
)
def test_an_interlaced_png_equals_its_plain_twin(
    bit_depth: int, color_type: int, channels: int
) -> None:
    samples = RNG.integers(0, 1 << bit_depth, (35, 41, channels))
    # Adam7: seven passes, each a picture of its own (PNG specification, section 8).
    passes = [(0, 0, 8, 8), (0, 4, 8, 8), (4, 0, 8, 4), (0, 2, 4, 4), (2, 0, 4, 2), (0, 1, 2, 2)]
    passes.append((1, 0, 2, 1))
    rows = b"".join(
        handmade.packed_rows(samples[top::down, left::right], bit_depth)
        for top, left, down, right in passes
    )
    header = handmade.ihdr(41, 35, bit_depth, color_type, interlace=1)
    chunks = [(b"IHDR", header), (b"IDAT", zlib.compress(rows)), (b"IEND", b"")]
    file = handmade.SIGNATURE + b"".join(handmade.chunk(*parts) for parts in chunks)
    plain = decode(handmade.png_of(samples, bit_depth, color_type))
    assert (decode(file).pixels_hw == plain.pixels_hw).all()


def test_colour_becomes_luma_with_a_warning() -> None:
    rgb_hwc = RNG.integers(0, 256, (40, 50, 3), dtype=np.uint8)
    radiograph = decode(png(rgb_hwc))
    assert (radiograph.pixels_hw == luma(rgb_hwc)).all()
    assert radiograph.warnings == (InputWarning.COLOR,)


def test_grey_saved_as_colour_gets_no_warning() -> None:
    radiograph = decode(png(np.repeat(GREY_HW[..., None], 3, axis=-1)))
    assert (radiograph.pixels_hw == GREY_HW).all()
    assert radiograph.warnings == ()


def test_a_16_bit_colour_png_keeps_16_bits() -> None:
    samples = RNG.integers(0, 65_536, (33, 37, 3))
    radiograph = decode(handmade.png_of(samples, 16, 2))
    expected = samples @ [0.299, 0.587, 0.114]
    assert radiograph.pixels_hw.dtype == np.uint16
    assert np.abs(radiograph.pixels_hw - expected).max() < 1.5  # the weights are 16-bit fractions
    assert (radiograph.max_value, radiograph.bit_depth) == (65_535, 16)


def test_12_bits_in_16_bit_colour_keep_every_level() -> None:
    samples = np.repeat(GREY_HW[..., None] * np.uint16(16), 3, axis=-1)
    radiograph = decode(handmade.png_of(samples, 16, 2))
    assert (radiograph.pixels_hw == samples[..., 0]).all()
    assert radiograph.warnings == ()
    samples[..., 0] //= 2
    assert decode(handmade.png_of(samples, 16, 2)).warnings == (InputWarning.COLOR,)


def test_white_and_black_of_16_bit_colour_stay_white_and_black() -> None:
    samples = np.zeros((32, 32, 3), int)
    samples[:16] = 65_535
    assert np.unique(decode(handmade.png_of(samples, 16, 2)).pixels_hw).tolist() == [0, 65_535]


@pytest.mark.parametrize(("color_type", "channels"), [(4, 2), (6, 4)], ids=["grey", "colour"])
@pytest.mark.parametrize("bit_depth", [8, 16])
def test_transparent_pixels_lie_over_black(color_type: int, channels: int, bit_depth: int) -> None:
    top = (1 << bit_depth) - 1
    half = 1 << (bit_depth - 1)
    samples = np.full((32, 40, channels), top)
    samples[:, 10:20, -1] = 0
    samples[:, 20:30, -1] = half
    radiograph = decode(handmade.png_of(samples, bit_depth, color_type))
    assert radiograph.pixels_hw[0, [0, 10, 20, 30]].tolist() == [top, 0, half, top]
    assert radiograph.max_value == top
    assert radiograph.warnings == (InputWarning.TRANSPARENT,)


@pytest.mark.parametrize(("color_type", "channels"), [(4, 2), (6, 4)], ids=["grey", "colour"])
def test_an_opaque_alpha_channel_changes_nothing(color_type: int, channels: int) -> None:
    samples = np.repeat(GREY_HW[..., None], channels, axis=-1)
    samples[..., -1] = 255
    radiograph = decode(handmade.png_of(samples, 8, color_type))
    assert (radiograph.pixels_hw == GREY_HW).all()
    assert radiograph.warnings == ()


@pytest.mark.parametrize("bit_depth", [1, 2, 4, 8, 16])
def test_the_grey_that_a_png_names_transparent_is_black(bit_depth: int) -> None:
    top = (1 << bit_depth) - 1
    samples_hw = np.full((32, 32), top)
    samples_hw[5] = 0
    file = handmade.png_of(samples_hw, bit_depth, before=[(b"tRNS", top.to_bytes(2, "big"))])
    radiograph = decode(file)
    assert not radiograph.pixels_hw.any()
    assert radiograph.warnings == (InputWarning.TRANSPARENT,)


@pytest.mark.parametrize("bit_depth", [8, 16])
def test_the_colour_that_a_png_names_transparent_is_black(bit_depth: int) -> None:
    samples = np.full((32, 32, 3), (1 << bit_depth) - 1)
    samples[3:9] = 77
    key = (77).to_bytes(2, "big") * 3
    radiograph = decode(handmade.png_of(samples, bit_depth, 2, before=[(b"tRNS", key)]))
    assert not radiograph.pixels_hw[3:9].any()
    assert (radiograph.pixels_hw[9:] == (1 << bit_depth) - 1).all()
    assert radiograph.warnings == (InputWarning.TRANSPARENT,)


@pytest.mark.parametrize("bit_depth", [1, 2, 4, 8])
def test_a_palette_is_looked_up(bit_depth: int) -> None:
    colors = RNG.integers(0, 256, (1 << bit_depth, 3), dtype=np.uint8)
    colors[:2] = (255, 0, 0), (0, 0, 255)
    index_hw = RNG.integers(0, 1 << bit_depth, (35, 33))
    file = handmade.png_of(index_hw, bit_depth, 3, before=[(b"PLTE", colors.tobytes())])
    radiograph = decode(file)
    assert (radiograph.pixels_hw == luma(colors[index_hw])).all()
    assert radiograph.warnings == (InputWarning.COLOR,)
    assert radiograph.bit_depth == bit_depth


def test_a_palette_of_greys_with_one_transparent_entry() -> None:
    greys = np.repeat(np.arange(256, dtype=np.uint8)[:, None], 3, axis=-1)
    palette = (b"PLTE", greys.tobytes())
    opaque = decode(handmade.png_of(GREY_HW, 8, 3, before=[palette]))
    assert (opaque.pixels_hw == GREY_HW).all()
    assert opaque.warnings == ()
    hidden = GREY_HW.copy()
    hidden[0] = 3
    alpha = (b"tRNS", bytes([255, 255, 255, 0]))
    seen = decode(handmade.png_of(hidden, 8, 3, before=[palette, alpha]))
    assert not seen.pixels_hw[0].any()
    assert seen.warnings == (InputWarning.TRANSPARENT,)


def test_a_palette_index_beyond_the_palette_is_black() -> None:
    file = handmade.png_of(np.full((32, 32), 9), 8, 3, before=[(b"PLTE", b"\xff" * 6)])
    assert not decode(file).pixels_hw.any()


def test_chunks_that_pixels_do_not_need_are_never_parsed() -> None:
    bomb = b"key\0\0" + zlib.compress(b"\0" * 50_000_000, 9)
    chunks = [(b"zTXt", bomb), (b"iCCP", bomb), (b"iTXt", b"k\0\1\0\0\0" + bomb[5:])] * 4
    radiograph = decode(handmade.png_of(GREY_HW, before=chunks, after=[(b"tEXt", b"\xff\0\xfe")]))
    assert (radiograph.pixels_hw == GREY_HW).all()


def test_a_still_picture_in_an_animation_of_one_frame_is_read() -> None:
    control = (b"acTL", (1).to_bytes(4, "big") + (0).to_bytes(4, "big"))
    assert (decode(handmade.png_of(GREY_HW, before=[control])).pixels_hw == GREY_HW).all()


def test_bytes_after_the_end_of_a_png_are_ignored() -> None:
    assert (decode(png(GREY_HW) + b"PK\x03\x04 and more").pixels_hw == GREY_HW).all()


def with_wrong_checksum(file: bytes, kind: bytes) -> bytes:
    """A PNG file whose first chunk of a kind has another checksum."""
    at = file.index(kind) - 4
    end = at + 8 + int.from_bytes(file[at : at + 4])
    return file[:end] + bytes(byte ^ 0xFF for byte in file[end : end + 4]) + file[end + 4 :]


UNUSED_CHUNKS = {
    b"gAMA": (45_455).to_bytes(4, "big"),
    b"pHYs": bytes(9),
    b"iCCP": b"ICC\0\0" + zlib.compress(bytes(300)),
    b"tEXt": b"Comment\0made by a PACS",
    b"IEND": b"",
}


@pytest.mark.parametrize("kind", UNUSED_CHUNKS)
def test_a_wrong_checksum_of_a_chunk_that_is_not_used_is_no_error(kind: bytes) -> None:
    before = [] if kind == b"IEND" else [(kind, UNUSED_CHUNKS[kind])]
    whole = handmade.png_of(GREY_HW, before=before)
    assert (decode(with_wrong_checksum(whole, kind)).pixels_hw == GREY_HW).all()


@pytest.mark.parametrize("kind", [b"IHDR", b"PLTE", b"tRNS", b"IDAT"])
def test_a_wrong_checksum_of_a_chunk_that_makes_up_the_pixels_is_an_error(kind: bytes) -> None:
    palette = (b"PLTE", bytes(range(256)) * 3)
    file = handmade.png_of(GREY_HW, 8, 3, before=[palette, (b"tRNS", b"\xff" * 9)])
    decode(file)
    with pytest.raises(ImageUnreadable, match="checksum"):
        decode(with_wrong_checksum(file, kind))


def test_a_file_may_end_behind_its_pixels_but_not_within_them() -> None:
    pixels_hw = chest_like(33, 32)
    whole = handmade.png_of(pixels_hw, after=[(b"tEXt", b"Comment\0hello")])
    end_of_pixels = whole.index(b"tEXt") - 4
    for length in range(len(whole)):
        if length >= end_of_pixels:
            assert (decode(whole[:length]).pixels_hw == pixels_hw).all()
        elif length:
            with pytest.raises(ImageUnreadable):
                decode(whole[:length])


def test_pixels_in_several_chunks_are_not_complete_without_the_last() -> None:
    packed = zlib.compress(handmade.packed_rows(GREY_HW, 8))
    parts = [packed[at : at + 1000] for at in range(0, len(packed), 1000)]
    head = handmade.SIGNATURE + handmade.chunk(b"IHDR", handmade.ihdr(120, 96))
    pixels = [handmade.chunk(b"IDAT", part) for part in parts]
    assert (decode(head + b"".join(pixels)).pixels_hw == GREY_HW).all()
    with pytest.raises(ImageUnreadable):
        decode(head + b"".join(pixels[:-1]))


@pytest.mark.parametrize("kind", [b"tEXt", b"zTXt", b"iTXt"])
def test_a_heat_map_of_our_own_is_refused_before_its_pixels_are_decoded(kind: bytes) -> None:
    mark = (kind, b'cxr-serve\0{"finding": "Effusion"}')
    chunks = [(b"IHDR", handmade.ihdr(120, 96)), (b"IDAT", b"no pixels"), (b"IEND", b"")]
    for place in (1, 2):
        marked = [*chunks[:place], mark, *chunks[place:]]
        file = handmade.SIGNATURE + b"".join(handmade.chunk(*parts) for parts in marked)
        with pytest.raises(ImageIsHeatmap, match="send the radiograph itself"):
            decode(file)
    assert len(decode(handmade.png_of(GREY_HW, before=[(kind, b"cxr-server\0")])).pixels_hw) == 96


def test_libpngs_warnings_are_not_logged(caplog: pytest.LogCaptureFixture) -> None:
    # It warns of a transparent grey beyond 8 bits.
    decode(handmade.png_of(GREY_HW, before=[(b"tRNS", b"\x01\x00")]))
    assert caplog.records == []


def test_bytes_behind_the_rows_are_left_out() -> None:
    rows = handmade.packed_rows(GREY_HW, 8) + bytes(1_000)
    chunks = [
        handmade.chunk(b"IHDR", handmade.ihdr(120, 96)),
        handmade.chunk(b"IDAT", zlib.compress(rows)),
        handmade.chunk(b"IEND"),
    ]
    assert (decode(handmade.SIGNATURE + b"".join(chunks)).pixels_hw == GREY_HW).all()


@settings(max_examples=60, deadline=None)
@given(
    height_px=st.integers(32, 90),
    width_px=st.integers(32, 90),
    dtype=st.sampled_from([np.uint8, np.uint16]),
    level=st.integers(0, 9),
    seed=st.integers(0, 999),
)
def test_grey_of_any_size_survives_png(
    height_px: int, width_px: int, dtype: type, level: int, seed: int
) -> None:
    pixels_hw = np.random.default_rng(seed).integers(
        0, np.iinfo(dtype).max, (height_px, width_px), dtype=dtype
    )
    assert (decode(png(pixels_hw, compress_level=level)).pixels_hw == pixels_hw).all()
