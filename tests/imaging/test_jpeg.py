"""Every kind of JPEG that is read, pixel by pixel."""

import struct
from io import BytesIO

import numpy as np
import pytest
from PIL import Image

import handmade
from cxr_server.errors import ImageFormatUnsupported, ImageIsHeatmap, ImageUnreadable
from cxr_server.imaging import jpeg_segments
from cxr_server.imaging.codecs import CODECS, decode
from cxr_server.imaging.radiograph import InputWarning
from images import chest_like, jpeg

GREY_HW = chest_like(96, 120)


@pytest.mark.parametrize("options", [{}, {"progressive": True}, {"quality": 100}], ids=str)
def test_a_grey_jpeg_equals_what_pillow_reads(options: dict) -> None:
    file = jpeg(GREY_HW, **options)
    radiograph = decode(file)
    assert (radiograph.pixels_hw == np.asarray(Image.open(BytesIO(file)))).all()
    assert (radiograph.file_format, radiograph.bit_depth) == ("JPEG", 8)
    assert radiograph.warnings == ()


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
    assert radiograph.warnings == (InputWarning.COLOR,)


def test_a_jpeg_of_red_green_blue_becomes_luma() -> None:
    smooth = np.asarray(Image.effect_noise((64, 64), 40).resize((128, 128)))
    rgb_hwc = np.stack([smooth, 255 - smooth, smooth // 2], axis=-1)
    expected_hw = np.asarray(Image.fromarray(rgb_hwc).convert("L"))
    radiograph = decode(jpeg(rgb_hwc, keep_rgb=True, quality=100))
    assert np.abs(radiograph.pixels_hw.astype(int) - expected_hw).max() <= 4
    assert radiograph.warnings == (InputWarning.COLOR,)


def test_a_tinted_jpeg_gets_a_warning() -> None:
    rgb_hwc = np.stack([GREY_HW, GREY_HW // 2, GREY_HW // 3], axis=-1)
    assert decode(jpeg(rgb_hwc)).warnings == (InputWarning.COLOR,)


def test_grey_saved_as_colour_gets_no_warning() -> None:
    radiograph = decode(jpeg(np.repeat(GREY_HW[..., None], 3, axis=-1)))
    assert np.abs(radiograph.pixels_hw.astype(int) - GREY_HW).max() <= 40
    assert radiograph.warnings == ()


@pytest.mark.parametrize("subsampling", [0, 1, 2], ids=["4:4:4", "4:2:2", "4:2:0"])
def test_a_coloured_stamp_gets_a_warning_and_a_trace_of_colour_none(subsampling: int) -> None:
    stamped_hwc = np.repeat(GREY_HW[..., None], 3, axis=-1)
    traced_hwc = stamped_hwc // 2 + np.array([12, 6, 0], np.uint8)
    stamped_hwc[70:90, 90:110] = (200, 160, 0)
    for rgb_hwc, warnings in ((stamped_hwc, (InputWarning.COLOR,)), (traced_hwc, ())):
        file = jpeg(rgb_hwc, subsampling=subsampling)
        radiograph = decode(file)
        assert radiograph.warnings == warnings
        assert (radiograph.pixels_hw == luma_by_pillow(file)).all()


@pytest.mark.parametrize("subsampling", [0, 1, 2], ids=["4:4:4", "4:2:2", "4:2:0"])
@pytest.mark.parametrize(
    "options", [{}, {"optimize": True}, {"restart_marker_rows": 1}, {"quality": 100}], ids=str
)
def test_colour_in_one_block_far_down_is_seen_and_changes_no_luma(
    subsampling: int, options: dict
) -> None:
    """Where all chroma is neutral, the luma alone is decoded."""
    grey_hwc = np.repeat(chest_like(200, 150)[..., None], 3, axis=-1)
    for row, column in ((66, 0), (120, 70), (199, 149)):
        for channel, value in ((0, 255), (2, 1)):  # much, and next to nothing
            rgb_hwc = grey_hwc.copy()
            rgb_hwc[row:, column:, channel] ^= value
            file = jpeg(rgb_hwc, subsampling=subsampling, **options)
            assert (decode(file).pixels_hw == luma_by_pillow(file)).all()
    file = jpeg(grey_hwc, subsampling=subsampling, **options)
    assert (decode(file).pixels_hw == luma_by_pillow(file)).all()
    assert decode(file).warnings == ()


def test_cmyk_jpeg_is_refused_by_name() -> None:
    file = BytesIO()
    Image.fromarray(GREY_HW).convert("CMYK").save(file, "JPEG")
    with pytest.raises(ImageFormatUnsupported, match="CMYK"):
        decode(file.getvalue())


def luma_by_pillow(file: bytes) -> np.ndarray:
    """The pixels of grey, or the luma of colour, of the first picture."""
    with Image.open(BytesIO(file)) as image:
        image.draft("L", image.size)
        return np.asarray(image)


GREY = jpeg(GREY_HW)
COLOR_HWC = np.stack([GREY_HW, 255 - GREY_HW, GREY_HW // 2], axis=-1)
COLOR = jpeg(COLOR_HWC)
PROGRESSIVE = jpeg(COLOR_HWC, progressive=True)
NEUTRAL = jpeg(np.repeat(GREY_HW[..., None], 3, axis=-1))
LAST_SCAN = PROGRESSIVE.rindex(b"\xff\xda")
BEHIND_JFIF = 2 + 2 + int.from_bytes(GREY[4:6])
"""Offset of the segment behind the first marker and JFIF's segment."""


def stray(junk: bytes, file: bytes = GREY) -> bytes:
    """A file with bytes between two segments."""
    return file[:BEHIND_JFIF] + junk + file[BEHIND_JFIF:]


def scan_of_no_coefficients(file: bytes, selection: bytes) -> bytes:
    """A sequential file whose scan header states this selection of coefficients and bits."""
    at = file.rindex(b"\xff\xda")
    end = at + 2 + int.from_bytes(file[at + 2 : at + 4])
    return file[: end - 3] + selection + file[end:]


def several_pictures() -> bytes:
    file = BytesIO()
    first, second = Image.fromarray(GREY_HW), Image.fromarray(255 - GREY_HW)
    first.save(file, "MPO", save_all=True, append_images=[second])
    return file.getvalue()


def comment_before_the_last_scan(payload: bytes) -> bytes:
    return PROGRESSIVE[:LAST_SCAN] + handmade.segment(0xFE, payload) + PROGRESSIVE[LAST_SCAN:]


def behind_the_pixels(file: bytes, marker: int, payload: bytes) -> bytes:
    return file[:-2] + handmade.segment(marker, payload) + file[-2:]


def black_below(pixels_hw: np.ndarray) -> np.ndarray:
    """An image with a black border, which progressive JPEG codes as zeros."""
    return np.concatenate([pixels_hw, np.zeros_like(pixels_hw)])


MPF = b"MPF\0MM\0*" + struct.pack(
    ">IH HHII HHII I 16x", 8, 2, 0xB001, 4, 1, 1, 0xB002, 7, 16, 38, 0
)
"""An index of several pictures that lists a single one."""
ADOBE = b"Adobe\0\x64\0\0\0\0"
SOUND = {
    "a-page-behind-it": GREY + b"<html>",
    "scans-behind-it": GREY + b"\xff\xda" * 65,
    "an-end-behind-it": GREY + b"\xff\xd9",
    "a-jpeg-behind-it": GREY + jpeg(255 - GREY_HW) * 3,
    "a-progressive-jpeg-behind-it": COLOR + PROGRESSIVE * 9,
    "noise-behind-it": GREY + np.random.default_rng(1).bytes(300_000),
    "zeros-behind-it": PROGRESSIVE + bytes(512),
    "zeros-before-the-end": GREY[:-2] + bytes(500) + GREY[-2:],
    "coded-zeros-at-the-end-of-scans": jpeg(black_below(GREY_HW), progressive=True),
    "zeros-before-the-last-scan": PROGRESSIVE[:LAST_SCAN] + bytes(9) + PROGRESSIVE[LAST_SCAN:],
    "mpf-of-one-picture": handmade.with_segment(GREY, 0xE2, MPF),
    "mpf-of-two-pictures": several_pictures(),
    "no-coefficients": scan_of_no_coefficients(GREY, b"\0\0\0"),
    "no-coefficients-in-colour": scan_of_no_coefficients(COLOR, b"\0\0\0"),
    "bits-in-a-sequential-scan": scan_of_no_coefficients(GREY, b"\0\x3f\x21"),
    "jfif-2.1": GREY.replace(b"JFIF\0\1\1", b"JFIF\0\2\1"),
    "jfif-cut-short": handmade.with_segment(GREY, 0xE0, b"JFIF\0\1\1\0"),
    "adobe-transform-2": handmade.with_segment(
        handmade.without_segments(COLOR, 0xE0), 0xEE, ADOBE + b"\2"
    ),
    "adobe-transform-99": handmade.with_segment(
        handmade.without_segments(COLOR, 0xE0), 0xEE, ADOBE + b"\x63"
    ),
    "adobe-cut-short": handmade.with_segment(COLOR, 0xEE, ADOBE),
    "a-zero-between-segments": stray(b"\0"),
    "stuffed-zeros-between-segments": stray(b"\xff\0\xff\0"),
    "text-between-segments": stray(b"made by a PACS"),
    "restarts-between-segments": stray(b"\xff\xd0\xff\xd7"),
    "fill-bytes-between-segments": stray(b"\xff" * 20),
    "markers-in-a-comment-behind-the-pixels": behind_the_pixels(COLOR, 0xFE, b"\xff\xd9" * 99),
    "jfif-2.1-behind-the-pixels": behind_the_pixels(COLOR, 0xE0, b"JFIF\0\2\1" + bytes(7)),
    "jfif-2.1-behind-neutral-pixels": behind_the_pixels(NEUTRAL, 0xE0, b"JFIF\0\2\1" + bytes(7)),
    "a-jpeg-behind-neutral-pixels": NEUTRAL + COLOR,
    "zeros-behind-neutral-pixels": NEUTRAL[:-2] + bytes(500) + NEUTRAL[-2:],
    "markers-in-a-comment-between-scans": comment_before_the_last_scan(b"\xff\xd9\xff\xda" * 99),
}


@pytest.mark.parametrize("name", SOUND)
def test_oddities_that_change_no_pixel_are_tolerated(name: str) -> None:
    radiograph = decode(SOUND[name])
    assert (radiograph.pixels_hw == luma_by_pillow(SOUND[name])).all()


@pytest.mark.parametrize("size", range(1, 12))
def test_markers_are_found_wherever_the_search_pauses(
    size: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(jpeg_segments, "FIRST_BYTES", size + 1)
    monkeypatch.setattr(jpeg_segments, "MOST_BYTES", 2 * size + 1)
    for file in (stray(b"\0\xff\0" + b"\xff" * size), PROGRESSIVE + b"\xff\xd9"):
        assert (decode(file).pixels_hw == luma_by_pillow(file)).all()


@pytest.mark.parametrize(
    "transform", [0, 1, 2], ids=["red-green-blue", "luma-chroma", "of-four-components"]
)
def test_adobes_segment_decides_on_colour_as_in_pillow(transform: int) -> None:
    file = handmade.without_segments(COLOR, 0xE0)
    file = handmade.with_segment(file, 0xEE, ADOBE + bytes([transform]))
    with Image.open(BytesIO(file)) as image:
        expected_hw = np.asarray(image.convert("L"))
    assert np.abs(decode(file).pixels_hw.astype(int) - expected_hw).max() <= 2


@pytest.mark.parametrize("file", [GREY, PROGRESSIVE], ids=["baseline", "progressive"])
def test_a_jpeg_cut_anywhere_is_an_error(file: bytes) -> None:
    for length in range(1, len(file), 7):
        with pytest.raises(ImageUnreadable):
            decode(file[:length])


def test_other_bytes_behind_coded_data_are_an_error() -> None:
    with pytest.raises(ImageUnreadable):
        decode(GREY[:-2] + b"left over" + GREY[-2:])


def test_what_follows_the_end_does_not_hide_that_the_last_codes_are_broken() -> None:
    refused = 0
    for place in range(len(GREY) - 200, len(GREY) - 2):
        damaged = GREY[:place] + bytes([GREY[place] ^ 0x55]) + GREY[place + 1 :]
        try:
            decode(damaged)
        except ImageUnreadable:
            refused += 1
            with pytest.raises(ImageUnreadable):
                decode(damaged + 40 * COLOR)
    assert refused > 20


@pytest.mark.parametrize("file", [GREY, PROGRESSIVE], ids=["baseline", "progressive"])
def test_missing_coded_data_is_an_error(file: bytes) -> None:
    scan = file.index(b"\xff\xda") + 40
    for share in (4, 2):
        with pytest.raises(ImageUnreadable):
            decode(file[:scan] + file[scan + (len(file) - scan) // share :])


def scans_of(file: bytes) -> list[bytes]:
    """What makes up a file in parts that end where the coded data of a scan does."""
    parts, start = [], 0
    for marker, offset, _ in jpeg_segments.segments(file, 2):
        if marker == jpeg_segments.SOS or marker == jpeg_segments.EOI:
            parts.append(file[start:offset])
            start = offset
    return [*parts, file[start:]]


def one_component_at_a_time() -> list[bytes]:
    """A sequential file of three equal components: what precedes the scans, each scan, the end."""
    before, scan, end = scans_of(GREY)
    at = before.index(b"\xff\xc0")
    frame = before[at + 4 : at + 9] + b"\3" + b"".join(bytes([n, 0x11, 0]) for n in (1, 2, 3))
    rest = before[at + 2 + int.from_bytes(before[at + 2 : at + 4]) :]
    before = before[:at] + handmade.segment(0xC0, frame) + rest
    return [before, *(scan[:5] + bytes([n]) + scan[6:] for n in (1, 2, 3)), end]


def without(parts: list[bytes], *numbers: int) -> bytes:
    return b"".join(part for number, part in enumerate(parts) if number not in numbers)


@pytest.mark.parametrize("pixels", [GREY_HW, COLOR_HWC], ids=["grey", "colour"])
def test_a_progressive_file_without_its_last_scans_is_an_error(pixels: np.ndarray) -> None:
    parts = scans_of(jpeg(pixels, progressive=True))
    assert (decode(without(parts)).pixels_hw == luma_by_pillow(without(parts))).all()
    last = len(parts) - 1
    for first in range(1, last):
        with pytest.raises(ImageUnreadable):
            decode(without(parts, *range(first, last)))


def test_a_progressive_grey_file_without_any_one_scan_is_an_error() -> None:
    parts = scans_of(jpeg(GREY_HW, progressive=True))
    for number in range(1, len(parts) - 1):
        with pytest.raises(ImageUnreadable):
            decode(without(parts, number))


def test_a_sequential_file_needs_the_scan_of_its_luma_and_no_other() -> None:
    parts = one_component_at_a_time()
    for missing in ((), (2,), (3,), (2, 3)):
        assert (decode(without(parts, *missing)).pixels_hw == luma_by_pillow(GREY)).all()
    for missing in ((1,), (1, 2), (1, 2, 3)):
        with pytest.raises(ImageUnreadable):
            decode(without(parts, *missing))


def test_a_file_of_red_green_blue_needs_a_scan_of_each() -> None:
    parts = one_component_at_a_time()
    for missing in ((), (1,), (2,), (3,)):
        file = handmade.without_segments(without(parts, *missing), 0xE0)
        file = handmade.with_segment(file, 0xEE, ADOBE + b"\0")
        if missing:
            with pytest.raises(ImageUnreadable, match="lacks scans"):
                decode(file)
        else:
            assert np.abs(decode(file).pixels_hw.astype(int) - luma_by_pillow(GREY)).max() <= 1


def test_files_of_several_scans_count_with_all_their_coefficients() -> None:
    at = COLOR.rindex(b"\xff\xda") + 4
    one_component_at_a_time = COLOR[:at] + b"\1" + COLOR[at + 1 :]
    for file, coefficients in (
        (COLOR, 0),
        (one_component_at_a_time, COLOR_HWC.size),
        (PROGRESSIVE, COLOR_HWC.size),
    ):
        expected = 2 * len(file) + 5 * GREY_HW.size + 2 * coefficients
        assert CODECS["JPEG"].read_header(file).decode_bytes == expected


@pytest.mark.parametrize("place", [2, BEHIND_JFIF], ids=["first", "behind-jfif"])
def test_a_heat_map_of_our_own_is_refused_before_its_pixels_are_decoded(place: int) -> None:
    mark = handmade.segment(0xFE, b'cxr-serve {"finding": "Effusion"}')
    file = GREY[:place] + mark + GREY[place : GREY.index(b"\xff\xda")]
    with pytest.raises(ImageIsHeatmap, match="send the radiograph itself"):
        decode(file + b"\xff\xda no pixels")


def test_other_comments_are_ignored() -> None:
    file = handmade.with_segment(GREY, 0xFE, b"cxr-server made this")
    assert (decode(file).pixels_hw == decode(GREY).pixels_hw).all()
