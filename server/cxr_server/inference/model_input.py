"""The carriers between preprocessing and explanation: ModelInput, then Evidence."""

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from cxr_server.geometry import Box
from cxr_server.imaging.radiograph import DicomPresentation, InputWarning
from cxr_server.inference.scoring import Finding


@dataclass(frozen=True, slots=True)
class ImageFacts:
    """What was read from the file. Sizes are of the upright image; see `ImageInfo`."""

    file_format: str
    bit_depth: int
    height_px: int
    width_px: int
    crop: Box  # what the network sees
    display_range: tuple[int, int] = (0, 255)  # see `Radiograph`
    presentation: DicomPresentation | None = None  # as applied; None unless DICOM


@dataclass(frozen=True, slots=True)
class ModelInput:
    """A preprocessed image."""

    image_chw: NDArray[np.float32]  # the network's input [1, side, side]
    picture_hw: NDArray[np.uint8]  # the same as a picture [side, side], black is 0
    facts: ImageFacts
    warnings: tuple[InputWarning, ...]
    whole_hw: NDArray[np.uint8] | None = None
    """The whole upright image as a picture (`Radiograph.display_hw`), if it was asked for."""


@dataclass(frozen=True, slots=True)
class Evidence:
    """What the network found in one image; about 65 KB, and all that the cache keeps."""

    evidence_khw: NDArray[np.float32]  # signed, of each finding [K, h, w], in logits
    findings: tuple[Finding, ...]  # best first
    picture_hw: NDArray[np.uint8]
    facts: ImageFacts
    warnings: tuple[InputWarning, ...]
    embedding_c: NDArray[np.float32] | None = None  # None if the bundle's model gives none
    typicality: float | None = None  # see `Reference.typicality`; None without a reference
