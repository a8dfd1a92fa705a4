"""Shapes: how each finding modifies the layers of a chest, and its mask. Used by findings."""

from collections.abc import Callable
from dataclasses import dataclass, replace

import numpy as np

from cxr_phantom.anatomy import EDGE, Lung
from cxr_phantom.body import Layers
from cxr_phantom.canvas import Canvas, Field, Mask, Profile, smoothstep, texture

Planted = tuple[Layers, Mask]
Coverage = Callable[[Canvas], Field]
"""Fraction of each pixel of a canvas that a finding covers, 0 to 1, [H, W]."""


def effusion_coverage(lung: Lung, rng: np.random.Generator) -> Coverage:
    """Pleural effusion: fills the costophrenic angle, with a meniscus along the lateral wall."""
    level, rise = rng.uniform(0.57, 0.69), rng.uniform(0.05, 0.12)
    width = float(lung.lateral.table.max())

    def coverage(canvas: Canvas) -> Field:
        out = lung.outward(canvas)
        climb = np.clip(out / width, 0, 1) ** 3 * np.float32(rise)
        below = canvas.y_hw - (np.float32(level) - climb)
        surface = smoothstep(below / np.float32(3 * EDGE) + np.float32(0.5))
        # Fluid obscures the diaphragm, hence the margin; the gastric bubble is below it.
        region = (lung.signed_distance(canvas) > -0.02) & (out > 0)
        return np.asarray(surface * region, np.float32)

    return coverage


def fill_with_fluid(coverage: Field, lung: Lung, layers: Layers, canvas: Canvas) -> Planted:
    """Replace air by fluid; lung markings disappear in it."""
    filled = replace(
        layers,
        air=layers.air * (1 - np.float32(0.88) * coverage),
        vessels=layers.vessels * (1 - coverage),
        grain=layers.grain * (1 - coverage),
    )
    return filled, (coverage > 0.5) & (lung.signed_distance(canvas) > 0)


def pneumothorax_coverage(lung: Lung, rng: np.random.Generator) -> Coverage:
    """Pneumothorax: a crescent of air around a retracted lung, over the apex and laterally."""
    edge = _retracted_edge(lung, rng)

    def coverage(canvas: Canvas) -> Field:
        outside = smoothstep(-edge(canvas) / np.float32(EDGE) + np.float32(0.5))
        return np.asarray(outside * lung.coverage(canvas), np.float32)

    return coverage


def _retracted_edge(lung: Lung, rng: np.random.Generator) -> Callable[[Canvas], Field]:
    """Signed distance to the edge of the retracted lung, negative in the crescent."""
    gap, apical = rng.uniform(0.060, 0.115), rng.uniform(0.030, 0.075)
    length = rng.uniform(0.28, 0.50)
    narrowing = Profile.through(
        [
            (lung.apex_y, gap),
            (lung.apex_y + 0.4 * length, gap * 0.85),
            (lung.apex_y + length, -0.01),
        ]
    )

    def edge(canvas: Canvas) -> Field:
        out, y = lung.outward(canvas), canvas.y_hw
        side = lung.lateral(y) - out - narrowing(y)
        top = y - np.float32(lung.apex_y + apical)
        return np.asarray(np.minimum(side, top), np.float32)

    return edge


def fill_with_air(coverage: Field, lung: Lung, layers: Layers, canvas: Canvas) -> Planted:
    """Remove lung markings, add air, and draw the visceral pleura as a bright line."""
    # 4c(1 - c) peaks where the coverage is one half.
    line = np.float32(4) * coverage * (1 - coverage) * (lung.signed_distance(canvas) > 2 * EDGE)
    emptied = replace(
        layers,
        air=layers.air + coverage * (1 - layers.air) * np.float32(0.55),
        vessels=layers.vessels * (1 - coverage) + np.float32(0.075) * line,
        grain=layers.grain * (1 - coverage),
    )
    return emptied, coverage > 0.5


@dataclass(frozen=True, slots=True)
class Lesion:
    """Appearance of a nodule or mass: range of attenuation, and depth of its lobulation."""

    attenuation: tuple[float, float]
    lobes: float


NODULE = Lesion(attenuation=(0.28, 0.42), lobes=0.02)
MASS = Lesion(attenuation=(0.24, 0.38), lobes=0.05)


def plant_lesion(
    position: tuple[float, float],
    radius: float,
    layers: Layers,
    canvas: Canvas,
    rng: np.random.Generator,
    lesion: Lesion,
) -> Planted:
    """Plant a nodule or mass: a sharply marginated, slightly lobulated sphere."""
    dx, dy = canvas.x_hw - np.float32(position[0]), canvas.y_hw - np.float32(position[1])
    angle, phase = np.arctan2(dy, dx), rng.uniform(0, 2 * np.pi, 2)
    lobed = 1 + lesion.lobes * (np.sin(3 * angle + phase[0]) + 0.6 * np.sin(5 * angle + phase[1]))
    r = np.hypot(dx, dy) / (np.float32(radius) * lobed.astype(np.float32))
    edge = smoothstep((1 - r) * np.float32(radius / EDGE))
    thick = np.float32(0.45) + np.float32(0.55) * np.sqrt(np.clip(1 - r**2, 0, 1))
    added = np.float32(rng.uniform(*lesion.attenuation)) * edge * thick
    return replace(layers, vessels=layers.vessels + added), r < 1


def plant_consolidation(
    position: tuple[float, float],
    radius: float,
    layers: Layers,
    canvas: Canvas,
    rng: np.random.Generator,
) -> Planted:
    """Plant a consolidation: a mottled opacity with ill-defined edges, bounded by the lung."""
    stretch, tilt = rng.uniform(0.75, 1.30), rng.uniform(0, np.pi)
    cloud = canvas.upsample(texture(rng, 1.7))
    mottle = canvas.upsample(texture(rng, 1.0))
    dx, dy = canvas.x_hw - np.float32(position[0]), canvas.y_hw - np.float32(position[1])
    along = (np.cos(tilt) * dx + np.sin(tilt) * dy) / (radius * stretch)
    across = (np.cos(tilt) * dy - np.sin(tilt) * dx) * stretch / radius
    # tanh bounds the perturbation, so the opacity stays at its position.
    r = np.hypot(along, across) + 0.20 * np.tanh(cloud)
    # Only aerated lung consolidates.
    coverage = smoothstep((1.05 - r) / 0.55) * smoothstep(layers.air * 1.6)
    added = coverage * np.float32(rng.uniform(0.26, 0.38)) * (1 + 0.28 * np.tanh(mottle))
    # Vessels are obscured by the consolidated lung around them.
    veiled = layers.vessels * (1 - np.float32(0.8) * coverage) + added
    return replace(layers, vessels=np.asarray(veiled, np.float32)), np.asarray(coverage > 0.25)
