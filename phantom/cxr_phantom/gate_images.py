"""Gate images: seeds -> labelled thumbnails, from drawn films and textures alone. Next: gate."""

from collections.abc import Callable

import numpy as np
from numpy.typing import NDArray
from scipy import ndimage

from cxr_phantom.canvas import stream
from cxr_phantom.draw import draw_phantom
from cxr_server.imaging.gate import SIDE_PX, View, thumbnail

Image = NDArray[np.float32]
"""Grey values from 0 to 1, float32 [64, 64] before `thumbnail`."""

DRAWN_PX = 64
VARIANTS = 4
"""Thumbnails of each view that are made from one drawn film."""
VARIANT_STREAM = 60


def thumbnails_of(seed: int) -> list[tuple[Image, View]]:
    """Draw the phantom of a seed and return thumbnails of it, and of textures, with their views."""
    film_hw = np.float32(1 / 255) * draw_phantom(seed, size_px=DRAWN_PX).pixels_hw
    rng = stream(seed, VARIANT_STREAM)
    made: list[tuple[Image, View]] = []
    for _ in range(VARIANTS):
        for view in View:
            image_hw = _other(film_hw, rng) if view is View.OTHER else _turned(film_hw, view, rng)
            made.append((thumbnail(image_hw), view))
    return made


def _turned(film_hw: Image, view: View, rng: np.random.Generator) -> Image:
    """Return the film as another machine might show it, mirrored at times, in this view."""
    image_hw = _varied(film_hw, rng)
    if rng.random() < 0.3:
        image_hw = image_hw[:, ::-1]
    if view is View.INVERTED:
        return 1 - image_hw
    turns = {View.FRONTAL: 0, View.TURNED_90: 1, View.TURNED_180: 2, View.TURNED_270: 3}
    return np.rot90(image_hw, turns[view])


def _varied(film_hw: Image, rng: np.random.Generator) -> Image:
    """Zoom, shift and rotate a little; vary the tone curve, noise and a black border."""
    angle, zoom = np.deg2rad(rng.normal(0, 3)), rng.uniform(0.8, 1.1)
    matrix = zoom * np.array([[np.cos(angle), -np.sin(angle)], [np.sin(angle), np.cos(angle)]])
    middle = (DRAWN_PX - 1) / 2
    shift = rng.normal(0, 0.035 * DRAWN_PX, 2)
    offset = middle - matrix @ np.full(2, middle) + shift
    image_hw = ndimage.affine_transform(film_hw, matrix, offset, order=1, mode="nearest")
    image_hw = np.clip(image_hw, 0, 1) ** np.float32(np.exp(rng.uniform(-0.7, 0.7)))
    image_hw = image_hw + rng.normal(0, rng.uniform(0, 0.05), image_hw.shape)
    if rng.random() < 0.2:  # collimation
        top, bottom, left, right = rng.integers(0, DRAWN_PX // 8, 4)
        inside = np.zeros(image_hw.shape, bool)
        inside[top : DRAWN_PX - bottom, left : DRAWN_PX - right] = True
        image_hw = np.where(inside, image_hw, 0)
    return np.asarray(image_hw, np.float32)


def _other(film_hw: Image, rng: np.random.Generator) -> Image:
    """Return a part of the film, or a texture."""
    if rng.random() < 0.25:
        side = int(rng.uniform(0.3, 0.6) * DRAWN_PX)
        top, left = rng.integers(0, DRAWN_PX - side, 2)
        return film_hw[top : top + side, left : left + side]
    texture = TEXTURES[rng.integers(len(TEXTURES))](rng)
    low, span = texture.min(), np.ptp(texture) + 1e-6
    noisy = (texture - low) / span + rng.normal(0, rng.uniform(0, 0.1), texture.shape)
    return np.asarray(noisy, np.float32)


Y_HW, X_HW = np.mgrid[-1 : 1 : SIDE_PX * 1j, -1 : 1 : SIDE_PX * 1j]


def _power_law(rng: np.random.Generator) -> NDArray[np.float64]:
    frequency = np.hypot(*np.meshgrid(np.fft.fftfreq(SIDE_PX), np.fft.fftfreq(SIDE_PX)))
    frequency[0, 0] = 1
    spectrum = np.fft.fft2(rng.normal(size=(SIDE_PX, SIDE_PX)))
    return np.real(np.fft.ifft2(spectrum / frequency ** rng.uniform(0, 2.2)))


def _blob(rng: np.random.Generator) -> NDArray[np.float64]:
    x, y = rng.normal(0, 0.3, 2)
    blob = np.exp(-((X_HW - x) ** 2 + (Y_HW - y) ** 2) / rng.uniform(0.05, 1))
    return np.asarray(blob * rng.choice((-1, 1)))


def _wave(rng: np.random.Generator) -> NDArray[np.float64]:
    x, y = rng.normal(0, 4, 2)
    return np.asarray(np.cos(x * X_HW + y * Y_HW + rng.uniform(0, 2 * np.pi)))


def _ramp(rng: np.random.Generator) -> NDArray[np.float64]:
    return np.asarray(X_HW * rng.normal() + Y_HW * rng.normal())


def _rectangles(rng: np.random.Generator) -> NDArray[np.float64]:
    image_hw = np.full((SIDE_PX, SIDE_PX), rng.uniform())
    for _ in range(rng.integers(1, 7)):
        top, left = rng.integers(0, SIDE_PX - 4, 2)
        height, width = rng.integers(3, 20, 2)
        image_hw[top : top + height, left : left + width] = rng.uniform()
    return image_hw


def _ellipses(rng: np.random.Generator) -> NDArray[np.float64]:
    """A slice of something round, on black, as tomography shows it."""
    image_hw = np.zeros((SIDE_PX, SIDE_PX))
    outer_y, outer_x = rng.uniform(0.5, 0.95, 2)
    body = (Y_HW / outer_y) ** 2 + (X_HW / outer_x) ** 2 < 1
    image_hw[body] = rng.uniform(0.3, 1)
    for _ in range(rng.integers(0, 8)):
        y, x = rng.uniform(-0.6, 0.6, 2)
        half_y, half_x = rng.uniform(0.08, 0.4, 2)
        inner = ((Y_HW - y) / half_y) ** 2 + ((X_HW - x) / half_x) ** 2 < 1
        image_hw[inner & body] = rng.uniform()
    return image_hw


TEXTURES: tuple[Callable[[np.random.Generator], NDArray[np.float64]], ...] = (
    _power_law,
    _blob,
    _wave,
    _ramp,
    _rectangles,
    _ellipses,
)
