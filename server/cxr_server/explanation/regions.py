"""Regions: heat map -> its peak and its connected regions, in pixels of the original image."""

from dataclasses import dataclass
from operator import attrgetter
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from cxr_server.explanation.heatmap import HeatMap
from cxr_server.geometry import Box

REGION_HEIGHT = 0.5
"""Share of a map's highest value down to which a region reaches."""


@dataclass(frozen=True, slots=True)
class Peak:
    """The highest point of a map, in pixels of the upright original image."""

    x_px: float
    y_px: float
    value: float


@dataclass(frozen=True, slots=True)
class Region:
    """A connected region of a map, as the smallest box around it in the upright original image."""

    box: Box
    peak_value: float
    threshold: float


def peak(heat: HeatMap, crop: Box) -> Peak | None:
    """Return the highest point of a map that covers `crop`, or None without any heat."""
    if heat.peak_row_column is None:
        return None
    row, column = heat.peak_row_column
    value = float(heat.values_hw[row, column])
    if not value > 0:
        return None
    height, width = heat.values_hw.shape
    return Peak(
        x_px=crop.x_px + (column + 0.5) * crop.width_px / width,
        y_px=crop.y_px + (row + 0.5) * crop.height_px / height,
        value=value,
    )


def regions(heat: HeatMap, crop: Box) -> tuple[Region, ...]:
    """Return where a map that covers `crop` is high, as 8-connected regions, largest first.

    A region ends where the map falls below `REGION_HEIGHT` of its highest value. Boxes are of
    whole pixels, rounded outwards.
    """
    values_hw = heat.values_hw
    height, width = values_hw.shape
    threshold = REGION_HEIGHT * float(values_hw.max())
    if not threshold > 0:
        return ()
    found = []
    for component in _components(values_hw, threshold):
        top = crop.y_px + component.top * crop.height_px // height
        bottom = crop.y_px - (-component.bottom * crop.height_px // height)
        left = crop.x_px + component.left * crop.width_px // width
        right = crop.x_px - (-component.right * crop.width_px // width)
        box = Box(left, top, right - left, bottom - top)
        found.append(Region(box, component.highest, threshold))
    return tuple(found)


class _Component(NamedTuple):
    """The box around connected pixels, `bottom` and `right` outside, and what they are."""

    top: int
    bottom: int
    left: int
    right: int
    highest: float
    size_px: int


def _components(values_hw: NDArray[np.float32], threshold: float) -> list[_Component]:
    """Return the 8-connected components from a threshold on, largest first.

    Of runs, which are consecutive pixels of a row, instead of pixels. `scipy.ndimage.label` does
    the same, but importing it takes a fifth of the server's start.
    """
    # A column of zeros ends the runs of each row, and none goes on in the next.
    height, width = values_hw.shape[0], values_hw.shape[1] + 1
    is_high = np.zeros(1 + height * width, np.bool_)
    np.greater_equal(values_hw, threshold, out=is_high[:-1].reshape(height, width)[:, 1:])
    edges = np.flatnonzero(is_high[1:] != is_high[:-1])
    starts, stops = edges[::2], edges[1::2]
    rows, lefts = divmod(starts, width)
    # What lies between runs is lower than they are.
    highest = np.maximum.reduceat(values_hw.ravel(), starts - rows)

    of_run = _connected(starts, stops, width)
    heads = np.flatnonzero(of_run == np.arange(len(of_run)))
    by_component = np.argsort(of_run, kind="stable")
    firsts = np.searchsorted(of_run[by_component], heads)

    figures = (
        (np.minimum, rows),
        (np.maximum, rows + 1),
        (np.minimum, lefts),
        (np.maximum, stops - rows * width),
        (np.maximum, highest),
        (np.add, stops - starts),
    )
    columns = [over.reduceat(each[by_component], firsts).tolist() for over, each in figures]
    found = map(_Component._make, zip(*columns, strict=True))
    return sorted(found, key=attrgetter("size_px"), reverse=True)


def _connected(starts: NDArray[np.intp], stops: NDArray[np.intp], width: int) -> NDArray[np.intp]:
    """Return of each run the first one, in reading order, that it is connected with."""
    # Runs of the row above touch a run if they overlap it or meet it at a corner.
    touched = np.searchsorted(stops, starts - width)
    behind = np.searchsorted(starts, stops - width, side="right")
    first = _followed(np.where(touched < behind, touched, np.arange(len(starts))))
    pairs = [
        (run, other)
        for run in np.flatnonzero(behind - touched > 1).tolist()
        for other in range(touched[run] + 1, behind[run])
    ]
    if pairs:  # runs that connect what is separate above them
        some, others = np.array(pairs).T
        while (unlike := first[some] != first[others]).any():
            both = first[some[unlike]], first[others[unlike]]
            np.minimum.at(first, np.maximum(*both), np.minimum(*both))
            first = _followed(first)
    return first


def _followed(first: NDArray[np.intp]) -> NDArray[np.intp]:
    """Return for each run where the chain of runs ends that begins with it."""
    while ((further := first[first]) != first).any():  # twice as far each time
        first = further
    return first
