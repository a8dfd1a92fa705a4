"""Canvas: a pixel grid in body coordinates, and drawing primitives. Next: anatomy.

All lengths are fractions of the film width, so a seed gives the same anatomy at every image size.
Body coordinates: x in [-0.5, 0.5], positive towards the right of the image (the patient's left);
y in [0, 1], positive downwards.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from functools import lru_cache

import numpy as np
from numpy.typing import NDArray
from scipy import ndimage
from scipy.interpolate import PchipInterpolator

Field = NDArray[np.float32]
"""A scalar quantity per pixel, float32 [H, W], or broadcastable to it."""

Values = NDArray[np.floating]
"""Intermediate results of any float precision."""

Mask = NDArray[np.bool_]
"""A region, bool [H, W]."""

TEXTURE_PX = 256
"""Textures are generated at this size and upsampled, so that they are independent of image size."""


def stream(seed: int, number: int) -> np.random.Generator:
    """Return an independent generator per purpose: using one does not advance the others."""
    return np.random.default_rng([seed, number])


@dataclass(frozen=True, slots=True)
class Pose:
    """Position of the body on the film: shift in film widths, scale, rotation in radians."""

    shift_x: float
    shift_y: float
    scale_x: float
    scale_y: float
    rotation_rad: float

    @staticmethod
    def sample(rng: np.random.Generator) -> "Pose":
        """Sample a pose within the tolerances of routine radiography."""
        scale = rng.uniform(0.90, 1.06)
        return Pose(
            shift_x=rng.uniform(-0.03, 0.03),
            shift_y=rng.uniform(-0.03, 0.03),
            scale_x=scale * rng.uniform(0.97, 1.03),
            scale_y=scale * rng.uniform(0.97, 1.03),
            rotation_rad=np.deg2rad(rng.uniform(-3.5, 3.5)),
        )


@dataclass(frozen=True, slots=True)
class Canvas:
    """A square pixel grid with two coordinate systems.

    Attributes:
        size_px: Side of the square.
        pose: Maps body coordinates to film coordinates.
        u_hw, v_hw: Film coordinates of the pixel centres in [0, 1], [H, W].
        x_hw, y_hw: Body coordinates of the pixel centres, [H, W].
    """

    size_px: int
    pose: Pose
    u_hw: Field
    v_hw: Field
    x_hw: Field
    y_hw: Field

    @staticmethod
    def of(size_px: int, pose: Pose) -> "Canvas":
        """Build the grid of pixel centres of a square film with side `size_px`."""
        axis = np.asarray((np.arange(size_px) + 0.5) / size_px, np.float32)
        v_hw, u_hw = np.meshgrid(axis, axis, indexing="ij")
        cos, sin = np.float32(np.cos(pose.rotation_rad)), np.float32(np.sin(pose.rotation_rad))
        right = u_hw - np.float32(0.5 + pose.shift_x)
        down = v_hw - np.float32(0.5 + pose.shift_y)
        x_hw = (cos * right + sin * down) / np.float32(pose.scale_x)
        y_hw = (cos * down - sin * right) / np.float32(pose.scale_y) + np.float32(0.5)
        return Canvas(
            size_px, pose, u_hw, v_hw, np.asarray(x_hw, np.float32), np.asarray(y_hw, np.float32)
        )

    def to_pixels(self, x: Field, y: Field) -> tuple[Field, Field]:
        """Convert body coordinates to fractional pixel positions (column, row)."""
        right = x * np.float32(self.pose.scale_x)
        down = (y - np.float32(0.5)) * np.float32(self.pose.scale_y)
        cos, sin = np.cos(self.pose.rotation_rad), np.sin(self.pose.rotation_rad)
        u = cos * right - sin * down + 0.5 + self.pose.shift_x
        v = sin * right + cos * down + 0.5 + self.pose.shift_y
        return (
            np.asarray(u * self.size_px - 0.5, np.float32),
            np.asarray(v * self.size_px - 0.5, np.float32),
        )

    def draw_curves(self, x: Field, y: Field, step: Field, height: float, width: float) -> Field:
        """Rasterise curves with a Gaussian cross-section.

        Args:
            x: Body coordinates of closely spaced points on the curves.
            y: As `x`.
            step: Distance from each point to the next, broadcastable to `x`.
            height: Peak of the cross-section; independent of the canvas size.
            width: Standard deviation of the cross-section in film widths.

        Returns:
            Sum of all curves, [H, W].
        """
        column, row = self.to_pixels(x.ravel(), y.ravel())
        left, top = np.floor(column).astype(np.int64), np.floor(row).astype(np.int64)
        part_x, part_y = column - left, row - top
        weight = np.broadcast_to(step, x.shape).ravel() * height * np.sqrt(2 * np.pi) * width
        size = self.size_px
        inside = (left >= 0) & (left < size - 1) & (top >= 0) & (top < size - 1)
        corner = (top * size + left)[inside]
        total = np.zeros(size * size, np.float64)
        for offset, share in (
            (0, (1 - part_x) * (1 - part_y)),
            (1, part_x * (1 - part_y)),
            (size, (1 - part_x) * part_y),
            (size + 1, part_x * part_y),
        ):
            total += np.bincount(
                corner + offset, weights=(share * weight)[inside], minlength=size * size
            )
        density = (total * size**2).astype(np.float32).reshape(size, size)
        return np.asarray(ndimage.gaussian_filter(density, width * size, truncate=3.0))

    def upsample(self, texture: Field) -> Field:
        """Resize a square texture to the canvas, bilinear with half-pixel centres."""
        size = texture.shape[0]
        at = np.clip((np.arange(self.size_px) + 0.5) * size / self.size_px - 0.5, 0, size - 1)
        low = np.minimum(at.astype(np.int64), size - 2)
        part = (at - low).astype(np.float32)
        rows = texture[low] * (1 - part[:, None]) + texture[low + 1] * part[:, None]
        return np.asarray(rows[:, low] * (1 - part) + rows[:, low + 1] * part, np.float32)


@dataclass(frozen=True, slots=True)
class Profile:
    """A monotone cubic interpolant (PCHIP), tabulated so that evaluating whole images is fast."""

    low: float
    high: float
    table: Field

    @staticmethod
    def through(knots: Sequence[tuple[float, float]]) -> "Profile":
        """Interpolate (position, value) pairs; constant outside of their range."""
        at, values = zip(*knots, strict=True)
        table = PchipInterpolator(at, values)(np.linspace(at[0], at[-1], 4096))
        return Profile(at[0], at[-1], np.asarray(table, np.float32))

    def __call__(self, at: Field) -> Field:
        """Evaluate at the given positions."""
        scaled = (at - np.float32(self.low)) * np.float32(4095 / (self.high - self.low))
        return np.asarray(self.table[np.clip(scaled, 0, 4095).astype(np.int32)])


def smoothstep(value: Values) -> Field:
    """Return 3t^2 - 2t^3 of the value clamped to [0, 1]."""
    t = np.clip(value, 0, 1)
    return np.asarray(t * t * (3 - 2 * t), np.float32)


def texture(rng: np.random.Generator, exponent: float) -> Field:
    """Return noise [256, 256] with a 1/f^exponent amplitude spectrum, mean 0, deviation 1."""
    white = rng.standard_normal((TEXTURE_PX, TEXTURE_PX), dtype=np.float32)
    spectrum = np.fft.rfft2(white) * _falloff(exponent)
    grain = np.fft.irfft2(spectrum, s=(TEXTURE_PX, TEXTURE_PX)).astype(np.float32)
    return np.asarray(grain / grain.std())


@lru_cache(maxsize=8)
def _falloff(exponent: float) -> Field:
    fy = np.fft.fftfreq(TEXTURE_PX)[:, None]
    fx = np.fft.rfftfreq(TEXTURE_PX)[None, :]
    frequency = np.maximum(np.hypot(fy, fx), 1 / TEXTURE_PX)
    falloff = frequency**-exponent
    falloff[0, 0] = 0
    return np.asarray(falloff, np.float32)
