"""Film: attenuation -> 8-bit pixels, with exposure, noise, a side marker and sometimes an ECG lead.

Next: draw.
"""

import numpy as np
from numpy.typing import NDArray

from cxr_phantom.canvas import Canvas, Field

GLYPHS = {
    "L": ("10000", "10000", "10000", "10000", "10000", "10000", "11111"),
    "R": ("11110", "10001", "10001", "11110", "10100", "10010", "10001"),
}
"""5 x 7 bitmaps of the side markers."""


def expose(attenuation: Field, canvas: Canvas, rng: np.random.Generator) -> NDArray[np.uint8]:
    """Convert attenuation [H, W] to a radiograph, uint8 [H, W], dense tissue bright.

    The tone curve does not depend on the attenuation: planting a finding in one place leaves the
    pixels elsewhere unchanged.
    """
    hardness, gain = rng.uniform(0.75, 1.25), rng.uniform(0.90, 1.0)
    gamma, fog = rng.uniform(1.0, 1.4), rng.uniform(0.01, 0.05)
    noise_at_224 = np.exp(rng.uniform(np.log(0.003), np.log(0.016)))
    letter = "LR"[rng.integers(2)] if rng.random() < 0.7 else ""
    cell = rng.uniform(0.005, 0.008)
    corner = rng.uniform(0.03, 0.10), rng.uniform(0.03, 0.10)
    has_lead, lead = rng.random() < 0.15, rng.uniform(size=4)

    dense = attenuation + _ecg_lead(canvas, lead) if has_lead else attenuation
    tone = 1 - np.exp(-np.float32(hardness) * dense)
    tone = tone / np.float32(1 - np.exp(-hardness * 1.25))
    light = np.float32(gain) * np.clip(tone, 0, None) ** np.float32(gamma) + np.float32(fog)
    # Twice the resolution means a quarter of the photons per pixel, hence twice the relative
    # noise. Only its square root is applied, because a finer detector also smooths.
    sigma = noise_at_224 * np.sqrt(canvas.size_px / 224)
    grain = rng.standard_normal((canvas.size_px, canvas.size_px), dtype=np.float32)
    light = light + grain * np.float32(sigma) * np.sqrt(np.clip(light, 0.1, 1))
    if letter:
        light = _burn_marker(light, canvas, letter, cell, corner)
    return np.asarray(np.round(np.clip(light, 0, 1) * 255), np.uint8)


def _ecg_lead(canvas: Canvas, parameters: NDArray[np.float64]) -> Field:
    """Attenuation [H, W] of an electrode on the chest and its wire to an upper corner.

    `parameters` are four uniform numbers in [0, 1): side, x, y and bend.
    """
    side = -1.0 if parameters[0] < 0.5 else 1.0
    x0, y0 = side * (0.12 + 0.2 * parameters[1]), 0.2 + 0.4 * parameters[2]
    bend = side * (0.30 + 0.15 * parameters[3])
    t = np.linspace(0, 1, 1500, dtype=np.float32)
    x = (1 - t) ** 2 * x0 + 2 * t * (1 - t) * bend + t**2 * side * 0.25
    y = (1 - t) ** 2 * y0 + 2 * t * (1 - t) * (y0 - 0.05) + t**2 * -0.1
    step = np.hypot(np.gradient(x), np.gradient(y)).astype(np.float32)
    wire = canvas.draw_curves(x.astype(np.float32), y.astype(np.float32), step, 0.25, 0.0016)
    electrode = np.hypot(canvas.x_hw - x0, canvas.y_hw - y0) < 0.011
    return np.asarray(wire + 0.7 * electrode, np.float32)


def _burn_marker(
    light: Field, canvas: Canvas, letter: str, cell: float, corner: tuple[float, float]
) -> Field:
    """Add a side marker in the upper corner of its side (L is on the right of the image)."""
    glyph = np.array([[int(c) for c in row] for row in GLYPHS[letter]], bool)
    left = corner[0] if letter == "R" else 1 - corner[0] - 5 * cell
    column = np.floor((canvas.u_hw - np.float32(left)) / np.float32(cell)).astype(np.int64)
    row = np.floor((canvas.v_hw - np.float32(corner[1])) / np.float32(cell)).astype(np.int64)
    inside = (column >= 0) & (column < 5) & (row >= 0) & (row < 7)
    ink = inside & glyph[np.clip(row, 0, 6), np.clip(column, 0, 4)]
    return np.where(ink, np.float32(0.97), light)
