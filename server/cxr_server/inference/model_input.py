"""The carriers between preprocessing and explanation: ModelInput, then Evidence."""

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from cxr_server.geometry import Box
from cxr_server.imaging.radiograph import InputWarning, Radiograph


@dataclass(frozen=True, slots=True)
class ImageFacts:
    """What was read from the file; sizes are of the upright image.

    Attributes:
        file_format: As in the contract, such as "PNG".
        bit_depth: Bits per channel in the file.
        height_px: Height.
        width_px: Width.
        crop: What the network sees, as a box in the image.
    """

    file_format: str
    bit_depth: int
    height_px: int
    width_px: int
    crop: Box


@dataclass(frozen=True, slots=True)
class ModelInput:
    """A preprocessed image.

    Attributes:
        image_chw: The network's input, float32 [1, side, side].
        picture_hw: The same as a picture, uint8 [side, side], black is 0.
        facts: What was read from the file.
        warnings: Findings of the input-quality checks.
        radiograph: The whole image, if it was asked for.
    """

    image_chw: NDArray[np.float32]
    picture_hw: NDArray[np.uint8]
    facts: ImageFacts
    warnings: tuple[InputWarning, ...]
    radiograph: Radiograph | None = None


@dataclass(frozen=True, slots=True)
class Evidence:
    """What the network found in one image; about 60 KB, and all that the cache keeps.

    Attributes:
        evidence_khw: Signed evidence of each finding in logits, float32 [K, h, w].
        picture_hw: As in `ModelInput`.
        facts: As in `ModelInput`.
        warnings: As in `ModelInput`.
    """

    evidence_khw: NDArray[np.float32]
    picture_hw: NDArray[np.uint8]
    facts: ImageFacts
    warnings: tuple[InputWarning, ...]
