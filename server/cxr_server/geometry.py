"""Geometry: boxes in the upright original image, and the crop that the network sees."""

from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class Box:
    """A box in the upright image; its right and lower edges lie outside."""

    x_px: int
    y_px: int
    width_px: int
    height_px: int


def crop_box(height_px: int, width_px: int) -> Box:
    """Return the centred square that the network sees, as torchxrayvision's XRayCenterCrop."""
    side_px = min(height_px, width_px)
    return Box(
        x_px=width_px // 2 - side_px // 2,
        y_px=height_px // 2 - side_px // 2,
        width_px=side_px,
        height_px=side_px,
    )
