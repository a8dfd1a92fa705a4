"""Quality: Radiograph -> input warnings. Next: inference.

Cheap checks of the pixels, without a model. They do not prove that an image is a frontal chest
radiograph; they catch what commonly goes wrong before an image reaches a model.
"""

import numpy as np

from cxr_server.errors import ImageRefused
from cxr_server.imaging.gate import TURNED, View, view_of
from cxr_server.imaging.photograph import is_photograph
from cxr_server.imaging.radiograph import DicomPresentation, InputWarning, Pixels, Radiograph

MESSAGES: dict[InputWarning, str] = {
    InputWarning.PHANTOM_MODEL: (
        "The model is a phantom, trained on drawings; its scores say nothing about people."
    ),
    InputWarning.CROPPED: "The image is not square; only its centred square was used.",
    InputWarning.LOW_RESOLUTION: "A side is shorter than the model's input; it was enlarged.",
    InputWarning.LOW_CONTRAST: "The image uses only a small part of its grey range.",
    InputWarning.CLIPPED: "A large part of the image is pure black or pure white.",
    InputWarning.POSSIBLY_INVERTED: (
        "The upper corners are brighter than the spine; the grey values may be inverted."
    ),
    InputWarning.COLOR: "The image is in colour; it was converted to greyscale.",
    InputWarning.TRANSPARENT: "Parts of the image are transparent; it was blended over black.",
    InputWarning.UNUSUAL_ASPECT_RATIO: "The image is far taller or wider than a chest radiograph.",
    InputWarning.REORIENTED: "The image was rotated or mirrored, as its metadata says.",
    InputWarning.RANGE_UNUSED: (
        "The values of this 16-bit file are only from {low} to {high} of 65535{cause}: {mend}"
        "export the image with its intended window."
    ),
    InputWarning.LATERAL_VIEW: "The DICOM header says that this is a lateral view.",
    InputWarning.MIRRORED: "The DICOM header says that the image is mirrored.",
    InputWarning.NOT_CHEST: "The DICOM header says that this is no radiograph of a chest.",
    InputWarning.FOR_PROCESSING: (
        "The DICOM header says that the image is for processing, not for presentation."
    ),
    InputWarning.BURNED_IN_ANNOTATION: (
        "The DICOM header says that text is burned into the pixels; it may identify a person."
    ),
    InputWarning.PIXELS_NOT_SQUARE: (
        "The DICOM header says that pixels are not square; the image was not corrected for it."
    ),
    InputWarning.PRESENTATION_CONFLICT: (
        "The presentation LUT shape of the DICOM file contradicts its photometric "
        "interpretation, which was used."
    ),
    InputWarning.POSSIBLY_ROTATED: (
        "The image looks like a frontal chest radiograph that was turned or is upside down, or its "
        "DICOM header says so."
    ),
    InputWarning.POSSIBLY_NOT_CHEST: "The image does not look like a frontal chest radiograph.",
    InputWarning.LETTERBOXED: (
        "The image has wide borders of one grey value; crop it to the exposed field."
    ),
    InputWarning.UNTYPICAL_IMAGE: (
        "To the network the image is unlike the films of the model's reference."
    ),
    InputWarning.POSSIBLY_PHOTOGRAPH: (
        "The image looks like a photograph of a film or screen; send the exported file."
    ),
}
"""The text for each warning; see `message`."""

UNUSED_IN_DICOM: dict[DicomPresentation, str] = {
    DicomPresentation.AS_SHOWN: (
        "Shown as its header says, this DICOM image has greys only from {low} to {high} of 65535: "
        "write the window that it is read with (Window Center and Window Width) into the file."
    ),
    DicomPresentation.STORED: (
        "The stored values of this DICOM image give greys only from {low} to {high} of 65535: ask "
        "for AS_SHOWN, which applies its window."
    ),
}
"""The text for RANGE_UNUSED of a DICOM file, whose header says how values become grey."""

UNLIKELY = {
    InputWarning.LOW_CONTRAST,
    InputWarning.CLIPPED,
    InputWarning.POSSIBLY_INVERTED,
    InputWarning.COLOR,
    InputWarning.TRANSPARENT,
    InputWarning.UNUSUAL_ASPECT_RATIO,
    InputWarning.RANGE_UNUSED,
    InputWarning.LATERAL_VIEW,
    InputWarning.MIRRORED,
    InputWarning.NOT_CHEST,
    InputWarning.FOR_PROCESSING,
    InputWarning.POSSIBLY_ROTATED,
    InputWarning.POSSIBLY_NOT_CHEST,
}
"""Warnings that a properly exported frontal chest radiograph does not cause."""

COMMON_BIT_DEPTHS = (8, 10, 12, 14, 15)
"""Bits that detectors deliver, and that are then saved in 16."""
SAMPLE_SIDE = 128  # pixels are judged on a grid of about this many rows and columns
MIN_SPREAD = 0.25
"""Share of the grey range between the 1st and 99th percentile, below which contrast is low."""
MAX_BLACK, MAX_WHITE = 0.50, 0.20
"""Maximum shares of pure black and white pixels: collimated films have black borders."""
INVERTED_BY = 0.15
"""An image may be inverted if its upper corners are brighter than the spine by this share of the
grey range. In all films measured the spine was brighter, by 0.27 or more."""
FLAT = 0.012  # deviation, as a share of the values' spread, that JPEG makes of one value
MAX_MARKED = 0.1  # share of other values, as of text, in a row or column of a border
MAX_BORDER = 0.2  # share of the rows or columns: the air beside a body may have one value, too
MAX_ASPECT_RATIO = 2.0  # maximum ratio of the longer to the shorter side


def inspect(radiograph: Radiograph, input_side_px: int) -> tuple[InputWarning, ...]:
    """Return the warnings that shape and grey values give rise to.

    Not those in `radiograph.warnings`. The network's input has sides of `input_side_px`.
    """
    shape_px = radiograph.pixels_hw.shape
    short_px, long_px = sorted(shape_px)
    row_step, column_step = (max(1, side_px // SAMPLE_SIDE) for side_px in shape_px)
    # Contiguous, since each check reads it: its pixels are far apart in the image.
    sample_hw: Pixels = np.ascontiguousarray(radiograph.pixels_hw[::row_step, ::column_step])  # type: ignore[assignment]
    exposed_hw = sample_hw
    inside = sample_hw.ravel()
    if radiograph.padding_hw is not None:  # is no part of the radiograph
        inside_hw = ~radiograph.padding_hw[::row_step, ::column_step]
        inside = sample_hw[inside_hw]
        exposed_hw = sample_hw[inside_hw.any(axis=1)][:, inside_hw.any(axis=0)]
    # Contrast, clipping and inversion are judged on the part of the range that is used.
    black, white = radiograph.display_range
    # Percentiles from the histogram: sorting would take as long as all the other checks.
    counts = np.bincount(inside, minlength=white + 1)
    low, high = counts.cumsum().searchsorted((0.01 * inside.size, 0.99 * inside.size))
    view = view_of(_square(radiograph.pixels_hw))
    inverted = _looks_inverted(sample_hw, white - black)
    seen_inverted = inverted and view is View.INVERTED
    checks = {
        InputWarning.CROPPED: short_px != long_px,
        InputWarning.LOW_RESOLUTION: short_px < input_side_px,
        InputWarning.LOW_CONTRAST: high - low < MIN_SPREAD * (white - black),
        InputWarning.CLIPPED: (
            counts[black] > MAX_BLACK * inside.size or counts[white] > MAX_WHITE * inside.size
        ),
        InputWarning.POSSIBLY_INVERTED: inverted,
        InputWarning.UNUSUAL_ASPECT_RATIO: long_px > MAX_ASPECT_RATIO * short_px,
        InputWarning.RANGE_UNUSED: (black, white) != (0, radiograph.max_value),
        InputWarning.POSSIBLY_ROTATED: view in TURNED,
        InputWarning.POSSIBLY_NOT_CHEST: view in (View.OTHER, View.INVERTED) and not seen_inverted,
        InputWarning.LETTERBOXED: _has_borders(exposed_hw, int(high - low)),
        InputWarning.POSSIBLY_PHOTOGRAPH: exposed_hw.size > 0 and is_photograph(exposed_hw),
    }
    known = radiograph.warnings
    return tuple(each for each, applies in checks.items() if applies and each not in known)


def _square(pixels_hw: Pixels) -> Pixels:
    """Return a sample of the centred square, with one step for rows and columns.

    A film that is stretched in one direction looks like none.
    """
    height_px, width_px = pixels_hw.shape
    side_px = min(height_px, width_px)
    top, left = (height_px - side_px) // 2, (width_px - side_px) // 2
    step = max(1, side_px // SAMPLE_SIDE)
    square_hw: Pixels = np.ascontiguousarray(  # type: ignore[assignment]
        pixels_hw[top : top + side_px : step, left : left + side_px : step]
    )
    return square_hw


def message(
    warning: InputWarning,
    display_range: tuple[int, int],
    presentation: DicomPresentation | None = None,
) -> str:
    """Return a warning's text for an image with this range and presentation; see `Radiograph`."""
    low, high = display_range
    if presentation and warning is InputWarning.RANGE_UNUSED:
        return UNUSED_IN_DICOM[presentation].format(low=low, high=high)
    cause = mend = ""
    for bits in COMMON_BIT_DEPTHS:
        if high < 2**bits:
            cause = f", as when {bits}-bit data is saved unscaled"
            mend = f"multiply them by {2 ** (16 - bits)}, or "
            break
    return MESSAGES[warning].format(low=low, high=high, cause=cause, mend=mend)


def refuse_unlikely(
    warnings: tuple[InputWarning, ...],
    display_range: tuple[int, int],
    presentation: DicomPresentation | None = None,
) -> None:
    """Raise `ImageRefused`, with the texts of `message`, if a warning is in `UNLIKELY`."""
    unlikely = [warning for warning in warnings if warning in UNLIKELY]
    reasons = [message(warning, display_range, presentation) for warning in unlikely]
    if reasons:
        what = "This is unlikely to be a frontal chest radiograph: "
        raise ImageRefused(what + " ".join(reasons))


def _looks_inverted(sample_hw: Pixels, span: int) -> bool:
    """Tell whether the spine is darker than the air beside the neck.

    Where bone is white, the upper corners show air (dark, or at most as bright as soft tissue)
    and the lower middle shows spine and heart, the brightest part of the film.
    """
    height, width = sample_hw.shape
    corner_h, corner_w = max(1, height // 8), max(1, width // 8)
    corners = (sample_hw[:corner_h, :corner_w], sample_hw[:corner_h, -corner_w:])
    spine = sample_hw[height // 2 : height - height // 8, width * 9 // 20 : width - width * 9 // 20]
    corner = sum(_median(corner) for corner in corners) / 2
    return corner - _median(spine) > INVERTED_BY * span


def _has_borders(sample_hw: Pixels, span: int) -> bool:
    """Tell whether rows, or columns, of one grey value make up much of the image at its edges.

    Text on a border does not count, nor noise of JPEG. An image of one value has no border.
    """
    for lines in (sample_hw, sample_hw.T):
        border_count = _flat_count(lines, span) + _flat_count(lines[::-1], span)
        if MAX_BORDER * len(lines) < border_count < len(lines):
            return True
    return False


def _flat_count(lines: Pixels, span: int) -> int:
    """Return how many of the first lines have one grey value each."""
    for count, line in enumerate(lines):
        middle = _median(line)
        marked = np.abs(line.astype(np.int32) - middle) > FLAT * span
        if np.count_nonzero(marked) / line.size > MAX_MARKED:  # np.mean takes several times as long
            return count
    return len(lines)


def _median(values: Pixels) -> int:
    """Return the upper median; np.median takes several times as long."""
    middle = values.size // 2
    return int(np.partition(values, middle, axis=None)[middle])
