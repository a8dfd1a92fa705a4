"""Film scenes: drawn film -> an ordinary export of it, or a photograph. Next: photograph.

Both are squares of `SIDE_PX` from 0 to 1, whatever the shape of the image that they stand for: the
check squeezes images into a square. What differs is the frame, the light and the blur. Borders,
labels, shutters and crooked scans are of ordinary exports, too.
"""

import numpy as np
from numpy.typing import NDArray
from scipy import ndimage

Image = NDArray[np.float32]
"""Grey values from 0 to 1, float32 [128, 128]."""

SIDE_PX = 128
_Y_HW, _X_HW = np.mgrid[0 : 1 : SIDE_PX * 1j, 0 : 1 : SIDE_PX * 1j].astype(np.float32)


def ordinary(film_hw: Image, rng: np.random.Generator) -> Image:
    """Return the film as a department may export it: collimated, turned, labelled, inverted."""
    image_hw = _exported(film_hw, rng)
    if rng.random() < 0.25:
        image_hw = np.rot90(image_hw, int(rng.integers(1, 4)))
    if rng.random() < 0.15:
        image_hw = 1 - image_hw
    if rng.random() < 0.1:
        image_hw = _in_a_viewer(image_hw, rng)
    return _finished(image_hw, rng, blur_px=1.0, noise=0.05)


def photographed(film_hw: Image, rng: np.random.Generator, *, close: bool = False) -> Image:
    """Return a photograph of the film on a screen or light box, its edges in sight unless `close`.

    Askew, before a background, unevenly lit, at times with a frame, reflections and moire.
    """
    image_hw = _exported(film_hw, rng, shutters=0.25)
    down_hw, across_hw = _film_place(_corners(rng, close=close))
    frame = rng.uniform(0.01, 0.08) if rng.random() < 0.4 else 0.0
    at = np.stack([down_hw, across_hw]) * (SIDE_PX - 1)
    seen_hw = ndimage.map_coordinates(image_hw, at, order=1, mode="nearest", output=np.float32)
    seen_hw = seen_hw * rng.uniform(0.5, 1.1) + rng.uniform(0, 0.2)  # haze
    outside_hw = np.maximum(np.abs(down_hw - 0.5), np.abs(across_hw - 0.5)) - 0.5
    framed_hw = np.where(outside_hw > 0, rng.choice((rng.uniform(0, 0.25), rng.uniform())), seen_hw)
    scene_hw = np.where(outside_hw > frame, _background(rng), framed_hw)
    scene_hw = scene_hw * _light(rng)
    for _ in range(rng.integers(1 if close else 0, 4)):
        scene_hw = scene_hw + _reflection(rng)
    if rng.random() < 0.3:
        scene_hw = scene_hw + _moire(rng)
    return _finished(scene_hw, rng, blur_px=1.5, noise=0.04)


def _exported(film_hw: Image, rng: np.random.Generator, shutters: float = 0.5) -> Image:
    """Zoom, stretch, shift and rotate the film; vary its tone; add labels, lines and shutters."""
    angle = np.deg2rad(rng.normal(0, 4))
    turn = np.array([[np.cos(angle), -np.sin(angle)], [np.sin(angle), np.cos(angle)]])
    matrix = turn * rng.uniform(0.75, 1.15, (2, 1))
    middle = np.full(2, (SIDE_PX - 1) / 2)
    offset = middle - matrix @ (middle + rng.normal(0, 0.04 * SIDE_PX, 2))
    image_hw = ndimage.affine_transform(film_hw, matrix, offset, order=1, mode="nearest")
    image_hw = np.clip(image_hw, 0, 1) ** np.float32(np.exp(rng.uniform(-0.7, 0.7)))
    slope = rng.normal(0, 0.15, 2)  # the anode's heel effect
    image_hw = image_hw * (1 + slope[0] * (_Y_HW - 0.5) + slope[1] * (_X_HW - 0.5))
    for _ in range(rng.integers(0, 3)):
        image_hw = _with_line(image_hw, rng)
    if rng.random() < shutters:
        image_hw = _with_shutters(image_hw, rng)
    for _ in range(rng.integers(0, 4)):
        image_hw = _with_label(image_hw, rng)
    return np.asarray(np.clip(image_hw, 0, 1), np.float32)


def _with_shutters(image_hw: Image, rng: np.random.Generator) -> Image:
    """Cover the outside of a rectangle, which may be tilted, as shutters and tilted scans do.

    The outside is black, white, of one grey, or dark with what scatter leaves of the image.
    """
    angle = np.deg2rad(rng.choice((0.0, rng.normal(0, 2), rng.normal(0, 8))))
    y_hw, x_hw = _Y_HW - 0.5, _X_HW - 0.5
    across_hw = np.cos(angle) * x_hw + np.sin(angle) * y_hw
    down_hw = -np.sin(angle) * x_hw + np.cos(angle) * y_hw
    left, right, top, bottom = 0.52 - rng.uniform(0, 0.22, 4) * (rng.random(4) < 0.7)
    inside_hw = (across_hw > -left) & (across_hw < right) & (down_hw > -top) & (down_hw < bottom)
    scatter_hw = image_hw * rng.uniform(0.05, 0.4) + rng.uniform(0, 0.15)
    covers = np.zeros_like(image_hw), np.ones_like(image_hw), scatter_hw, rng.random()
    cover_hw = covers[rng.choice(4, p=(0.45, 0.15, 0.25, 0.15))]
    return np.where(inside_hw, image_hw, cover_hw).astype(np.float32)


def _with_label(image_hw: Image, rng: np.random.Generator) -> Image:
    """Add a marker, a line of text or a box with text, near an edge."""
    height, width = rng.integers(3, 9), rng.integers(4, 40)
    top = rng.choice((rng.integers(0, 16), SIDE_PX - height - rng.integers(0, 16)))
    left = rng.integers(0, SIDE_PX - width)
    labelled_hw = image_hw.copy()
    part = labelled_hw[top : top + height, left : left + width]
    ink = rng.random(part.shape) < 0.4
    if rng.random() < 0.4:
        part[:] = rng.random()
    part[ink] = rng.choice((0.0, 1.0))
    return np.rot90(labelled_hw, int(rng.integers(4))) if rng.random() < 0.1 else labelled_hw


def _with_line(image_hw: Image, rng: np.random.Generator) -> Image:
    """Add a straight line or edge at any angle: a wire, a cushion, the edge of a table."""
    angle, place = rng.uniform(0, np.pi), rng.uniform(-0.5, 0.5)
    distance_hw = np.cos(angle) * (_X_HW - 0.5) + np.sin(angle) * (_Y_HW - 0.5) - place
    if rng.random() < 0.5:
        step_hw = rng.uniform(-0.3, 0.5) * (np.abs(distance_hw) < rng.uniform(0.004, 0.015))
    else:
        step_hw = rng.uniform(-0.12, 0.12) * (distance_hw > 0)
    return np.asarray(image_hw + step_hw, np.float32)


def _in_a_viewer(image_hw: Image, rng: np.random.Generator) -> Image:
    """Show the image upright in a window of one grey value with lines of text."""
    window_hw = np.full((SIDE_PX, SIDE_PX), rng.choice((0.1, rng.random())), np.float32)
    for _ in range(rng.integers(0, 12)):
        window_hw = _with_label(window_hw, rng)
    height, width = rng.integers(70, 127, 2)
    rows = np.linspace(0, SIDE_PX - 1, height).astype(int)
    columns = np.linspace(0, SIDE_PX - 1, width).astype(int)
    top, left = rng.integers(0, SIDE_PX - height), rng.integers(0, SIDE_PX - width)
    window_hw[top : top + height, left : left + width] = image_hw[rows][:, columns]
    return window_hw


def _corners(rng: np.random.Generator, *, close: bool) -> NDArray[np.float64]:
    """Return where the film's corners are, [4, (y, x)] clockwise from the upper left one."""
    least, most = (-0.12, 0.0) if close else (0.01, rng.uniform(0.06, 0.24))
    top, right, bottom, left = rng.uniform(least, most, 4)
    if not close and rng.random() < 0.25:  # one edge is out of sight
        top = -abs(rng.normal(0, 0.04))
    square = np.array([[top, left], [top, 1 - right], [1 - bottom, 1 - right], [1 - bottom, left]])
    square += rng.normal(0, rng.uniform(0.005, 0.035), (4, 2))  # perspective
    angle = np.deg2rad(rng.normal(0, 4))
    turn = np.array([[np.cos(angle), -np.sin(angle)], [np.sin(angle), np.cos(angle)]])
    placed: NDArray[np.float64] = (square - 0.5) @ turn + 0.5
    return placed


def _film_place(corners: NDArray[np.float64]) -> tuple[Image, Image]:
    """Return for each pixel its place on the film, down and across, from 0 to 1 within it.

    The homography that maps the corners to those of the unit square.
    """
    unit = np.array([[0, 0], [0, 1], [1, 1], [1, 0]], np.float64)
    rows = []
    for (y, x), (down, across) in zip(corners, unit, strict=True):
        rows.append([y, x, 1, 0, 0, 0, -down * y, -down * x])
        rows.append([0, 0, 0, y, x, 1, -across * y, -across * x])
    h = np.linalg.solve(np.array(rows), unit.ravel()).astype(np.float32)
    scale_hw = h[6] * _Y_HW + h[7] * _X_HW + 1
    down_hw = (h[0] * _Y_HW + h[1] * _X_HW + h[2]) / scale_hw
    across_hw = (h[3] * _Y_HW + h[4] * _X_HW + h[5]) / scale_hw
    return down_hw, across_hw


def _background(rng: np.random.Generator) -> Image:
    """Return a wall, a light box, a dark room, with or without things in it."""
    level = rng.choice((rng.uniform(0, 0.2), rng.uniform(0.7, 1), rng.uniform()))
    scene_hw = np.full((SIDE_PX, SIDE_PX), level, np.float32)
    if rng.random() < 0.6:
        scene_hw += rng.uniform(0, 0.3) * _cloud(rng)
    for _ in range(rng.integers(0, 5)):
        scene_hw = _with_line(scene_hw, rng)
    for _ in range(rng.integers(0, 4)):
        scene_hw += _reflection(rng) * rng.choice((-1, 1))
    return np.clip(scene_hw, 0, 1)


def _cloud(rng: np.random.Generator) -> Image:
    """Return a texture with a power-law spectrum, of mean 0 and deviation 1."""
    frequency_hw = np.hypot(*np.meshgrid(np.fft.fftfreq(SIDE_PX), np.fft.fftfreq(SIDE_PX)))
    frequency_hw[0, 0] = np.inf
    spectrum_hw = np.fft.fft2(rng.normal(size=(SIDE_PX, SIDE_PX)))
    cloud_hw = np.real(np.fft.ifft2(spectrum_hw / frequency_hw ** rng.uniform(0.8, 2)))
    return np.asarray(cloud_hw / cloud_hw.std(), np.float32)


def _light(rng: np.random.Generator) -> Image:
    """Return the share of light at each place: a slope and the darkening towards the corners."""
    slope = rng.normal(0, 0.25, 2)
    y_hw, x_hw = _Y_HW - 0.5, _X_HW - 0.5
    fall_hw = 1 - rng.uniform(0, 0.8) * (y_hw**2 + x_hw**2)
    return np.asarray(fall_hw * np.exp(slope[0] * y_hw + slope[1] * x_hw), np.float32)


def _reflection(rng: np.random.Generator) -> Image:
    """Return the light of a lamp, round or long, or of a window."""
    y, x = rng.uniform(0, 1, 2)
    angle, (half_y, half_x) = rng.uniform(0, np.pi), np.exp(rng.uniform(-3.5, -1.2, 2))
    across_hw = np.cos(angle) * (_X_HW - x) + np.sin(angle) * (_Y_HW - y)
    down_hw = -np.sin(angle) * (_X_HW - x) + np.cos(angle) * (_Y_HW - y)
    power = rng.choice((2, 2, 6))
    spread_hw = np.abs(across_hw / half_x) ** power + np.abs(down_hw / half_y) ** power
    return np.asarray(rng.uniform(0.1, 0.7) * np.exp(-spread_hw), np.float32)


def _moire(rng: np.random.Generator) -> Image:
    """Return bent stripes, as of a screen's pixels on a camera's."""
    y, x = rng.normal(0, 12, 2)
    bend_hw = rng.normal(0, 1) * _cloud(rng)
    phase_hw = 2 * np.pi * (y * _Y_HW + x * _X_HW) + bend_hw
    return np.asarray(rng.uniform(0.01, 0.06) * np.sin(phase_hw), np.float32)


def _finished(image_hw: Image, rng: np.random.Generator, *, blur_px: float, noise: float) -> Image:
    """Blur, add noise and clip, as an export or a camera does."""
    image_hw = ndimage.gaussian_filter(image_hw, rng.uniform(0, blur_px))
    grain_hw = rng.normal(0, rng.uniform(0, noise), image_hw.shape)
    return np.asarray(np.clip(image_hw + grain_hw, 0, 1), np.float32)
