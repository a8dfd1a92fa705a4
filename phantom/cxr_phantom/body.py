"""Body: anatomy -> the layers of a healthy chest. Next: findings.

Attenuation is relative to soft tissue at the centre of the trunk (1.0).
"""

from dataclasses import dataclass

import numpy as np

from cxr_phantom.anatomy import EDGE, Anatomy, Ellipse
from cxr_phantom.bones import draw_bones
from cxr_phantom.canvas import Canvas, Field, Profile, smoothstep, texture

OUTLINE = Profile.through(
    [
        (-0.10, 0.088),
        (0.02, 0.092),
        (0.055, 0.115),
        (0.085, 0.20),
        (0.115, 0.32),
        (0.16, 0.42),
        (0.24, 0.465),
        (0.36, 0.468),
        (0.60, 0.450),
        (0.80, 0.445),
        (1.10, 0.465),
    ]
)
"""Half width of the trunk, by y."""


@dataclass(frozen=True, slots=True)
class Layers:
    """Components of the attenuation, [H, W] each. Findings modify them before exposure.

    Attributes:
        trunk: Soft tissue without lungs.
        air: Fraction of the depth of the trunk that is air, 0 to 1.
        vessels: Pulmonary vessels; absent where there is no lung.
        grain: Fine lung texture; absent where there is no lung.
        bones: Added to everything else.
    """

    trunk: Field
    air: Field
    vessels: Field
    grain: Field
    bones: Field

    def attenuation(self) -> Field:
        """Total attenuation along each ray, [H, W]."""
        tissue = self.trunk * (1 - np.float32(0.76) * self.air)
        return np.asarray(tissue + self.vessels + self.grain + self.bones, np.float32)


def draw_layers(anatomy: Anatomy, canvas: Canvas, rng: np.random.Generator) -> Layers:
    """Draw a chest without findings; an enlarged heart is part of the anatomy."""
    x, y = canvas.x_hw, canvas.y_hw
    half = OUTLINE(y)
    across = np.clip(1 - (x / half) ** 2, 0, None)
    trunk = across ** np.float32(0.42) * Profile.through(
        [(-0.1, 0.45), (0.06, 0.55), (0.16, 0.80), (0.30, 0.88), (0.60, 0.96), (0.9, 1.06)]
    )(y)

    air = np.zeros_like(x)
    cover = np.zeros_like(x)
    for lung in anatomy.lungs:
        depth = lung.signed_distance(canvas)
        inside = smoothstep(depth / np.float32(2 * EDGE) + np.float32(0.5))
        deep = np.sqrt(np.clip(depth / np.float32(0.13), 0, 1))
        air += inside * (np.float32(0.52) + np.float32(0.46) * deep)
        cover += inside
    radius = anatomy.heart.radius(canvas)
    rim = anatomy.heart.ventricle.b
    heart = smoothstep((1 - radius) * np.float32(rim / (2.5 * EDGE)) + np.float32(0.5))
    depth = np.sqrt(np.clip(1 - radius**2, 0, 1))
    shadow = heart * (np.float32(0.55) + np.float32(0.28) * depth)
    shadow = np.maximum(shadow, _great_vessels(canvas, rng))
    air *= 1 - shadow
    air += _airways(canvas, rng) * (1 - cover)
    air += _gastric_bubble(anatomy, canvas, rng)

    markings = rng.uniform(0.8, 1.25)
    vessels = _vessels(canvas, anatomy, rng) * cover * (1 - np.float32(0.6) * shadow)
    grain = canvas.upsample(texture(rng, 1.1)) * np.float32(0.016) * cover * (1 - shadow)
    mottle = canvas.upsample(texture(rng, 1.6)) * np.float32(0.020)
    present = smoothstep(across * np.float32(12))
    return Layers(
        trunk=np.asarray(trunk * (1 + mottle), np.float32),
        air=np.asarray(np.clip(air, 0, 1), np.float32),
        vessels=np.asarray(vessels * np.float32(markings), np.float32),
        grain=np.asarray(grain, np.float32),
        bones=np.asarray(draw_bones(anatomy, canvas, rng) * present, np.float32),
    )


def _great_vessels(canvas: Canvas, rng: np.random.Generator) -> Field:
    """Mediastinum, aortic knob and hila: fraction of air that they displace, 0 to 1."""
    y = canvas.y_hw
    wide = rng.uniform(0.050, 0.062)
    band = smoothstep((wide + 0.03 * (y - 0.3) - np.abs(canvas.x_hw - 0.004)) / (3 * EDGE) + 0.5)
    band = band * np.float32(0.70)
    knob = Ellipse(rng.uniform(0.040, 0.050), rng.uniform(0.285, 0.31), 0.040, 0.045, 0.0)
    parts = [band, knob.coverage(canvas) * np.float32(0.60)]
    for side in (-1, 1):
        hilum_y = 0.425 if side < 0 else 0.405
        hilum = Ellipse(
            side * rng.uniform(0.070, 0.085),
            hilum_y + rng.uniform(-0.01, 0.01),
            rng.uniform(0.026, 0.036),
            rng.uniform(0.055, 0.070),
            -0.3 * side,
        )
        parts.append(hilum.coverage(canvas, 0.55) * np.float32(rng.uniform(0.28, 0.40)))
    return np.asarray(np.maximum.reduce(parts), np.float32)


def _airways(canvas: Canvas, rng: np.random.Generator) -> Field:
    """Trachea and main bronchi: fraction of air in the midline, 0 to 1."""
    x, y = canvas.x_hw, canvas.y_hw
    bend = rng.uniform(-0.006, 0.010)
    carina = rng.uniform(0.345, 0.365)
    centre = bend * smoothstep(y / np.float32(carina))
    trachea = smoothstep((0.017 - np.abs(x - centre)) / 0.010 + 0.5)
    trachea = trachea * smoothstep((carina - y) / 0.03)
    slope = (y - carina + 0.02) * 1.1
    bronchi = smoothstep((0.010 - np.abs(np.abs(x - bend) - slope)) / 0.010 + 0.5)
    bronchi = bronchi * smoothstep((y - carina + 0.02) / 0.01) * smoothstep((0.43 - y) / 0.04)
    return np.asarray(0.20 * trachea + 0.12 * bronchi, np.float32)


def _gastric_bubble(anatomy: Anatomy, canvas: Canvas, rng: np.random.Generator) -> Field:
    """Air in the stomach below the left hemidiaphragm, in about half of the chests."""
    visible = rng.random() < 0.5
    base = float(anatomy.lungs[1].dome(np.asarray([0.18], np.float32))[0])
    bubble = Ellipse(
        rng.uniform(0.12, 0.20),
        base + rng.uniform(0.065, 0.085),
        rng.uniform(0.04, 0.07),
        rng.uniform(0.025, 0.04),
        rng.uniform(-0.2, 0.2),
    )
    return np.asarray(bubble.coverage(canvas) * np.float32(0.28 * visible), np.float32)


def _vessels(canvas: Canvas, anatomy: Anatomy, rng: np.random.Generator) -> Field:
    """Pulmonary vessels: a branching tree from each hilum, finer towards the periphery."""
    total = np.zeros_like(canvas.x_hw)
    along = (np.arange(40, dtype=np.float32) + 0.5)[None, :] / 40
    side = np.repeat([lung.side for lung in anatomy.lungs], 9)
    start_x = side * (0.075 + rng.uniform(-0.012, 0.018, side.size))
    start_y = np.where(side < 0, 0.425, 0.405) + rng.uniform(-0.035, 0.05, side.size)
    angle = np.tile(np.linspace(-1.45, 1.50, 9), 2) + rng.uniform(-0.15, 0.15, side.size)
    # Upright, perfusion increases towards the lung bases.
    length = rng.uniform(0.075, 0.115, side.size) * (1.1 + 0.25 * np.sin(angle))
    for height, width in ((0.075, 0.0066), (0.070, 0.0044), (0.056, 0.0030), (0.042, 0.0021)):
        turn = rng.uniform(-0.5, 0.5, side.size)
        heading = angle[:, None] + turn[:, None] * along
        step = (length / 40)[:, None]
        x = start_x[:, None] + side[:, None] * np.cumsum(np.cos(heading) * step, axis=1)
        y = start_y[:, None] + np.cumsum(np.sin(heading) * step, axis=1)
        taper = np.broadcast_to(step, x.shape) * (1.1 - 0.35 * along)
        total += canvas.draw_curves(
            x.astype(np.float32), y.astype(np.float32), taper.astype(np.float32), height, width
        )
        # Each vessel bifurcates at its end and has one side branch in the middle.
        heads = np.stack([angle + turn, angle + turn, angle + turn / 2])
        spread = np.stack(
            [
                rng.uniform(0.15, 0.5, side.size),
                -rng.uniform(0.15, 0.5, side.size),
                rng.choice([-1.0, 1.0], side.size) * rng.uniform(0.5, 0.9, side.size),
            ]
        )
        start_x = np.concatenate([x[:, -1], x[:, -1], x[:, 20]])
        start_y = np.concatenate([y[:, -1], y[:, -1], y[:, 20]])
        angle = (heads + spread).ravel()
        length = np.tile(length, 3) * rng.uniform(0.55, 0.85, angle.size)
        side = np.tile(side, 3)
    return np.asarray(total, np.float32)
