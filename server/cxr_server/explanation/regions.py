"""Regions: heat map -> its peak and its connected regions, in pixels of the original image."""

from collections import defaultdict
from dataclasses import dataclass
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
    if heat.peak_row_column is None or not heat.values_hw.max() > 0:
        return None
    row, column = heat.peak_row_column
    height, width = heat.values_hw.shape
    return Peak(
        x_px=crop.x_px + (column + 0.5) * crop.width_px / width,
        y_px=crop.y_px + (row + 0.5) * crop.height_px / height,
        value=float(heat.values_hw[row, column]),
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
    components = _components(values_hw, threshold)
    components.sort(key=lambda runs: sum(run.stop - run.start for run in runs), reverse=True)
    found = []
    for runs in components:
        top = crop.y_px + runs[0].row * crop.height_px // height
        bottom = crop.y_px - (-(runs[-1].row + 1) * crop.height_px // height)
        left = crop.x_px + min(run.start for run in runs) * crop.width_px // width
        right = crop.x_px - (-max(run.stop for run in runs) * crop.width_px // width)
        peak_value = max(run.highest for run in runs)
        found.append(Region(Box(left, top, right - left, bottom - top), peak_value, threshold))
    return tuple(found)


class _Run(NamedTuple):
    """Consecutive pixels of a row, from column `start` up to `stop`, and their highest value."""

    row: int
    start: int
    stop: int
    highest: float


def _components(values_hw: NDArray[np.float32], threshold: float) -> list[list[_Run]]:
    """Return the 8-connected components from a threshold on, each as its runs, in reading order.

    Union-find over runs instead of pixels. `scipy.ndimage.label` does the same, but importing it
    takes a fifth of the server's start.
    """
    # A column of zeros ends the runs of each row, and none goes on in the next.
    height, width = values_hw.shape
    padded_hw = np.zeros((height, width + 1), np.float32)
    padded_hw[:, :-1] = values_hw
    flat, width = padded_hw.ravel(), padded_hw.shape[1]
    is_high = flat >= threshold
    edges = np.flatnonzero(is_high[1:] != is_high[:-1]) + 1
    if is_high[0]:
        edges = np.insert(edges, 0, 0)
    rows, starts = divmod(edges[::2], width)
    highest = np.maximum.reduceat(flat, edges)[::2]
    columns = (rows, starts, edges[1::2] - rows * width, highest)
    runs = list(map(_Run._make, zip(*(each.tolist() for each in columns), strict=True)))
    parents = list(range(len(runs)))

    def root(index: int) -> int:
        while parents[index] != index:
            parents[index] = index = parents[parents[index]]
        return index

    above = 0
    for index, (row, start, stop, _) in enumerate(runs):
        # Runs of the row above touch this one if they overlap it or meet it at a corner.
        while (runs[above].row, runs[above].stop) < (row - 1, start):
            above += 1
        touching = above
        while runs[touching].row < row and runs[touching].start <= stop:
            parents[root(index)] = root(touching)
            touching += 1
    components = defaultdict(list)
    for index, run in enumerate(runs):
        components[root(index)].append(run)
    return list(components.values())
