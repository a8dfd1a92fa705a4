"""Bones: anatomy -> attenuation of ribs, spine, clavicles, scapulae. Next: body."""

import numpy as np

from cxr_phantom.anatomy import Anatomy, Ellipse, Lung
from cxr_phantom.canvas import Canvas, Field, Profile, Values, smoothstep

POSTERIOR = Profile.through(
    [
        (0.02, 0.004),
        (0.09, -0.010),
        (0.18, 0.004),
        (0.26, 0.038),
        (0.32, 0.085),
        (0.40, 0.190),
    ]
)
"""Course of a posterior rib: y relative to its head, by distance from the midline."""

ANTERIOR = Profile.through(
    [
        (0.08, 0.330),
        (0.14, 0.310),
        (0.22, 0.262),
        (0.30, 0.195),
        (0.35, 0.140),
        (0.40, 0.100),
    ]
)
"""Course of an anterior rib: y relative to the head, by distance from the midline."""

CLAVICLE = Profile.through(
    [
        (0.020, 0.172),
        (0.07, 0.166),
        (0.15, 0.142),
        (0.24, 0.112),
        (0.34, 0.098),
        (0.42, 0.100),
    ]
)
"""Height of the clavicle, by distance from the midline."""


def draw_bones(anatomy: Anatomy, canvas: Canvas, rng: np.random.Generator) -> Field:
    """Attenuation of all bones, [H, W]."""
    pitch = rng.uniform(0.066, 0.074)
    head = anatomy.lungs[0].apex_y + rng.uniform(0.00, 0.02)
    weight = rng.uniform(0.8, 1.2)
    total = _spine(canvas, pitch, head)
    for lung in anatomy.lungs:
        tilt = rng.uniform(-0.03, 0.03)
        total += _ribs(lung, canvas, head, pitch, tilt)
        total += _shoulder_girdle(lung, canvas, rng)
    return np.asarray(total * np.float32(weight), np.float32)


def _tube(distance: Values, half: float) -> Field:
    """Cross-section of a tubular bone: marrow with denser cortical edges, 0 to 1."""
    d = np.abs(distance) / np.float32(half)
    body = smoothstep((1 - d) / np.float32(0.30))
    rim = np.exp(-(((d - np.float32(0.82)) / np.float32(0.16)) ** 2))
    return np.asarray(np.float32(0.62) * body + np.float32(0.38) * rim * (d < 1.3), np.float32)


def _ribs(lung: Lung, canvas: Canvas, head: float, pitch: float, tilt: float) -> Field:
    """Posterior and anterior ribs of one side."""
    out, y = lung.outward(canvas), canvas.y_hw
    cage = smoothstep((lung.lateral(y) + 0.012 - out) / 0.012) * smoothstep((out - 0.025) / 0.02)
    fade = Profile.through([(0.60, 1.0), (0.74, 0.55), (0.90, 0.15)])(y)
    total = np.zeros_like(out)
    for course, half, strength, inner in (
        (POSTERIOR, 0.0165, 0.115, 0.03),
        (ANTERIOR, 0.0185, 0.058, 0.15),
    ):
        row = (y - head - course(out) - tilt * out) / pitch
        nearest = np.clip(np.round(row), 0, 8 if inner < 0.1 else 6)
        bone = _tube((row - nearest) * pitch * 0.94, half)
        total += bone * smoothstep((out - inner) / 0.05 + 0.5) * strength
    return np.asarray(total * cage * fade, np.float32)


def _shoulder_girdle(lung: Lung, canvas: Canvas, rng: np.random.Generator) -> Field:
    """Clavicle, scapula and humeral head of one side."""
    out, y = lung.outward(canvas), canvas.y_hw
    lift, slope = rng.uniform(-0.012, 0.012), rng.uniform(-0.06, 0.06)
    clavicle = _tube(y - CLAVICLE(out) - lift - slope * (out - 0.02), 0.0165)
    clavicle = clavicle * smoothstep((out - 0.016) / 0.012) * smoothstep((0.42 - out) / 0.03)
    side = lung.side
    scapula = Ellipse(
        side * rng.uniform(0.375, 0.40),
        rng.uniform(0.25, 0.29),
        0.16,
        0.068,
        side * rng.uniform(1.25, 1.45),
    )
    shoulder = Ellipse(side * 0.445, rng.uniform(0.145, 0.165), 0.050, 0.046, 0.0)
    return np.asarray(
        0.15 * clavicle + 0.05 * scapula.coverage(canvas, 0.10) + 0.09 * shoulder.coverage(canvas),
        np.float32,
    )


def _spine(canvas: Canvas, pitch: float, head: float) -> Field:
    """Vertebral column with discs and pedicles."""
    x, y = canvas.x_hw, canvas.y_hw
    phase = (y - head) / np.float32(pitch * 0.86)
    disc = np.cos(phase * np.float32(2 * np.pi))
    column = smoothstep((0.034 + 0.003 * disc - np.abs(x)) / 0.012 + 0.5)
    pedicles = np.exp(-(((np.abs(x) - 0.021) / 0.006) ** 2) - ((disc - 1) / 0.7) ** 2)
    return np.asarray(column * (0.050 + 0.022 * disc) + 0.028 * pedicles, np.float32)
