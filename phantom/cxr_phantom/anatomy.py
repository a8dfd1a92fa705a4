"""Anatomy: random numbers -> the shapes of one chest (lungs, heart, diaphragm). Next: body.

Proportions are those of a standing adult, in the body coordinates of `canvas`.
"""

from dataclasses import dataclass

import numpy as np

from cxr_phantom.canvas import Canvas, Field, Mask, Profile, smoothstep

EDGE = 0.006
"""Width of a sharp anatomical edge in film widths: 1.3 pixels in a 224 px image."""

NORMAL_CTR = (0.42, 0.48)
ENLARGED_CTR = (0.57, 0.68)
"""Ranges of the cardiothoracic ratio; above 0.5 the heart counts as enlarged."""


@dataclass(frozen=True, slots=True)
class Lung:
    """One lung field.

    Attributes:
        side: -1 for the left of the image (the patient's right lung), +1 for the right.
        apex_y: Height of the apex.
        medial: Distance of the medial wall from the midline, by y.
        lateral: Distance of the lateral wall from the midline, by y.
        dome: Height of the diaphragm, by distance from the midline.
    """

    side: int
    apex_y: float
    medial: Profile
    lateral: Profile
    dome: Profile

    def outward(self, canvas: Canvas) -> Field:
        """Distance from the midline, positive on the side of this lung, [H, W]."""
        return np.asarray(canvas.x_hw * np.float32(self.side), np.float32)

    def signed_distance(self, canvas: Canvas) -> Field:
        """Approximate distance to the nearest wall in film widths, positive inside, [H, W]."""
        out, y = self.outward(canvas), canvas.y_hw
        walls = np.minimum(out - self.medial(y), self.lateral(y) - out)
        floor = (self.dome(out) - y) * np.float32(0.85)
        ceiling = y - np.float32(self.apex_y)
        return np.asarray(np.minimum(np.minimum(walls, floor), ceiling), np.float32)

    def coverage(self, canvas: Canvas) -> Field:
        """1 inside the lung, 0 outside, with an edge of width `EDGE`, [H, W]."""
        return smoothstep(self.signed_distance(canvas) / np.float32(2 * EDGE) + np.float32(0.5))


@dataclass(frozen=True, slots=True)
class Ellipse:
    """An ellipse: centre, semi-axes, tilt in radians (positive lowers the right end)."""

    x: float
    y: float
    a: float
    b: float
    tilt_rad: float

    def radius(self, canvas: Canvas) -> Field:
        """Normalised radius: 0 at the centre, 1 on the boundary, [H, W]."""
        dx, dy = canvas.x_hw - np.float32(self.x), canvas.y_hw - np.float32(self.y)
        cos, sin = np.float32(np.cos(self.tilt_rad)), np.float32(np.sin(self.tilt_rad))
        along = (cos * dx + sin * dy) / np.float32(self.a)
        across = (cos * dy - sin * dx) / np.float32(self.b)
        return np.asarray(np.sqrt(along * along + across * across))

    def coverage(self, canvas: Canvas, softness: float = 0.25) -> Field:
        """1 inside, 0 outside; the edge is `softness` wide in normalised radii, [H, W]."""
        return smoothstep((1 - self.radius(canvas)) / np.float32(softness) + np.float32(0.25))

    @property
    def half_width(self) -> float:
        """Half of the horizontal extent in film widths."""
        return float(np.hypot(self.a * np.cos(self.tilt_rad), self.b * np.sin(self.tilt_rad)))


@dataclass(frozen=True, slots=True)
class Heart:
    """The cardiac silhouette: a tilted ventricle and, left of the midline, the right atrium."""

    ventricle: Ellipse
    atrium: Ellipse

    @staticmethod
    def of_width(width: float, bottom_y: float, tilt_rad: float, right_fraction: float) -> "Heart":
        """Build a heart from its size.

        Args:
            width: Horizontal extent in film widths.
            bottom_y: Height of the lower border.
            tilt_rad: Tilt of the ventricle.
            right_fraction: Part of the width on the patient's right of the midline.
        """
        left, right = -right_fraction * width, (1 - right_fraction) * width
        a, b = 0.5 * width, 0.375 * width
        half = float(np.hypot(a * np.cos(tilt_rad), b * np.sin(tilt_rad)))
        height = float(np.hypot(a * np.sin(tilt_rad), b * np.cos(tilt_rad)))
        centre_y = bottom_y - 0.90 * height
        atrium_a = 0.24 * width
        return Heart(
            Ellipse(right - half, centre_y, a, b, tilt_rad),
            Ellipse(left + atrium_a, centre_y + 0.02 * width, atrium_a, 0.33 * width, 0.0),
        )

    @property
    def width(self) -> float:
        """Horizontal extent in film widths."""
        left = min(e.x - e.half_width for e in (self.ventricle, self.atrium))
        right = max(e.x + e.half_width for e in (self.ventricle, self.atrium))
        return right - left

    def radius(self, canvas: Canvas) -> Field:
        """Normalised radius: 0 at a centre, 1 on the boundary, [H, W]."""
        return np.minimum(self.ventricle.radius(canvas), self.atrium.radius(canvas))


@dataclass(frozen=True, slots=True)
class Anatomy:
    """One chest. `inner_width` is the greatest inner width of the thorax in film widths."""

    lungs: tuple[Lung, Lung]
    heart: Heart
    inner_width: float

    @property
    def cardiothoracic_ratio(self) -> float:
        """Heart width divided by inner thoracic width."""
        return self.heart.width / self.inner_width

    def lung_mask(self, canvas: Canvas) -> Mask:
        """Both lung fields, including the part behind the heart, [H, W]."""
        return np.asarray(np.maximum(*(lung.signed_distance(canvas) for lung in self.lungs)) > 0)

    def heart_mask(self, canvas: Canvas) -> Mask:
        """The cardiac silhouette above the diaphragm, [H, W]."""
        domes = np.where(canvas.x_hw < 0, *(g.dome(g.outward(canvas)) for g in self.lungs))
        return np.asarray((self.heart.radius(canvas) < 1) & (canvas.y_hw < domes + 0.04))


def sample_anatomy(
    rng: np.random.Generator, heart_rng: np.random.Generator, *, enlarged_heart: bool
) -> Anatomy:
    """Sample a chest. The heart has its own generator, so enlarging it changes nothing else."""
    width = rng.uniform(0.345, 0.375)
    apex = rng.uniform(0.105, 0.135)
    base = rng.uniform(0.66, 0.71)
    lungs = tuple(
        _lung(
            side,
            width * rng.uniform(0.985, 1.015),
            apex + rng.uniform(-0.008, 0.008),
            base + (0.02 if side > 0 else -0.005) + rng.uniform(-0.01, 0.01),
            rng,
        )
        for side in (-1, 1)
    )
    inner_width = float(sum(lung.lateral.table.max() for lung in lungs))
    ratio = heart_rng.uniform(*(ENLARGED_CTR if enlarged_heart else NORMAL_CTR))
    heart = Heart.of_width(
        ratio * inner_width,
        bottom_y=base + heart_rng.uniform(0.045, 0.065),
        tilt_rad=np.deg2rad(heart_rng.uniform(22, 38)),
        right_fraction=heart_rng.uniform(0.28, 0.34),
    )
    return Anatomy((lungs[0], lungs[1]), heart, inner_width)


def _lung(side: int, width: float, apex: float, base: float, rng: np.random.Generator) -> Lung:
    barrel = rng.uniform(0.95, 1.03)
    lateral = Profile.through(
        [
            (apex, 0.085),
            (apex + 0.015, 0.125),
            (apex + 0.05, 0.172 * barrel),
            (apex + 0.11, 0.225 * barrel),
            (apex + 0.20, 0.80 * width * barrel),
            (apex + 0.34, 0.925 * width),
            (apex + 0.50, 0.985 * width),
            (apex + 0.66, width),
        ]
    )
    medial = Profile.through(
        [
            (apex, 0.085),
            (apex + 0.02, 0.055),
            (apex + 0.08, 0.036),
            (apex + 0.20, 0.040),
            (apex + 0.32, 0.046),
            (0.60, 0.052),
            (0.75, 0.060),
            (0.85, 0.065),
        ]
    )
    drop = rng.uniform(0.10, 0.14)
    dome = Profile.through(
        [
            (0.02, base + 0.035),
            (0.08, base + 0.012),
            (0.16, base),
            (0.23, base + 0.012),
            (0.30, base + 0.45 * drop),
            (width, base + drop),
        ]
    )
    return Lung(side, apex, medial, lateral, dome)
