"""Shapes: what each finding does to a chest's layers, and which pixels it covers."""

from collections.abc import Callable
from dataclasses import dataclass, replace

import numpy as np

from cxr_server.phantom.anatomy import EDGE, Lung
from cxr_server.phantom.body import Layers
from cxr_server.phantom.canvas import Canvas, Field, Mask, Profile, smoothstep, texture

Planted = tuple[Layers, Mask]
Cover = Callable[[Canvas], Field]
"""How far a finding covers each pixel of a canvas: 0 to 1, [H, W]."""


def effusion_cover(lung: Lung, rng: np.random.Generator) -> Cover:
    """Fluid in the pleural space: it fills the angle and climbs the side wall (the meniscus)."""
    level, rise = rng.uniform(0.57, 0.69), rng.uniform(0.05, 0.12)
    width = float(lung.lateral.table.max())

    def cover(canvas: Canvas) -> Field:
        out = lung.outward(canvas)
        climb = np.clip(out / width, 0, 1) ** 3 * np.float32(rise)
        below = canvas.y_hw - (np.float32(level) - climb)
        surface = smoothstep(below / np.float32(3 * EDGE) + np.float32(0.5))
        # The floor's edge goes too: fluid hides the diaphragm. The stomach's air is below it.
        here = (lung.margin(canvas) > -0.02) & (out > 0)
        return np.asarray(surface * here, np.float32)

    return cover


def fill_with_fluid(cover: Field, lung: Lung, layers: Layers, canvas: Canvas) -> Planted:
    """Fluid takes the air's place; the lung's markings drown in it."""
    filled = replace(
        layers,
        air=layers.air * (1 - np.float32(0.88) * cover),
        vessels=layers.vessels * (1 - cover),
        grain=layers.grain * (1 - cover),
    )
    return filled, (cover > 0.5) & (lung.margin(canvas) > 0)


def pneumothorax_cover(lung: Lung, rng: np.random.Generator) -> Cover:
    """Air between a retracted lung and the wall: a crescent over the apex and down the side."""
    edge = _retracted_edge(lung, rng)

    def cover(canvas: Canvas) -> Field:
        outside = smoothstep(-edge(canvas) / np.float32(EDGE) + np.float32(0.5))
        return np.asarray(outside * lung.cover(canvas), np.float32)

    return cover


def _retracted_edge(lung: Lung, rng: np.random.Generator) -> Cover:
    """Distance into the retracted lung, negative in the crescent."""
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


def fill_with_air(cover: Field, lung: Lung, layers: Layers, canvas: Canvas) -> Planted:
    """No lung, so no markings; darker; and the pleura as a bright line along the lung's edge."""
    # The line lies where the cover passes through a half inside the lung.
    line = np.float32(4) * cover * (1 - cover) * (lung.margin(canvas) > 2 * EDGE)
    emptied = replace(
        layers,
        air=layers.air + cover * (1 - layers.air) * np.float32(0.55),
        vessels=layers.vessels * (1 - cover) + np.float32(0.075) * line,
        grain=layers.grain * (1 - cover),
    )
    return emptied, cover > 0.5


@dataclass(frozen=True, slots=True)
class Look:
    """How a ball looks: the range of its attenuation, and how deep its lobes are."""

    dense: tuple[float, float]
    lobes: float


NODULE = Look(dense=(0.28, 0.42), lobes=0.02)
MASS = Look(dense=(0.24, 0.38), lobes=0.05)


def plant_sphere(
    place: tuple[float, float],
    radius: float,
    layers: Layers,
    canvas: Canvas,
    rng: np.random.Generator,
    look: Look,
) -> Planted:
    """A nodule or a mass: a sharp-edged ball, slightly lobed, as bright as it is thick."""
    dx, dy = canvas.x_hw - np.float32(place[0]), canvas.y_hw - np.float32(place[1])
    angle, phase = np.arctan2(dy, dx), rng.uniform(0, 2 * np.pi, 2)
    lobed = 1 + look.lobes * (np.sin(3 * angle + phase[0]) + 0.6 * np.sin(5 * angle + phase[1]))
    r = np.hypot(dx, dy) / (np.float32(radius) * lobed.astype(np.float32))
    edge = smoothstep((1 - r) * np.float32(radius / EDGE))
    thick = np.float32(0.45) + np.float32(0.55) * np.sqrt(np.clip(1 - r**2, 0, 1))
    added = np.float32(rng.uniform(*look.dense)) * edge * thick
    return replace(layers, vessels=layers.vessels + added), r < 1


def plant_consolidation(
    place: tuple[float, float],
    radius: float,
    layers: Layers,
    canvas: Canvas,
    rng: np.random.Generator,
) -> Planted:
    """Lung full of fluid: a patch with cloudy edges, mottled, cut off by the lung's border."""
    stretch, tilt = rng.uniform(0.75, 1.30), rng.uniform(0, np.pi)
    cloud = canvas.enlarge(texture(rng, 1.7))
    mottle = canvas.enlarge(texture(rng, 1.0))
    dx, dy = canvas.x_hw - np.float32(place[0]), canvas.y_hw - np.float32(place[1])
    along = (np.cos(tilt) * dx + np.sin(tilt) * dy) / (radius * stretch)
    across = (np.cos(tilt) * dy - np.sin(tilt) * dx) * stretch / radius
    # The cloud is bounded, so the patch never wanders off its place.
    r = np.hypot(along, across) + 0.20 * np.tanh(cloud)
    # What fills is air, so the patch ends softly where the air does.
    cover = smoothstep((1.05 - r) / 0.55) * smoothstep(layers.air * 1.6)
    added = cover * np.float32(rng.uniform(0.26, 0.38)) * (1 + 0.28 * np.tanh(mottle))
    # Vessels cannot be told from the consolidated lung around them.
    veiled = layers.vessels * (1 - np.float32(0.8) * cover) + added
    return replace(layers, vessels=np.asarray(veiled, np.float32)), np.asarray(cover > 0.25)
