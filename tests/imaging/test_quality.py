"""What is warned of, and what is not."""

import numpy as np
import pytest

from cxr.v1 import chest_xray_pb2
from cxr_phantom.draw import draw_phantom
from cxr_server.errors import ImageRefused
from cxr_server.imaging.codecs import decode
from cxr_server.imaging.quality import MESSAGES, UNLIKELY, inspect, message, refuse_unlikely
from cxr_server.imaging.radiograph import InputWarning, Radiograph
from images import chest_like

TWELVE_BITS_HW = chest_like(256, 256).astype(np.uint16) * 16
"""A good film, of twelve bits that were not scaled to sixteen."""


def warnings_on(pixels_hw: np.ndarray) -> tuple[InputWarning, ...]:
    max_value = int(np.iinfo(pixels_hw.dtype).max)
    return inspect(Radiograph(pixels_hw, max_value, "PNG", 8), 224)


def test_real_radiographs_raise_none_and_inverted_ones_are_noticed(radiographs: list) -> None:
    for file in radiographs:
        radiograph = decode(file.read_bytes())
        assert radiograph.warnings == ()
        assert warnings_on(radiograph.pixels_hw) == ()
        sixteen = radiograph.pixels_hw.astype(np.uint16) * 257
        assert warnings_on(sixteen) == ()
        assert warnings_on(255 - radiograph.pixels_hw) == (InputWarning.POSSIBLY_INVERTED,)


@pytest.mark.parametrize("seed", range(12))
def test_phantoms_raise_none_and_inverted_ones_are_noticed(seed: int) -> None:
    pixels_hw = draw_phantom(seed, size_px=256).pixels_hw
    assert warnings_on(pixels_hw) == ()
    assert warnings_on(255 - pixels_hw) == (InputWarning.POSSIBLY_INVERTED,)


@pytest.mark.parametrize(
    ("pixels_hw", "expected"),
    [
        (chest_like(256, 256), ()),
        (chest_like(300, 256), ("CROPPED",)),
        (chest_like(200, 200), ("LOW_RESOLUTION",)),
        # Drawn wide, so that its middle is no upright chest.
        (chest_like(256, 600), ("CROPPED", "UNUSUAL_ASPECT_RATIO", "POSSIBLY_ROTATED")),
        (chest_like(600, 256), ("CROPPED", "UNUSUAL_ASPECT_RATIO")),
        (chest_like(256, 256) // 8 + 90, ("LOW_CONTRAST",)),
        (TWELVE_BITS_HW, ("RANGE_UNUSED",)),
        (4095 - TWELVE_BITS_HW, ("POSSIBLY_INVERTED", "RANGE_UNUSED")),
        (TWELVE_BITS_HW // 2 + 32_768, ("RANGE_UNUSED",)),
        (TWELVE_BITS_HW // 8 + 1440, ("RANGE_UNUSED",)),
        (
            np.where(np.arange(256)[:, None] < 150, 0, chest_like(256, 256)),
            ("CLIPPED", "LETTERBOXED"),
        ),
        (
            np.where(np.arange(256)[:, None] > 190, 255, chest_like(256, 256)),
            ("CLIPPED", "LETTERBOXED"),
        ),
        (255 - chest_like(256, 256), ("POSSIBLY_INVERTED",)),
        (np.zeros((256, 256), np.uint8), ("LOW_CONTRAST", "CLIPPED", "POSSIBLY_NOT_CHEST")),
        (np.full((256, 256), 65_535, np.uint16), ("LOW_CONTRAST", "CLIPPED", "POSSIBLY_NOT_CHEST")),
    ],
    ids=[
        "square",
        "tall",
        "small",
        "very-wide",
        "very-tall",
        "flat",
        "twelve-bits",
        "twelve-bits-inverted",
        "eleven-bits-with-an-offset",
        "twelve-bits-flat",
        "half-black",
        "quarter-white",
        "inverted",
        "black",
        "white",
    ],
)
def test_each_warning_has_its_cause(pixels_hw: np.ndarray, expected: tuple[str, ...]) -> None:
    dtype = np.uint16 if pixels_hw.dtype == np.uint16 else np.uint8
    assert warnings_on(pixels_hw.astype(dtype)) == expected


def test_tiny_images_can_be_inspected() -> None:
    for shape_hw in ((1, 1), (1, 9), (2, 3), (9, 1)):
        assert InputWarning.LOW_RESOLUTION in warnings_on(np.zeros(shape_hw, np.uint8))


def test_an_image_that_is_padding_alone_can_be_inspected() -> None:
    pixels_hw = np.zeros((256, 256), np.uint16)
    nothing = Radiograph(pixels_hw, 65_535, "DICOM", 12, padding_hw=np.ones_like(pixels_hw, bool))
    assert InputWarning.LOW_CONTRAST in inspect(nothing, 224)


def test_every_warning_has_a_sentence_and_a_code_in_the_contract() -> None:
    codes = set(chest_xray_pb2.WarningCode.keys()) - {"WARNING_CODE_UNSPECIFIED"}
    assert {f"WARNING_CODE_{warning}" for warning in InputWarning} == codes
    assert set(MESSAGES) == set(InputWarning)


@pytest.mark.parametrize("warning", list(InputWarning))
def test_strict_input_refuses_images_unlike_a_chest_radiograph(warning: InputWarning) -> None:
    if warning not in UNLIKELY:
        refuse_unlikely((warning,), (0, 255))
        return
    with pytest.raises(ImageRefused) as refused:
        refuse_unlikely((InputWarning.CROPPED, warning), (0, 4080))
    assert message(warning, (0, 4080)) in refused.value.message
    assert MESSAGES[InputWarning.CROPPED] not in refused.value.message


def test_strictness_lets_a_sound_radiograph_pass() -> None:
    refuse_unlikely((), (0, 255))
    assert {InputWarning.CROPPED, InputWarning.LOW_RESOLUTION, InputWarning.REORIENTED}.isdisjoint(
        UNLIKELY
    )


@pytest.mark.parametrize(
    ("display_range", "text"),
    [
        (
            (0, 4080),
            "The values of this 16-bit file are only from 0 to 4080 of 65535, as when 12-bit data "
            "is saved unscaled: multiply them by 16, or export the image with its intended window.",
        ),
        (
            (3, 16_000),
            "The values of this 16-bit file are only from 3 to 16000 of 65535, as when 14-bit data "
            "is saved unscaled: multiply them by 4, or export the image with its intended window.",
        ),
        (
            (32_768, 34_808),
            "The values of this 16-bit file are only from 32768 to 34808 of 65535: export the "
            "image with its intended window.",
        ),
    ],
    ids=["12-bits", "14-bits", "offset"],
)
def test_the_warning_of_an_unused_range_says_what_is_wrong_and_how_to_mend_it(
    display_range: tuple[int, int], text: str
) -> None:
    assert message(InputWarning.RANGE_UNUSED, display_range) == text
