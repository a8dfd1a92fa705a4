"""Body: the attenuation of a healthy chest, layer by layer. Next: findings.

Attenuation is in units of a soft-tissue trunk's centre (1.0); air takes away, bone adds.
"""

from dataclasses import dataclass

import numpy as np

from cxr_server.phantom.anatomy import EDGE, Anatomy, Ellipse, Lung
from cxr_server.phantom.canvas import Canvas, Field, Profile, Values, smoothstep, texture

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
"""The trunk's half width by height."""

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
"""A posterior rib's course: y below its head, by distance from the midline."""

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
"""An anterior rib's course, falling towards the sternum."""

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


@dataclass(frozen=True, slots=True)
class Layers:
    """What a chest is made of, each [H, W]: findings change these before the film is exposed.

    `air` is the share of the trunk's depth that is air (0 to 1); `vessels` and `grain` are the
    lung's markings, which vanish where the lung is gone; `bones` lie in front of everything.
    """

    trunk: Field
    air: Field
    vessels: Field
    grain: Field
    bones: Field

    def attenuation(self) -> Field:
        """The line integral, [H, W]."""
        tissue = self.trunk * (1 - np.float32(0.76) * self.air)
        return np.asarray(tissue + self.vessels + self.grain + self.bones, np.float32)


def draw_layers(anatomy: Anatomy, canvas: Canvas, rng: np.random.Generator) -> Layers:
    """A healthy chest around the given heart."""
    x, y = canvas.x_hw, canvas.y_hw
    half = OUTLINE(y)
    across = np.clip(1 - (x / half) ** 2, 0, None)
    trunk = across ** np.float32(0.42) * Profile.through(
        [(-0.1, 0.45), (0.06, 0.55), (0.16, 0.80), (0.30, 0.88), (0.60, 0.96), (0.9, 1.06)]
    )(y)

    air = np.zeros_like(x)
    cover = np.zeros_like(x)
    for lung in anatomy.lungs:
        margin = lung.margin(canvas)
        inside = smoothstep(margin / np.float32(2 * EDGE) + np.float32(0.5))
        deep = np.sqrt(np.clip(margin / np.float32(0.13), 0, 1))
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
    grain = canvas.enlarge(texture(rng, 1.1)) * np.float32(0.016) * cover * (1 - shadow)
    mottle = canvas.enlarge(texture(rng, 1.6)) * np.float32(0.020)
    present = smoothstep(across * np.float32(12))
    return Layers(
        trunk=np.asarray(trunk * (1 + mottle), np.float32),
        air=np.asarray(np.clip(air, 0, 1), np.float32),
        vessels=np.asarray(vessels * np.float32(markings), np.float32),
        grain=np.asarray(grain, np.float32),
        bones=np.asarray(_bones(anatomy, canvas, rng) * present, np.float32),
    )


def _great_vessels(canvas: Canvas, rng: np.random.Generator) -> Field:
    """Mediastinum, aortic knob and hila: how much air they displace, 0 to 1."""
    y = canvas.y_hw
    wide = rng.uniform(0.050, 0.062)
    band = smoothstep((wide + 0.03 * (y - 0.3) - np.abs(canvas.x_hw - 0.004)) / (3 * EDGE) + 0.5)
    band = band * np.float32(0.70)
    knob = Ellipse(rng.uniform(0.040, 0.050), rng.uniform(0.285, 0.31), 0.040, 0.045, 0.0)
    parts = [band, _disc(knob, canvas) * np.float32(0.60)]
    for side in (-1, 1):
        hilum_y = 0.425 if side < 0 else 0.405
        hilum = Ellipse(
            side * rng.uniform(0.070, 0.085),
            hilum_y + rng.uniform(-0.01, 0.01),
            rng.uniform(0.026, 0.036),
            rng.uniform(0.055, 0.070),
            -0.3 * side,
        )
        parts.append(_disc(hilum, canvas, soft=0.55) * np.float32(rng.uniform(0.28, 0.40)))
    return np.asarray(np.maximum.reduce(parts), np.float32)


def _disc(ellipse: Ellipse, canvas: Canvas, soft: float = 0.25) -> Field:
    return smoothstep((1 - ellipse.radius(canvas)) / np.float32(soft) + np.float32(0.25))


def _airways(canvas: Canvas, rng: np.random.Generator) -> Field:
    """Trachea and main bronchi, a dark band in the midline."""
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
    """Air in the stomach under the left dome, in about half of the chests."""
    here = rng.random() < 0.5
    base = float(anatomy.lungs[1].dome(np.asarray([0.18], np.float32))[0])
    bubble = Ellipse(
        rng.uniform(0.12, 0.20),
        base + rng.uniform(0.065, 0.085),
        rng.uniform(0.04, 0.07),
        rng.uniform(0.025, 0.04),
        rng.uniform(-0.2, 0.2),
    )
    return np.asarray(_disc(bubble, canvas) * np.float32(0.28 * here), np.float32)


def _vessels(canvas: Canvas, anatomy: Anatomy, rng: np.random.Generator) -> Field:
    """Pulmonary vessels: a tree from each hilum, thinner and denser towards the edge."""
    total = np.zeros_like(canvas.x_hw)
    along = (np.arange(40, dtype=np.float32) + 0.5)[None, :] / 40
    side = np.repeat([lung.side for lung in anatomy.lungs], 9)
    start_x = side * (0.075 + rng.uniform(-0.012, 0.018, side.size))
    start_y = np.where(side < 0, 0.425, 0.405) + rng.uniform(-0.035, 0.05, side.size)
    angle = np.tile(np.linspace(-1.45, 1.50, 9), 2) + rng.uniform(-0.15, 0.15, side.size)
    # Gravity: the lower lung has more blood and longer vessels.
    length = rng.uniform(0.075, 0.115, side.size) * (1.1 + 0.25 * np.sin(angle))
    for height, width in ((0.075, 0.0066), (0.070, 0.0044), (0.056, 0.0030), (0.042, 0.0021)):
        turn = rng.uniform(-0.5, 0.5, side.size)
        heading = angle[:, None] + turn[:, None] * along
        step = (length / 40)[:, None]
        x = start_x[:, None] + side[:, None] * np.cumsum(np.cos(heading) * step, axis=1)
        y = start_y[:, None] + np.cumsum(np.sin(heading) * step, axis=1)
        taper = np.broadcast_to(step, x.shape) * (1.1 - 0.35 * along)
        total += canvas.trace(
            x.astype(np.float32), y.astype(np.float32), taper.astype(np.float32), height, width
        )
        # Each vessel forks at its end and sends one branch from its middle.
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


def _bones(anatomy: Anatomy, canvas: Canvas, rng: np.random.Generator) -> Field:
    pitch = rng.uniform(0.066, 0.074)
    head = anatomy.lungs[0].apex_y + rng.uniform(0.00, 0.02)
    weight = rng.uniform(0.8, 1.2)
    total = _spine(canvas, pitch, head)
    for lung in anatomy.lungs:
        tilt = rng.uniform(-0.03, 0.03)
        total += _ribs(lung, canvas, head, pitch, tilt)
        total += _girdle(lung, canvas, rng)
    return np.asarray(total * np.float32(weight), np.float32)


def _tube(distance: Values, half: float) -> Field:
    """A bone's profile: a marrow plateau with denser cortical rims, 0 to 1."""
    d = np.abs(distance) / np.float32(half)
    body = smoothstep((1 - d) / np.float32(0.30))
    rim = np.exp(-(((d - np.float32(0.82)) / np.float32(0.16)) ** 2))
    return np.asarray(np.float32(0.62) * body + np.float32(0.38) * rim * (d < 1.3), np.float32)


def _ribs(lung: Lung, canvas: Canvas, head: float, pitch: float, tilt: float) -> Field:
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


def _girdle(lung: Lung, canvas: Canvas, rng: np.random.Generator) -> Field:
    """Clavicle, scapula and the humeral head of one side."""
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
        0.15 * clavicle + 0.05 * _disc(scapula, canvas, 0.10) + 0.09 * _disc(shoulder, canvas),
        np.float32,
    )


def _spine(canvas: Canvas, pitch: float, head: float) -> Field:
    x, y = canvas.x_hw, canvas.y_hw
    phase = (y - head) / np.float32(pitch * 0.86)
    disc = np.cos(phase * np.float32(2 * np.pi))
    column = smoothstep((0.034 + 0.003 * disc - np.abs(x)) / 0.012 + 0.5)
    pedicles = np.exp(-(((np.abs(x) - 0.021) / 0.006) ** 2) - ((disc - 1) / 0.7) ** 2)
    return np.asarray(column * (0.050 + 0.022 * disc) + 0.028 * pedicles, np.float32)
