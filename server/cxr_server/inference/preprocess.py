"""Fit: Radiograph -> the network's input. Next: schedule, engine."""

import numpy as np
from numpy.typing import NDArray

from cxr_server.geometry import crop_box
from cxr_server.imaging.radiograph import Radiograph
from cxr_server.inference.resize import fit_operator

HALF_RANGE = 1024.0
"""The network sees black as minus and white as plus this (torchxrayvision's `normalize`)."""


def fit(radiograph: Radiograph, side_px: int) -> NDArray[np.float32]:
    """Crop, resize and scale a radiograph for the network.

    Equal to torchxrayvision 1.5.7's `normalize`, `XRayCenterCrop` and `XRayResizer(side_px)`
    (its scikit-image engine, zeros beyond the edge included) within 0.01.

    Args:
        radiograph: The image, of any size.
        side_px: Side of the network's input.

    Returns:
        float32 [1, side_px, side_px] in [-1024, 1024].
    """
    box = crop_box(radiograph.height_px, radiograph.width_px)
    crop_hw = radiograph.pixels_hw[
        box.y_px : box.y_px + box.height_px, box.x_px : box.x_px + box.width_px
    ]
    operator = fit_operator(box.width_px, side_px)
    # The reference scales to [-1024, 1024] first and resizes then, so that the zeros beyond
    # the edge are mid-grey. Resizing is linear, so scaling afterwards gives the same if the
    # offset is weighted as the pixels were.
    scale = 2 * HALF_RANGE / radiograph.max_value
    low_hw = operator.apply(crop_hw)
    fitted_hw = operator.apply(low_hw.T).T * np.float32(scale)
    fitted_hw -= np.float32(HALF_RANGE) * operator.coverage_hw
    # scikit-image clips to the input's range, so that the zeros do not show in a bright image.
    low, high = (float(value) * scale - HALF_RANGE for value in (crop_hw.min(), crop_hw.max()))
    return np.ascontiguousarray(np.clip(fitted_hw, low, high))[None]


def model_input_picture(fitted_chw: NDArray[np.float32]) -> NDArray[np.uint8]:
    """Return what the network saw as a picture: uint8 [side, side], black is 0."""
    scaled = (fitted_chw[0] + HALF_RANGE) * np.float32(255 / (2 * HALF_RANGE))
    return np.asarray(np.rint(scaled), dtype=np.uint8)
