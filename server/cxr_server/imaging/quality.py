"""Cautions: Radiograph -> what makes an answer about it less trustworthy. Beside: fit.

Cheap looks at the pixels themselves, without a model. They do not prove that an image is a
frontal chest radiograph; they catch what commonly goes wrong on the way to a model.
"""

from __future__ import annotations

from enum import StrEnum
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from cxr_server.errors import ImageRefused

if TYPE_CHECKING:
    from cxr_server.imaging.decode import Radiograph


class Caution(StrEnum):
    """Named as the contract's `WarningCode`, without its prefix."""

    PHANTOM_MODEL = "PHANTOM_MODEL"
    CROPPED = "CROPPED"
    LOW_RESOLUTION = "LOW_RESOLUTION"
    LOW_CONTRAST = "LOW_CONTRAST"
    CLIPPED = "CLIPPED"
    POSSIBLY_INVERTED = "POSSIBLY_INVERTED"
    COLOR = "COLOR"
    TRANSPARENT = "TRANSPARENT"
    UNUSUAL_ASPECT_RATIO = "UNUSUAL_ASPECT_RATIO"
    REORIENTED = "REORIENTED"


MESSAGES: dict[Caution, str] = {
    Caution.PHANTOM_MODEL: (
        "The model is a phantom, trained on drawings; its scores say nothing of people."
    ),
    Caution.CROPPED: ("The image is not square; what lies outside the centred square was cut off."),
    Caution.LOW_RESOLUTION: ("A side is shorter than the network's input; the image was enlarged."),
    Caution.LOW_CONTRAST: "The image uses a small part of its grey range.",
    Caution.CLIPPED: "A large part of the image is pure black or pure white.",
    Caution.POSSIBLY_INVERTED: (
        "The upper corners are brighter than the spine; grey values may be inverted."
    ),
    Caution.COLOR: "The image has colour, which a radiograph has not; it was turned to grey.",
    Caution.TRANSPARENT: "The image is transparent in parts; it was laid over black.",
    Caution.UNUSUAL_ASPECT_RATIO: "The image is much taller or wider than a chest radiograph.",
    Caution.REORIENTED: "The image was turned or mirrored as its EXIF orientation says.",
}
"""A sentence for people for each caution."""

UNLIKELY = frozenset(
    {
        Caution.LOW_CONTRAST,
        Caution.CLIPPED,
        Caution.POSSIBLY_INVERTED,
        Caution.COLOR,
        Caution.TRANSPARENT,
        Caution.UNUSUAL_ASPECT_RATIO,
    }
)
"""Cautions that no well exported frontal chest radiograph raises."""

SAMPLE_SIDE = 128
"""Pixels are judged on a grid of about this many rows and columns."""
LEAST_SPREAD = 0.25
"""Share of the grey range between the 1st and 99th percentile below which contrast is low."""
MOST_BLACK = 0.50
"""Largest share of pure black pixels: collimated films have black borders."""
MOST_WHITE = 0.20
"""Largest share of pure white pixels."""
INVERTED_BY = 0.15
"""Share of the grey range by which the upper corners outshine the spine in an inverted film;
in others the spine is the brighter one, by 0.27 and more in all that were measured."""
MOST_ELONGATED = 2.0
"""Largest ratio of the longer to the shorter side."""


def inspect(radiograph: Radiograph, input_side_px: int) -> tuple[Caution, ...]:
    """Return what the shape and the grey values caution against.

    What only decoding sees (COLOR, TRANSPARENT, REORIENTED) is in `radiograph.cautions`.

    Args:
        radiograph: The decoded image.
        input_side_px: Side of the network's input.
    """
    height_px, width_px = radiograph.height_px, radiograph.width_px
    short_px, long_px = sorted((height_px, width_px))
    sample_hw = radiograph.pixels_hw[
        :: max(1, height_px // SAMPLE_SIDE), :: max(1, width_px // SAMPLE_SIDE)
    ]
    # The sample's histogram: percentiles by sorting would take as long as all the rest here.
    counts = np.bincount(sample_hw.ravel(), minlength=radiograph.max_value + 1)
    low, high = np.searchsorted(np.cumsum(counts), np.multiply(sample_hw.size, (0.01, 0.99)))
    checks = {
        Caution.CROPPED: short_px != long_px,
        Caution.LOW_RESOLUTION: short_px < input_side_px,
        Caution.LOW_CONTRAST: high - low < LEAST_SPREAD * radiograph.max_value,
        Caution.CLIPPED: (
            counts[0] > MOST_BLACK * sample_hw.size or counts[-1] > MOST_WHITE * sample_hw.size
        ),
        Caution.POSSIBLY_INVERTED: _looks_inverted(sample_hw, radiograph.max_value),
        Caution.UNUSUAL_ASPECT_RATIO: long_px > MOST_ELONGATED * short_px,
    }
    return tuple(caution for caution, found in checks.items() if found)


def _looks_inverted(sample_hw: NDArray[np.uint8] | NDArray[np.uint16], max_value: int) -> bool:
    """Tell whether the spine is darker than the air beside the neck.

    Where bone is white, the upper corners show air (dark, or at least no brighter than soft
    tissue) and the lower middle shows spine and heart, the brightest of the film.
    """
    height, width = sample_hw.shape
    corner_h, corner_w = max(1, height // 8), max(1, width // 8)
    corners = (sample_hw[:corner_h, :corner_w], sample_hw[:corner_h, -corner_w:])
    spine = sample_hw[height // 2 : height - height // 8, width * 9 // 20 : width - width * 9 // 20]
    corner_share = sum(_median(corner) for corner in corners) / (2 * max_value)
    return corner_share - _median(spine) / max_value > INVERTED_BY


def _median(values: NDArray[np.uint8] | NDArray[np.uint16]) -> int:
    """Return the upper median; NumPy's own spends several times longer on its generality."""
    middle = values.size // 2
    return int(np.partition(values, middle, axis=None)[middle])


def refuse_unlikely(cautions: tuple[Caution, ...]) -> None:
    """Raise `ImageRefused` when a caution says that this is hardly a chest radiograph.

    Those are the cautions in `UNLIKELY`. Being cropped, small or turned upright does not
    speak against a radiograph.
    """
    reasons = [MESSAGES[caution] for caution in cautions if caution in UNLIKELY]
    if reasons:
        raise ImageRefused("Not taken for a frontal chest radiograph: " + " ".join(reasons))
