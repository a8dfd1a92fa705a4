"""Geometry: boxes in the upright original image."""

from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class Box:
    """A box in the upright image; its right and lower edges lie outside."""

    x_px: int
    y_px: int
    width_px: int
    height_px: int
