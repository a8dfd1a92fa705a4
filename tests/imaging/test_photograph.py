"""Photographs of films are told from exports of them, drawn ones and, at the cost of few, all."""

import numpy as np
import pytest

from cxr_phantom.canvas import stream
from cxr_phantom.dataset import HELD_OUT_SEED
from cxr_phantom.draw import draw_phantom
from cxr_phantom.film_scenes import SIDE_PX, ordinary, photographed
from cxr_server.imaging.codecs import decode
from cxr_server.imaging.photograph import is_photograph
from cxr_server.imaging.quality import UNLIKELY, inspect
from cxr_server.imaging.radiograph import InputWarning, Radiograph
from handmade import exif, exif_of_a_camera, with_segment
from images import jpeg

STREAM = 71  # not that of the training
FILMS_HW = [
    np.float32(1 / 255) * draw_phantom(HELD_OUT_SEED + 50_000 + number, size_px=SIDE_PX).pixels_hw
    for number in range(8)
]


def eight_bits(image_hw: np.ndarray) -> np.ndarray:
    return np.rint(255 * image_hw).astype(np.uint8)


def test_most_photographs_of_drawn_films_are_noticed_and_hardly_any_export() -> None:
    noticed, alarms = [], []
    for number, film_hw in enumerate(FILMS_HW):
        rng = stream(number, STREAM)
        noticed += [is_photograph(eight_bits(photographed(film_hw, rng))) for _ in range(12)]
        alarms += [is_photograph(eight_bits(ordinary(film_hw, rng))) for _ in range(24)]
    assert np.mean(noticed) > 0.7
    assert np.mean(alarms) < 0.03


@pytest.mark.parametrize("turns", [0, 1, 2, 3])
def test_an_export_is_none_upright_turned_inverted_or_with_black_borders(turns: int) -> None:
    for seed in range(4):
        film_hw = np.rot90(draw_phantom(seed, size_px=256).pixels_hw, turns)
        bordered_hw = np.pad(film_hw, 30)
        for image_hw in (film_hw, 255 - film_hw, film_hw[:, ::-1], bordered_hw, film_hw // 8 + 99):
            assert not is_photograph(image_hw)


def test_it_is_a_warning_that_strict_input_accepts() -> None:
    rng = stream(0, STREAM)
    scenes = [eight_bits(photographed(FILMS_HW[0], rng)) for _ in range(4)]
    seen = {
        each for image_hw in scenes for each in inspect(Radiograph(image_hw, 255, "PNG", 8), 64)
    }
    assert InputWarning.POSSIBLY_PHOTOGRAPH in seen - UNLIKELY


@pytest.mark.parametrize("order", ["<", ">"])
def test_a_jpeg_that_states_an_exposure_is_a_photograph_whatever_it_shows(order: str) -> None:
    film = jpeg(draw_phantom(1, size_px=256).pixels_hw)

    def warned(block: bytes) -> bool:
        image = decode(with_segment(film, 0xE1, b"Exif\0\0" + block))
        seen = (*image.warnings, *inspect(image, 224))
        assert seen.count(InputWarning.POSSIBLY_PHOTOGRAPH) < 2
        return InputWarning.POSSIBLY_PHOTOGRAPH in seen

    block = exif_of_a_camera(order)
    assert warned(block)
    assert warned(exif_of_a_camera(order, tag=0x829D))  # the aperture
    assert not warned(exif_of_a_camera(order, tag=0x9000))  # a version, as editors write it
    assert not warned(exif(1, order))
    for length in range(len(block)):
        warned(block[:length])
