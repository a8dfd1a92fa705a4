"""Some mutations in every run; `make fuzz` sends thousands."""

import zlib

import pytest

from cxr_server.errors import ImageError
from cxr_server.imaging import grey, png
from cxr_server.imaging.decode import LOCKED_BYTES, DecodeLimits, decode
from cxr_server.model import locked_bytes_for
from serving import ServerProcess
from trust import fuzz
from trust.hostile_images import cases

BOTH = DecodeLimits(max_pixel_count=1_000_000)
PILLOW_ALONE = DecodeLimits(max_pixel_count=1_000_000, locked_bytes=0)


async def test_mutated_images_end_ok_or_with_a_reason(plain_server: ServerProcess) -> None:
    ends, wrong = await fuzz.send(plain_server.address, 1, range(160), until=0)
    assert wrong == []
    assert ends.total() == 160
    assert ends["IMAGE_UNREADABLE"] > 50
    assert ends["OK"] > 5
    assert "unforeseen" not in plain_server.log


def test_mutations_are_repeatable_and_reach_behind_the_checksums() -> None:
    assert [fuzz.mutation(7, n) for n in range(50)] == [fuzz.mutation(7, n) for n in range(50)]
    data = bytearray(fuzz.BASES[0])
    data[60] ^= 1
    fuzz.mend_checksums(data)
    assert data != fuzz.BASES[0]
    mended = bytearray(data)
    fuzz.mend_checksums(mended)
    assert mended == data


def verdict(file: bytes, limits: DecodeLimits) -> tuple[object, ...]:
    """What decode makes of a file: its pixels, or why it has none."""
    try:
        radiograph = decode(file, limits)
    except ImageError as error:
        return error.reason, error.message
    pixels_hw = radiograph.pixels_hw
    return "OK", pixels_hw.dtype, pixels_hw.shape, pixels_hw.tobytes(), radiograph.cautions


def has_a_wrong_sum_inside(file: bytes) -> bool:
    """Whether a PNG's compressed pixels are whole, but followed by another Adler-32."""
    body = png.read_body(file, png.read_header(file))
    chunks = png._chunks(body.pixel_file)
    stream = b"".join(payload for kind, payload, _ in chunks if kind == b"IDAT")
    inflate = zlib.decompressobj(-zlib.MAX_WBITS)
    pixels = inflate.decompress(stream[2:])
    return inflate.eof and inflate.unused_data[:4] != zlib.adler32(pixels).to_bytes(4, "big")


def test_both_png_decoders_agree_on_every_file_but_for_the_sum_inside_its_pixels() -> None:
    files = [case.data for case in cases()] + [fuzz.mutation(3, n) for n in range(2000)]
    read = excused = 0
    for file in files:
        alone, both = verdict(file, PILLOW_ALONE), verdict(file, BOTH)
        if alone != both:
            assert (alone[0], both[0]) == ("IMAGE_UNREADABLE", "OK")
            assert has_a_wrong_sum_inside(file)
            excused += 1
        read += both[0] == "OK"
    assert read > 100
    assert 0 < excused < 0.02 * len(files)


@pytest.mark.parametrize("file", fuzz.BASES[:2], ids=["8 bits", "16 bits"])
def test_the_fast_decoder_reads_plain_grey_as_pillow_does(file: bytes) -> None:
    header = png.read_header(file)
    pixels_hw = grey._load_plain(header, png.read_body(file, header))
    assert pixels_hw is not None
    expected_hw = decode(file, PILLOW_ALONE).pixels_hw
    assert pixels_hw.dtype == expected_hw.dtype
    assert (pixels_hw == expected_hw).all()


def test_what_the_fast_decoder_dies_of_is_left_to_pillow(monkeypatch: pytest.MonkeyPatch) -> None:
    class PanicException(BaseException):
        """As pyo3's, which is no Exception and cannot be imported."""

    calls = []

    def dies(*_: object) -> None:
        calls.append(1)
        raise PanicException

    monkeypatch.setattr(grey, "decode_image_png_u8", dies)
    assert verdict(fuzz.BASES[0], BOTH) == verdict(fuzz.BASES[0], PILLOW_ALONE)
    assert len(calls) == 1


def test_images_above_the_limit_and_all_of_them_on_many_cores_go_to_pillow(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    calls = []
    fast = grey.decode_image_png_u8
    monkeypatch.setattr(grey, "decode_image_png_u8", lambda *a: (calls.append(1), fast(*a))[1])
    stored_bytes = 64 * (1 + 64)
    for locked_bytes, used in [(0, 0), (stored_bytes - 1, 0), (stored_bytes, 1)]:
        calls.clear()
        assert verdict(fuzz.BASES[0], DecodeLimits(locked_bytes=locked_bytes))[0] == "OK"
        assert len(calls) == used
    assert locked_bytes_for("CPU", cores=2) == LOCKED_BYTES
    assert locked_bytes_for("CPU", cores=16) == locked_bytes_for("cuda:0", cores=2) == 0
