"""Findings: which can be planted in a chest, how large, and where. Next: film.

Sizes follow the medians of NIH's hand-drawn boxes (Wang et al. 2017, BBox_List_2017), as
fractions of the film's width. Each finding draws from its own stream of random numbers, so one
can be added without changing another.
"""

from collections.abc import Sequence

import numpy as np
from scipy import ndimage

from cxr_server.phantom import shapes
from cxr_server.phantom.anatomy import Anatomy
from cxr_server.phantom.body import Layers
from cxr_server.phantom.canvas import Canvas, Mask, stream

FINDINGS = (
    "Cardiomegaly",
    "Effusion",
    "Pneumothorax",
    "Nodule",
    "Mass",
    "Consolidation",
)
"""Torchxrayvision's names, in the model's order."""

PLANTING_ORDER = (
    "Cardiomegaly",
    "Effusion",
    "Pneumothorax",
    "Consolidation",
    "Mass",
    "Nodule",
)
"""The large ones first: the small ones then look for free lung."""

RADIUS = {"Consolidation": (0.085, 0.130), "Mass": (0.052, 0.085), "Nodule": (0.028, 0.037)}
"""Film widths. A film is some 40 cm wide and 3 cm parts a nodule from a mass: 0.0375."""

FIRST_STREAM = 10
PLACING_PX = 96
"""Places are chosen on a grid of this size, so that they do not depend on the film's size."""


def sample_findings(rng: np.random.Generator) -> tuple[str, ...]:
    """Nothing in about a quarter of the films; else each finding in three tenths of them."""
    chosen = rng.random(len(FINDINGS)) < 0.32
    if rng.random() < 0.15:
        return ()
    return tuple(name for name, here in zip(FINDINGS, chosen, strict=True) if here)


def plant(
    wanted: Sequence[str], anatomy: Anatomy, layers: Layers, canvas: Canvas, seed: int
) -> tuple[Layers, dict[str, Mask]]:
    """Plants the findings; returns the changed layers and the masks, bool [H, W] each.

    An enlarged heart is drawn with the anatomy; here it only gets its mask.
    """
    masks: dict[str, Mask] = {}
    placing = Canvas.of(PLACING_PX, canvas.pose)
    taken = anatomy.heart.radius(placing) < 1.05
    # Fluid and air take different sides, so neither covers the other.
    wet, dry = stream(seed, FIRST_STREAM - 1).permutation(2)
    for name in PLANTING_ORDER:
        if name not in wanted:
            continue
        rng = stream(seed, FIRST_STREAM + FINDINGS.index(name))
        if name == "Cardiomegaly":
            masks[name] = anatomy.heart_mask(canvas)
        elif name == "Effusion":
            lung = anatomy.lungs[wet]
            cover = shapes.effusion_cover(lung, rng)
            layers, masks[name] = shapes.fill_with_fluid(cover(canvas), lung, layers, canvas)
            taken = taken | (cover(placing) > 0.1)
        elif name == "Pneumothorax":
            lung = anatomy.lungs[dry]
            cover = shapes.pneumothorax_cover(lung, rng)
            layers, masks[name] = shapes.fill_with_air(cover(canvas), lung, layers, canvas)
            taken = taken | (cover(placing) > 0.1)
        else:
            place, radius = _find_place(name, anatomy, placing, taken, rng)
            if name == "Consolidation":
                layers, masks[name] = shapes.plant_consolidation(place, radius, layers, canvas, rng)
            else:
                look = shapes.NODULE if name == "Nodule" else shapes.MASS
                layers, masks[name] = shapes.plant_sphere(place, radius, layers, canvas, rng, look)
            reach = np.hypot(placing.x_hw - place[0], placing.y_hw - place[1])
            taken = taken | (reach < radius * 1.25)
    return layers, masks


def _find_place(
    name: str, anatomy: Anatomy, placing: Canvas, taken: Mask, rng: np.random.Generator
) -> tuple[tuple[float, float], float]:
    """A place (x, y) in free lung and the finding's radius there.

    Where no place is wide enough, the widest one is taken and the finding made smaller, though
    never smaller than its kind.
    """
    smallest, largest = RADIUS[name]
    radius = rng.uniform(smallest, largest)
    lung = np.maximum(*(g.margin(placing) for g in anatomy.lungs))
    free = ndimage.distance_transform_edt(~taken) / placing.size_px
    # A consolidation may reach the lung's border, a ball may not.
    clearance = np.minimum(lung * (2.2 if name == "Consolidation" else 1.15), free)
    fits = np.flatnonzero(clearance > radius + 0.008)
    draw = rng.random()
    if fits.size:
        index = int(fits[int(draw * fits.size)])
    else:
        index = int(np.argmax(clearance))
        radius = max(smallest, float(clearance.flat[index]))
    return (float(placing.x_hw.flat[index]), float(placing.y_hw.flat[index])), radius
