"""Every kind of JPEG that is read, pixel by pixel."""

from io import BytesIO

import numpy as np
import pytest
from PIL import Image

from cxr_server.errors import ImageFormatUnsupported
from cxr_server.imaging.codecs import decode
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


def test_cmyk_jpeg_is_refused_by_name() -> None:
    file = BytesIO()
    Image.fromarray(GREY_HW).convert("CMYK").save(file, "JPEG")
    with pytest.raises(ImageFormatUnsupported, match="CMYK"):
        decode(file.getvalue())


def test_bytes_after_the_end_of_a_jpeg_are_ignored() -> None:
    file = jpeg(GREY_HW)
    assert (decode(file + b"<html>").pixels_hw == decode(file).pixels_hw).all()
