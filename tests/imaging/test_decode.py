"""Every kind of PNG and JPEG that is read, pixel by pixel."""

from concurrent.futures import ThreadPoolExecutor
from io import BytesIO

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image, ImageChops, ImageOps

import handmade
from cxr_server.imaging.decode import decode
from cxr_server.imaging.quality import Caution
from images import chest_like, encoded, jpeg, png

GREY_HW = chest_like(96, 120)
RNG = np.random.default_rng(7)


def saved(image: Image.Image, file_format: str, **options: object) -> bytes:
    file = BytesIO()
    image.save(file, file_format, **options)
    return file.getvalue()


def luma(rgb_hwc: np.ndarray) -> np.ndarray:
    return np.asarray(Image.fromarray(rgb_hwc).convert("L"))


def test_an_8_bit_grey_png_comes_as_it_is() -> None:
    radiograph = decode(png(GREY_HW))
    assert radiograph.pixels_hw.dtype == np.uint8
    assert (radiograph.pixels_hw == GREY_HW).all()
    assert (radiograph.height_px, radiograph.width_px) == GREY_HW.shape
    assert (radiograph.max_value, radiograph.bit_depth) == (255, 8)
    assert (radiograph.file_format, radiograph.cautions) == ("PNG", ())
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


@pytest.mark.parametrize("bit_depth", [1, 2, 4])
def test_few_bits_are_spread_over_the_whole_range(bit_depth: int) -> None:
    samples_hw = RNG.integers(0, 1 << bit_depth, (40, 45))
    radiograph = decode(handmade.png_of(samples_hw, bit_depth))
    assert (radiograph.pixels_hw == samples_hw * 255 // ((1 << bit_depth) - 1)).all()
    assert (radiograph.max_value, radiograph.bit_depth) == (255, bit_depth)


@pytest.mark.parametrize("dtype", [np.uint8, np.uint16])
def test_an_interlaced_png_equals_its_plain_twin(dtype: type) -> None:
    pixels_hw = RNG.integers(0, np.iinfo(dtype).max, (35, 41), dtype=dtype)
    # Adam7: seven passes, each a picture of its own (PNG specification, section 8).
    passes = [(0, 0, 8, 8), (0, 4, 8, 8), (4, 0, 8, 4), (0, 2, 4, 4), (2, 0, 4, 2), (0, 1, 2, 2)]
    passes.append((1, 0, 2, 1))
    bits = np.iinfo(dtype).bits
    rows = b"".join(
        handmade.packed_rows(pixels_hw[top::down, left::right], bits)
        for top, left, down, right in passes
    )
    file = handmade.SIGNATURE + b"".join(
        [
            handmade.chunk(b"IHDR", handmade.ihdr(41, 35, bits, 0, interlace=1)),
            handmade.chunk(b"IDAT", handmade.zlib.compress(rows)),
            handmade.chunk(b"IEND"),
        ]
    )
    assert (decode(file).pixels_hw == pixels_hw).all()


def test_colour_becomes_luma_with_a_caution() -> None:
    rgb_hwc = RNG.integers(0, 256, (40, 50, 3), dtype=np.uint8)
    radiograph = decode(png(rgb_hwc))
    assert (radiograph.pixels_hw == luma(rgb_hwc)).all()
    assert radiograph.cautions == (Caution.COLOR,)


@pytest.mark.parametrize("file_format", ["PNG", "JPEG"])
def test_grey_saved_as_colour_is_not_cautioned(file_format: str) -> None:
    rgb_hwc = np.repeat(GREY_HW[..., None], 3, axis=-1)
    radiograph = decode(encoded(rgb_hwc, file_format))
    assert np.abs(radiograph.pixels_hw.astype(int) - GREY_HW).max() <= (file_format == "JPEG") * 40
    assert radiograph.cautions == ()


def test_a_tinted_jpeg_is_cautioned() -> None:
    rgb_hwc = np.stack([GREY_HW, GREY_HW // 2, GREY_HW // 3], axis=-1)
    assert decode(jpeg(rgb_hwc)).cautions == (Caution.COLOR,)


def test_a_16_bit_colour_png_keeps_its_upper_bits() -> None:
    samples = RNG.integers(0, 65_536, (33, 37, 3))
    radiograph = decode(handmade.png_of(samples, 16, 2))
    assert (radiograph.pixels_hw == luma((samples >> 8).astype(np.uint8))).all()
    assert (radiograph.max_value, radiograph.bit_depth) == (255, 16)


@pytest.mark.parametrize(("color_type", "channels"), [(4, 2), (6, 4)], ids=["grey", "colour"])
@pytest.mark.parametrize("bit_depth", [8, 16])
def test_transparent_pixels_lie_over_black(color_type: int, channels: int, bit_depth: int) -> None:
    top = (1 << bit_depth) - 1
    samples = np.full((32, 40, channels), top)
    samples[:, 10:20, -1] = 0
    samples[:, 20:30, -1] = 0x80 if bit_depth == 8 else 0x8000
    radiograph = decode(handmade.png_of(samples, bit_depth, color_type))
    assert radiograph.pixels_hw[0, [0, 10, 20, 30]].tolist() == [255, 0, 128, 255]
    assert radiograph.cautions == (Caution.TRANSPARENT,)


@pytest.mark.parametrize(("color_type", "channels"), [(4, 2), (6, 4)], ids=["grey", "colour"])
def test_an_opaque_alpha_channel_changes_nothing(color_type: int, channels: int) -> None:
    samples = np.repeat(GREY_HW[..., None], channels, axis=-1)
    samples[..., -1] = 255
    radiograph = decode(handmade.png_of(samples, 8, color_type))
    assert (radiograph.pixels_hw == GREY_HW).all()
    assert radiograph.cautions == ()


@pytest.mark.parametrize("bit_depth", [1, 2, 4, 8, 16])
def test_the_grey_that_a_png_names_transparent_is_black(bit_depth: int) -> None:
    top = (1 << bit_depth) - 1
    samples_hw = np.full((32, 32), top)
    samples_hw[5] = 0
    file = handmade.png_of(samples_hw, bit_depth, before=[(b"tRNS", top.to_bytes(2, "big"))])
    radiograph = decode(file)
    assert not radiograph.pixels_hw.any()
    assert radiograph.cautions == (Caution.TRANSPARENT,)


@pytest.mark.parametrize("bit_depth", [8, 16])
def test_the_colour_that_a_png_names_transparent_is_black(bit_depth: int) -> None:
    samples = np.full((32, 32, 3), (1 << bit_depth) - 1)
    samples[3:9] = 77
    key = (77).to_bytes(2, "big") * 3
    radiograph = decode(handmade.png_of(samples, bit_depth, 2, before=[(b"tRNS", key)]))
    assert not radiograph.pixels_hw[3:9].any()
    assert (radiograph.pixels_hw[9:] == 255).all()
    assert radiograph.cautions == (Caution.TRANSPARENT,)


@pytest.mark.parametrize("bit_depth", [1, 2, 4, 8])
def test_a_palette_is_looked_up(bit_depth: int) -> None:
    colors = RNG.integers(0, 256, (1 << bit_depth, 3), dtype=np.uint8)
    colors[:2] = (255, 0, 0), (0, 0, 255)
    index_hw = RNG.integers(0, 1 << bit_depth, (35, 33))
    file = handmade.png_of(index_hw, bit_depth, 3, before=[(b"PLTE", colors.tobytes())])
    radiograph = decode(file)
    assert (radiograph.pixels_hw == luma(colors[index_hw])).all()
    assert radiograph.cautions == (Caution.COLOR,)
    assert radiograph.bit_depth == bit_depth


def test_a_palette_of_greys_with_one_transparent_entry() -> None:
    greys = np.repeat(np.arange(256, dtype=np.uint8)[:, None], 3, axis=-1)
    palette = (b"PLTE", greys.tobytes())
    opaque = decode(handmade.png_of(GREY_HW, 8, 3, before=[palette]))
    assert (opaque.pixels_hw == GREY_HW).all()
    assert opaque.cautions == ()
    hidden = GREY_HW.copy()
    hidden[0] = 3
    alpha = (b"tRNS", bytes([255, 255, 255, 0]))
    seen = decode(handmade.png_of(hidden, 8, 3, before=[palette, alpha]))
    assert not seen.pixels_hw[0].any()
    assert seen.cautions == (Caution.TRANSPARENT,)


def test_a_palette_index_beyond_the_palette_is_black() -> None:
    file = handmade.png_of(np.full((32, 32), 9), 8, 3, before=[(b"PLTE", b"\xff" * 6)])
    assert not decode(file).pixels_hw.any()


@pytest.mark.parametrize("options", [{}, {"progressive": True}, {"quality": 100}], ids=str)
def test_a_grey_jpeg_equals_what_pillow_reads(options: dict) -> None:
    file = jpeg(GREY_HW, **options)
    radiograph = decode(file)
    assert (radiograph.pixels_hw == np.asarray(Image.open(BytesIO(file)))).all()
    assert (radiograph.file_format, radiograph.bit_depth) == ("JPEG", 8)
    assert radiograph.cautions == ()


@pytest.mark.parametrize("options", [{}, {"progressive": True}, {"subsampling": 0}], ids=str)
def test_a_colour_jpeg_comes_straight_as_its_luma(options: dict) -> None:
    rgb_hwc = np.asarray(Image.effect_noise((160, 120), 60).convert("RGB")).copy()
    rgb_hwc[..., 0] = 200
    file = jpeg(rgb_hwc, **options)
    with Image.open(BytesIO(file)) as image:
        image.draft("L", image.size)
        expected = np.asarray(image)
    radiograph = decode(file)
    assert (radiograph.pixels_hw == expected).all()
    assert radiograph.cautions == (Caution.COLOR,)


def test_a_jpeg_of_red_green_blue_becomes_luma() -> None:
    smooth = np.asarray(Image.effect_noise((64, 64), 40).resize((128, 128)))
    rgb_hwc = np.stack([smooth, 255 - smooth, smooth // 2], axis=-1)
    radiograph = decode(jpeg(rgb_hwc, keep_rgb=True, quality=100))
    assert np.abs(radiograph.pixels_hw.astype(int) - luma(rgb_hwc)).max() <= 4
    assert radiograph.cautions == (Caution.COLOR,)


def test_cmyk_jpeg_is_inverted_only_where_adobe_says_so() -> None:
    # Pillow writes CMYK as Adobe does: inverted, with Adobe's segment.
    cmyk = Image.fromarray(np.repeat(GREY_HW[..., None], 3, axis=-1)).convert("CMYK")
    inverted = saved(cmyk, "JPEG", quality=100)
    radiograph = decode(inverted)
    assert np.abs(radiograph.pixels_hw.astype(int) - GREY_HW).max() <= 5
    assert radiograph.cautions == ()
    # Without the segment the same numbers mean ink, and the key of 255 is black.
    assert not decode(handmade.without_segments(inverted, 0xEE)).pixels_hw.any()
    stored_as_ink = saved(ImageChops.invert(cmyk), "JPEG", quality=100)
    radiograph = decode(handmade.without_segments(stored_as_ink, 0xEE))
    assert np.abs(radiograph.pixels_hw.astype(int) - GREY_HW).max() <= 5


def test_coloured_cmyk_is_cautioned() -> None:
    rgb_hwc = np.zeros((64, 64, 3), dtype=np.uint8)
    rgb_hwc[..., 0] = 220
    file = saved(Image.fromarray(rgb_hwc).convert("CMYK"), "JPEG")
    radiograph = decode(file)
    assert radiograph.cautions == (Caution.COLOR,)
    assert abs(int(radiograph.pixels_hw.mean()) - 66) < 4


@pytest.mark.parametrize("file_format", ["PNG", "JPEG"])
@pytest.mark.parametrize("order", ["<", ">"], ids=["little", "big"])
@pytest.mark.parametrize("orientation", range(1, 9))
def test_the_exif_orientation_is_applied(orientation: int, order: str, file_format: str) -> None:
    block = handmade.exif(orientation, order)
    if file_format == "PNG":
        file = handmade.png_of(GREY_HW, before=[(b"eXIf", block)])
    else:
        file = handmade.with_segment(jpeg(GREY_HW), 0xE1, b"Exif\0\0" + block)
    expected = np.asarray(ImageOps.exif_transpose(Image.open(BytesIO(file))))
    radiograph = decode(file)
    assert (radiograph.pixels_hw == expected).all()
    assert radiograph.pixels_hw.flags.c_contiguous
    assert radiograph.cautions == ((Caution.REORIENTED,) if orientation > 1 else ())


@pytest.mark.parametrize(
    "block",
    [
        b"",
        b"II*\0",
        b"II*\0\xff\xff\xff\xff",
        handmade.exif(0),
        handmade.exif(9),
        handmade.exif(6)[:-9],
        b"XX" + handmade.exif(6)[2:],
        handmade.exif(6).replace(b"\x12\x01\x03\x00", b"\x12\x01\x04\x00"),
    ],
    ids=["empty", "short", "far", "zero", "nine", "cut", "order", "type"],
)
def test_a_broken_exif_block_states_nothing(block: bytes) -> None:
    radiograph = decode(handmade.png_of(GREY_HW, before=[(b"eXIf", block)]))
    assert (radiograph.pixels_hw == GREY_HW).all()
    assert radiograph.cautions == ()


def test_chunks_that_pixels_do_not_need_are_never_parsed() -> None:
    bomb = b"key\0\0" + handmade.zlib.compress(b"\0" * 50_000_000, 9)
    chunks = [(b"zTXt", bomb), (b"iCCP", bomb), (b"iTXt", b"k\0\1\0\0\0" + bomb[5:])] * 4
    radiograph = decode(handmade.png_of(GREY_HW, before=chunks, after=[(b"tEXt", b"\xff\0\xfe")]))
    assert (radiograph.pixels_hw == GREY_HW).all()


def test_a_still_picture_in_an_animation_of_one_frame_is_read() -> None:
    control = (b"acTL", (1).to_bytes(4, "big") + (0).to_bytes(4, "big"))
    assert (decode(handmade.png_of(GREY_HW, before=[control])).pixels_hw == GREY_HW).all()


def test_bytes_behind_the_end_are_ignored() -> None:
    assert (decode(png(GREY_HW) + b"PK\x03\x04 and more").pixels_hw == GREY_HW).all()
    file = jpeg(GREY_HW)
    assert (decode(file + b"<html>").pixels_hw == decode(file).pixels_hw).all()


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


def test_threads_decode_side_by_side() -> None:
    pictures = [chest_like(64 + 8 * index, 96, seed=index) for index in range(12)]
    files = [png(picture) for picture in pictures] * 4
    with ThreadPoolExecutor(8) as pool:
        decoded = list(pool.map(decode, files))
    for radiograph, picture in zip(decoded, pictures * 4, strict=True):
        assert (radiograph.pixels_hw == picture).all()


@pytest.mark.parametrize("dtype", [np.uint8, np.uint16])
def test_an_image_of_the_value_that_marks_missing_rows_is_read(dtype: type) -> None:
    pixels_hw = np.full((40, 40), 0x5A if dtype is np.uint8 else 0x5AC7, dtype=dtype)
    assert (decode(png(pixels_hw)).pixels_hw == pixels_hw).all()
