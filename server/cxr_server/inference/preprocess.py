"""Preprocess: image bytes -> Radiograph -> ModelInput. Next: the engine.

To add a preprocessing, write a class and add an instance to `PREPROCESSINGS`.
"""

from collections.abc import Callable
from contextlib import AbstractContextManager
from dataclasses import dataclass, field
from functools import partial
from typing import Protocol

import numpy as np
from numpy.typing import NDArray

from cxr_server.budget import ThreadBudget
from cxr_server.bundles.manifest import BundleError, Description
from cxr_server.errors import ImageTooManyPixels
from cxr_server.geometry import Box
from cxr_server.imaging import quality
from cxr_server.imaging.codecs import read
from cxr_server.imaging.radiograph import (
    DecodeLimits,
    DecodeOptions,
    ImageBytes,
    Pixels,
    Radiograph,
)
from cxr_server.inference.model_input import ImageFacts, ModelInput
from cxr_server.inference.resize import resize_operator

HALF_RANGE = 1024.0
"""Black is minus and white plus this to the network (torchxrayvision's `normalize`)."""
BOUNDS_STEP = 64  # rows; most images are known from them to have values on both sides of mid-grey


class Preprocessing(Protocol):
    """Turns radiographs into a network's input."""

    id: str  # equal ids mean equal pixels to the network

    def why_not(self) -> str | None:
        """Return what it needs and this server lacks, or None if it can be used."""

    def crop(self, height_px: int, width_px: int) -> Box:
        """Return what the network sees of an image of this size."""

    def image_chw(self, radiograph: Radiograph, side_px: int) -> NDArray[np.float32]:
        """Return the network's input, float32 [1, side_px, side_px]."""

    def picture_hw(
        self, image_chw: NDArray[np.float32], radiograph: Radiograph
    ) -> NDArray[np.uint8]:
        """Return the network's input as a picture, uint8 [side_px, side_px].

        0 and 255 are the ends of `radiograph.display_range`. It is an array of its own, no view of
        the radiograph, which may lie in the image file.
        """


class XRVPreprocessing:
    """Centre crop and resize, as torchxrayvision 1.5.7 within 0.01 of its range of 2048.

    Equal to its `normalize`, `XRayCenterCrop` and `XRayResizer` (the scikit-image engine).
    """

    id = "xrv-centercrop-resize224-v1"

    def why_not(self) -> str | None:
        """Return None: it needs numpy alone."""
        return None

    def crop(self, height_px: int, width_px: int) -> Box:
        """Return the centred square."""
        side_px = min(height_px, width_px)
        left_px, top_px = width_px // 2 - side_px // 2, height_px // 2 - side_px // 2
        return Box(left_px, top_px, side_px, side_px)

    def image_chw(self, radiograph: Radiograph, side_px: int) -> NDArray[np.float32]:
        """Return the network's input, float32 [1, side_px, side_px] in [-1024, 1024]."""
        box = self.crop(radiograph.height_px, radiograph.width_px)
        crop_hw = radiograph.pixels_hw[
            box.y_px : box.y_px + box.height_px, box.x_px : box.x_px + box.width_px
        ]
        operator = resize_operator(box.width_px, side_px)
        # The reference scales to [-1024, 1024] first and resizes then, so the zeros beyond the
        # edge are mid-grey. Resizing is linear: scaling afterwards gives the same result if the
        # offset is weighted as the pixels were.
        scale = 2 * HALF_RANGE / radiograph.max_value
        resized_hw = operator.resize(crop_hw)
        resized_hw *= np.float32(scale)
        resized_hw -= np.float32(HALF_RANGE) * operator.coverage_hw
        low, high = (value * scale - HALF_RANGE for value in _bounds(crop_hw, radiograph.max_value))
        return np.clip(resized_hw, low, high, out=resized_hw)[None]

    def picture_hw(
        self, image_chw: NDArray[np.float32], radiograph: Radiograph
    ) -> NDArray[np.uint8]:
        """Return the network's input as a picture, uint8 [side_px, side_px]."""
        scale = 2 * HALF_RANGE / radiograph.max_value
        black, white = (value * scale - HALF_RANGE for value in radiograph.display_range)
        levels_hw = (image_chw[0] - np.float32(black)) * np.float32(255 / (white - black))
        # Rounding errors are steps of a picture where all of it are a few of 65,536 values.
        return np.asarray(np.rint(np.clip(levels_hw, 0, 255, out=levels_hw)), dtype=np.uint8)


def _bounds(values_hw: Pixels, max_value: int) -> tuple[int, int]:
    """Return what a resized image is clipped to: as in scikit-image, the range of its pixels.

    So the mid-grey beyond the edge does not show in an image that is all brighter or all darker.
    Where it is not, no value leaves the range of its pixels but by rounding, and the whole range is
    returned.
    """
    for part_hw in (values_hw[::BOUNDS_STEP], values_hw):
        low, high = int(part_hw.min()), int(part_hw.max())
        if low <= max_value / 2 <= high:
            return 0, max_value
    return low, high


XRV = XRVPreprocessing()
PREPROCESSINGS: dict[str, Preprocessing] = {XRV.id: XRV}
"""The registry: implemented preprocessings, by the id that bundles name."""


def preprocessing_of(manifest: Description) -> Preprocessing:
    """Return the preprocessing that a bundle names. Raises BundleError if it cannot be used."""
    wanted = manifest.preprocessing_id
    found = PREPROCESSINGS.get(wanted)
    if found and not (reason := found.why_not()):
        return found
    reason = reason if found else f"this server implements {', '.join(PREPROCESSINGS)}"
    raise BundleError(f"bundle {manifest.name} needs the preprocessing {wanted}: {reason}")


@dataclass(frozen=True, slots=True, kw_only=True)
class Job:
    """What to make of an image file: the network's input, a square of `side_px`.

    `strict` refuses an image that does not look like a frontal chest radiograph; `keep_whole`
    keeps the whole image as a picture.
    """

    preprocessing: Preprocessing = field(hash=False)  # a class of its own may have no hash
    side_px: int
    limits: DecodeLimits
    options: DecodeOptions = DecodeOptions()  # noqa: RUF009 -- frozen
    strict: bool = False
    keep_whole: bool = False


class Hold(Protocol):
    """Holds memory while a block runs."""

    def __call__(self, decode_bytes: int, beside_bytes: int) -> AbstractContextManager[None]:
        """Wait for what decoding takes and for what is kept beside it.

        Raises ImageTooManyPixels if decoding alone takes more than there is, and whatever ends the
        wait.
        """


def hold_of(budget: ThreadBudget, check: Callable[[], None]) -> Hold:
    """Return how a thread holds bytes of the budget. `check` raises to end the wait."""
    return partial(_hold, budget, check)


def _hold(
    budget: ThreadBudget, check: Callable[[], None], decode_bytes: int, beside_bytes: int
) -> AbstractContextManager[None]:
    limit_bytes = budget.limit_bytes
    if decode_bytes > limit_bytes:
        raise ImageTooManyPixels(
            f"Decoding the image takes {decode_bytes // 2**20} MiB of memory; this server has "
            f"{limit_bytes // 2**20} MiB for it. Send it in greyscale, or smaller."
        )
    return budget.hold(min(decode_bytes + beside_bytes, limit_bytes), check)


def preprocess(
    image: ImageBytes,
    job: Job,
    *,
    hold: Hold,
    check: Callable[[], None],
    isolated: Callable[[], ModelInput] | None = None,
) -> ModelInput:
    """Decode, check and preprocess an image file. Blocks.

    What decoding takes is held meanwhile. `check`, called between the steps, raises to end the
    work. `isolated` does the work elsewhere if the header demands it. Raises ImageError.
    """
    file = read(image, job.limits)
    header = file.header
    if isolated and header.isolated:
        return isolated()
    whole_bytes = header.height_px * header.width_px if job.keep_whole else 0
    # Where another process decodes, the whole image is there twice until it is handed over.
    with hold(header.decode_bytes, 2 * whole_bytes):
        check()
        radiograph = file.radiograph(job.options)
        check()
        return _prepare(radiograph, job)


def _prepare(radiograph: Radiograph, job: Job) -> ModelInput:
    preprocessing, side_px = job.preprocessing, job.side_px
    warnings = radiograph.warnings + quality.inspect(radiograph, side_px)
    display_range = radiograph.display_range
    if job.strict:
        quality.refuse_unlikely(warnings, display_range, radiograph.presentation)
    height_px, width_px = radiograph.height_px, radiograph.width_px
    crop = preprocessing.crop(height_px, width_px)
    facts = ImageFacts(
        radiograph.file_format,
        radiograph.bit_depth,
        height_px,
        width_px,
        crop,
        display_range,
        radiograph.presentation,
    )
    image_chw = preprocessing.image_chw(radiograph, side_px)
    picture_hw = preprocessing.picture_hw(image_chw, radiograph)
    whole_hw = radiograph.display_hw() if job.keep_whole else None
    return ModelInput(image_chw, picture_hw, facts, warnings, whole_hw)
