"""Grey: stored values -> greyscale pixels, by one table with an entry for each stored value.

    stored value -> modality LUT or slope -> VOI LUT, window or full range -> inversion -> grey

All steps are functions of a single value, so they are composed into a table of
2 ** bits_stored entries and applied to the pixels at once (PS3.4, annex N.2; PS3.3, C.11).
"""

import numpy as np
from numpy.typing import NDArray

from cxr_server.errors import ImageUnreadable
from cxr_server.imaging.dicom.attributes import Attributes, LookupTable, VoiFunction, Window
from cxr_server.imaging.radiograph import DicomPresentation

WHITE = 65_535
Values = NDArray[np.float64]


def to_grey(
    stored_hw: NDArray[np.unsignedinteger], attributes: Attributes, how: DicomPresentation
) -> NDArray[np.uint16]:
    """Return greyscale pixels [height, width], 0 is black and 65535 white.

    `stored_hw` are cells of `bits_allocated`, whose bits outside of the stored ones are ignored.
    """
    table = grey_table(attributes, how)
    index_hw = stored_hw
    if shift := attributes.high_bit + 1 - attributes.bits_stored:
        index_hw = np.right_shift(index_hw, shift)
    if attributes.bits_stored < 8 * stored_hw.itemsize:
        index_hw = np.bitwise_and(index_hw, stored_hw.dtype.type(len(table) - 1))
    grey_hw: NDArray[np.uint16] = table[index_hw]
    return grey_hw


def padding_of(
    stored_hw: NDArray[np.unsignedinteger], attributes: Attributes
) -> NDArray[np.bool_] | None:
    """Return which pixels are padding, outside of the exposed field; None if none can be."""
    if attributes.padding is None:
        return None
    is_padding = _is_padding(_stored_values(attributes), attributes.padding)
    shift, mask = attributes.high_bit + 1 - attributes.bits_stored, len(is_padding) - 1
    padding_hw: NDArray[np.bool_] = is_padding[np.right_shift(stored_hw, shift) & mask]
    return padding_hw if padding_hw.any() else None


def grey_table(attributes: Attributes, how: DicomPresentation) -> NDArray[np.uint16]:
    """Return the grey of each stored value, indexed by its bits: uint16 [2 ** bits_stored].

    AS_SHOWN applies the modality LUT, else the rescale slope; the first VOI LUT, else the first
    window, else the full range; and inverts MONOCHROME1 once. Padding is black. STORED scales
    the stored values by their greatest and inverts MONOCHROME1. Raises ImageUnreadable if a
    number of the header that is used cannot be read, or is too large or too small to compute with.
    """
    bits = attributes.bits_stored
    stored = _stored_values(attributes)
    low, high = float(stored.min()), float(stored.max())
    if how is DicomPresentation.STORED:
        share = (stored - low) / (high - low)
    else:
        with np.errstate(all="ignore"):
            share = _computed(_shown(stored, low, high, attributes))
    if attributes.is_inverted:
        share = 1 - share
    table = np.rint(np.clip(share, 0, 1) * WHITE).astype(np.uint16)
    if how is DicomPresentation.AS_SHOWN and attributes.padding:
        table[_is_padding(stored, attributes.padding)] = 0
    assert len(table) == 2**bits
    return table


def _stored_values(attributes: Attributes) -> Values:
    """Return the stored value of each pattern of bits."""
    stored = np.arange(2**attributes.bits_stored, dtype=np.float64)
    if attributes.is_signed:  # two's complement
        stored[len(stored) // 2 :] -= len(stored)
    return stored


def _is_padding(stored: Values, padding: tuple[int, int]) -> NDArray[np.bool_]:
    first, last = padding
    return (stored >= first) & (stored <= last)


def _shown(stored: Values, low: float, high: float, attributes: Attributes) -> Values:
    """Return the share of white of stored values from `low` to `high`, before any inversion."""
    values, low, high = _modality(stored, low, high, attributes)
    if attributes.voi_lut:
        top = float(2**attributes.voi_lut.bits - 1)
        return _looked_up(np.rint(_computed(values)), attributes.voi_lut) / top
    if attributes.window:
        return _windowed(values, attributes.window)
    return (values - low) / (high - low)


def _modality(
    stored: Values, low: float, high: float, attributes: Attributes
) -> tuple[Values, float, float]:
    """Apply the modality transformation; return the values and the range that they can have."""
    if lut := attributes.modality_lut:
        return _looked_up(stored, lut), 0.0, float(2**lut.bits - 1)
    slope, intercept = attributes.slope, attributes.intercept
    ends = sorted((low * slope + intercept, high * slope + intercept))
    return stored * slope + intercept, ends[0], ends[1]


def _computed(values: Values) -> Values:
    """Return the values. Raises ImageUnreadable if one is NaN."""
    if np.isnan(values).any():
        raise ImageUnreadable(
            "The rescale or window of the DICOM file cannot be read, or is out of range."
        )
    return values


def _looked_up(values: Values, lut: LookupTable) -> Values:
    places = np.clip(values - lut.first, 0, len(lut.entries) - 1).astype(np.intp)
    return lut.entries[places].astype(np.float64)


def _windowed(values: Values, window: Window) -> Values:
    """Return the share of white (PS3.3, C.11.2.1.2.1 and C.11.2.1.3)."""
    center, width = window.center, window.width
    if window.function is VoiFunction.SIGMOID:
        share: Values = 1 / (1 + np.exp(np.clip(-4 * (values - center) / width, -700, 700)))
        return share
    if window.function is VoiFunction.LINEAR_EXACT:
        return (values - center) / width + 0.5
    # A width of 1 is a threshold.
    return (values - (center - 0.5)) / max(width - 1, 1e-9) + 0.5
