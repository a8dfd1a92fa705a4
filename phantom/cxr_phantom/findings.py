"""Findings: layers of a healthy chest -> layers with planted findings, and their masks. Next: film.

Sizes follow the median bounding boxes of NIH ChestX-ray14 (Wang et al. 2017, BBox_List_2017), as
fractions of the film width. Each finding has its own random generator, so adding one does not
change another.
"""

from collections.abc import Sequence

import numpy as np
from scipy import ndimage

from cxr_phantom import shapes
from cxr_phantom.anatomy import Anatomy
from cxr_phantom.body import Layers
from cxr_phantom.canvas import Canvas, Mask, stream

FINDINGS = (
    "Cardiomegaly",
    "Effusion",
    "Pneumothorax",
    "Nodule",
    "Mass",
    "Consolidation",
)
"""Names as in torchxrayvision, in the order of the model outputs."""

PLANTING_ORDER = (
    "Cardiomegaly",
    "Effusion",
    "Pneumothorax",
    "Consolidation",
    "Mass",
    "Nodule",
)
"""Largest first; smaller findings are then placed in the lung that is left."""

RADIUS = {"Consolidation": (0.085, 0.130), "Mass": (0.052, 0.085), "Nodule": (0.028, 0.037)}
"""Range of radii in film widths. Nodules are below 3 cm in diameter: 0.0375 of a 40 cm film."""

FIRST_STREAM = 10
PLACING_PX = 96
"""Positions are chosen on a grid of this size, so that they are independent of image size."""


def sample_findings(rng: np.random.Generator) -> tuple[str, ...]:
    """Choose each finding with probability 0.27; about a quarter of the phantoms have none."""
    chosen = rng.random(len(FINDINGS)) < 0.32
    if rng.random() < 0.15:
        return ()
    return tuple(name for name, here in zip(FINDINGS, chosen, strict=True) if here)


def plant(
    wanted: Sequence[str], anatomy: Anatomy, layers: Layers, canvas: Canvas, seed: int
) -> tuple[Layers, dict[str, Mask]]:
    """Plant findings. Returns the modified layers and a mask, bool [H, W], for each finding.

    Cardiomegaly is part of the anatomy; only its mask is made here.
    """
    masks: dict[str, Mask] = {}
    placing = Canvas.of(PLACING_PX, canvas.pose)
    occupied = anatomy.heart.radius(placing) < 1.05
    # Effusion and pneumothorax are on opposite sides, so neither covers the other.
    fluid_side, air_side = stream(seed, FIRST_STREAM - 1).permutation(2)
    for name in PLANTING_ORDER:
        if name not in wanted:
            continue
        rng = stream(seed, FIRST_STREAM + FINDINGS.index(name))
        if name == "Cardiomegaly":
            masks[name] = anatomy.heart_mask(canvas)
        elif name == "Effusion":
            lung = anatomy.lungs[fluid_side]
            coverage = shapes.effusion_coverage(lung, rng)
            layers, masks[name] = shapes.fill_with_fluid(coverage(canvas), lung, layers, canvas)
            occupied = occupied | (coverage(placing) > 0.1)
        elif name == "Pneumothorax":
            lung = anatomy.lungs[air_side]
            coverage = shapes.pneumothorax_coverage(lung, rng)
            layers, masks[name] = shapes.fill_with_air(coverage(canvas), lung, layers, canvas)
            occupied = occupied | (coverage(placing) > 0.1)
        else:
            position, radius = _find_position(name, anatomy, placing, occupied, rng)
            if name == "Consolidation":
                layers, masks[name] = shapes.plant_consolidation(
                    position, radius, layers, canvas, rng
                )
            else:
                lesion = shapes.NODULE if name == "Nodule" else shapes.MASS
                layers, masks[name] = shapes.plant_lesion(
                    position, radius, layers, canvas, rng, lesion
                )
            reach = np.hypot(placing.x_hw - position[0], placing.y_hw - position[1])
            occupied = occupied | (reach < radius * 1.25)
    return layers, masks


def _find_position(
    name: str, anatomy: Anatomy, placing: Canvas, occupied: Mask, rng: np.random.Generator
) -> tuple[tuple[float, float], float]:
    """Return a position (x, y) in unoccupied lung and the radius of the finding there.

    If no position has enough clearance, the one with the greatest is used and the radius
    reduced, but not below the minimum of the finding.
    """
    smallest, largest = RADIUS[name]
    radius = rng.uniform(smallest, largest)
    lung = np.maximum(*(g.signed_distance(placing) for g in anatomy.lungs))
    free = ndimage.distance_transform_edt(~occupied) / placing.size_px
    # A consolidation may touch the border of the lung, a nodule or mass may not.
    clearance = np.minimum(lung * (2.2 if name == "Consolidation" else 1.15), free)
    fits = np.flatnonzero(clearance > radius + 0.008)
    draw = rng.random()
    if fits.size:
        index = int(fits[int(draw * fits.size)])
    else:
        index = int(np.argmax(clearance))
        radius = max(smallest, float(clearance.flat[index]))
    return (float(placing.x_hw.flat[index]), float(placing.y_hw.flat[index])), radius
