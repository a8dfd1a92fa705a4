"""Draw: seed and findings -> Phantom (pixels and exact masks). Next: dataset, samples."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from types import MappingProxyType

import numpy as np
from numpy.typing import NDArray

from cxr_phantom.anatomy import sample_anatomy
from cxr_phantom.body import draw_layers
from cxr_phantom.canvas import Canvas, Mask, Pose, stream
from cxr_phantom.film import expose
from cxr_phantom.findings import FINDINGS, plant, sample_findings

MIN_SIZE_PX = 64


@dataclass(frozen=True, slots=True)
class Phantom:
    """A synthetic frontal chest radiograph.

    Attributes:
        pixels_hw: uint8 [H, W], dense tissue is bright.
        masks: bool [H, W] for each planted finding: the pixels that it covers.
        seed: The seed it was drawn from.
    """

    pixels_hw: NDArray[np.uint8]
    masks: Mapping[str, Mask]
    seed: int


def draw_phantom(seed: int, findings: Sequence[str] | None = None, size_px: int = 224) -> Phantom:
    """Draw the phantom of a seed. A seed gives the same anatomy at every size.

    Args:
        seed: Not negative. Determines pose, anatomy, exposure and the positions of findings.
        findings: Names from `FINDINGS`; None lets the seed choose (possibly none).
        size_px: Side of the square image.

    Raises:
        ValueError: A finding is unknown, the seed is negative or the size is below 64.
    """
    if seed < 0:
        raise ValueError("seed must not be negative")
    if size_px < MIN_SIZE_PX:
        raise ValueError(f"size_px must be at least {MIN_SIZE_PX}")
    if unknown := sorted(set(findings or ()) - set(FINDINGS)):
        raise ValueError(f"unknown findings {unknown}; known are {list(FINDINGS)}")
    wanted = sample_findings(stream(seed, 0)) if findings is None else tuple(findings)
    canvas = Canvas.of(size_px, Pose.sample(stream(seed, 1)))
    anatomy = sample_anatomy(
        stream(seed, 2), stream(seed, 3), enlarged_heart="Cardiomegaly" in wanted
    )
    healthy = draw_layers(anatomy, canvas, stream(seed, 4))
    layers, masks = plant(wanted, anatomy, healthy, canvas, seed)
    pixels = expose(layers.attenuation(), canvas, stream(seed, 5))
    return Phantom(pixels, MappingProxyType(masks), seed)
