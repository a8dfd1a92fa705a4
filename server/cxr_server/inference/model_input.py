"""Prepare: image bytes -> all that the engine and the answer need of the image. Next: schedule."""

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from cxr_server.geometry import Box, crop_box
from cxr_server.imaging import quality
from cxr_server.imaging.codecs import decode
from cxr_server.imaging.radiograph import DecodeLimits, InputWarning, Radiograph
from cxr_server.inference import preprocess as fit


@dataclass(frozen=True, slots=True)
class ImageFacts:
    """What was read from an image's file; sizes are of the upright image."""

    file_format: str
    bit_depth: int
    height_px: int
    width_px: int
    crop: Box


@dataclass(frozen=True, slots=True)
class Prepared:
    """An image ready for the engine.

    Attributes:
        image_chw: The network's input [1, side, side] in [-1024, 1024].
        picture_hw: The same as a picture.
        radiograph: The whole image, where its pixels are to be drawn.
        facts: What was read from the file.
        warnings: Reasons to trust an answer less.
    """

    image_chw: NDArray[np.float32]
    picture_hw: NDArray[np.uint8]
    radiograph: Radiograph | None
    facts: ImageFacts
    warnings: tuple[InputWarning, ...]


@dataclass(frozen=True, slots=True)
class Evidence:
    """What the network made of an image, and all that is cached of it: some 60 KB.

    Attributes:
        evidence_khw: float32 [K, h, w], one signed map per finding, logits.
        picture_hw: uint8 [side, side], the network's input as a picture.
        facts: What was read from the file.
        warnings: What makes a result doubtful.
    """

    evidence_khw: NDArray[np.float32]
    picture_hw: NDArray[np.uint8]
    facts: ImageFacts
    warnings: tuple[InputWarning, ...]


def prepare(
    image: bytes, limits: DecodeLimits, side_px: int, *, strict: bool, keep_pixels: bool
) -> Prepared:
    """Decode, inspect and fit an image.

    Args:
        image: The file's bytes.
        limits: What images are decoded.
        side_px: Side of the network's input.
        strict: Refuse what does not look like a radiograph.
        keep_pixels: Keep the whole image as well.

    Raises:
        ImageError: The image cannot be read, or was refused.
    """
    radiograph = decode(image, limits)
    warnings = radiograph.warnings + quality.inspect(radiograph, side_px)
    if strict:
        quality.refuse_unlikely(warnings)
    height_px, width_px = radiograph.height_px, radiograph.width_px
    crop = crop_box(height_px, width_px)
    facts = ImageFacts(radiograph.file_format, radiograph.bit_depth, height_px, width_px, crop)
    image_chw = fit.fit(radiograph, side_px)
    picture_hw = fit.model_input_picture(image_chw)
    return Prepared(image_chw, picture_hw, radiograph if keep_pixels else None, facts, warnings)
