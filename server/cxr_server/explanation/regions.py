"""Regions: heat map -> its peak and its connected regions, in pixels of the original image."""

from collections import defaultdict
from dataclasses import dataclass
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from cxr_server.explanation.heatmap import HeatMap
from cxr_server.geometry import Box


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


def regions(heat: HeatMap, crop: Box, threshold: float = 0.5) -> tuple[Region, ...]:
    """Return where a map that covers `crop` is high, as 8-connected regions, largest first.

    A region ends where the map falls below `threshold`, in (0, 1], of its highest value.
    """
    highest = float(heat.values_hw.max())
    if not highest > 0:
        return ()
    level = threshold * highest
    components = _components(heat.values_hw >= level)
    components.sort(key=lambda runs: sum(run.stop - run.start for run in runs), reverse=True)
    return tuple(_region(heat.values_hw, runs, level, crop) for runs in components)


class _Run(NamedTuple):
    """Consecutive set pixels of one row of a mask: columns `start` to `stop`, exclusive."""

    row: int
    start: int
    stop: int


def _components(mask_hw: NDArray[np.bool_]) -> list[list[_Run]]:
    """Return the 8-connected components of a mask, each as its runs, in reading order.

    Union-find over runs instead of pixels. `scipy.ndimage.label` does the same, but importing
    it takes a fifth of the server's start.
    """
    padded_hw = np.pad(mask_hw, ((0, 0), (1, 1)))
    rows, edges = np.nonzero(padded_hw[:, 1:] != padded_hw[:, :-1])
    runs = list(map(_Run, rows[::2].tolist(), edges[::2].tolist(), edges[1::2].tolist()))
    parents = list(range(len(runs)))

    def root(index: int) -> int:
        while parents[index] != index:
            parents[index] = index = parents[parents[index]]
        return index

    above = 0
    for index, run in enumerate(runs):
        # Runs of the row above touch this one if they overlap it or meet it at a corner.
        while (runs[above].row, runs[above].stop) < (run.row - 1, run.start):
            above += 1
        touching = above
        while runs[touching].row < run.row and runs[touching].start <= run.stop:
            parents[root(index)] = root(touching)
            touching += 1
    components: dict[int, list[_Run]] = defaultdict(list)
    for index, run in enumerate(runs):
        components[root(index)].append(run)
    return list(components.values())


def _region(
    values_hw: NDArray[np.float32], runs: list[_Run], threshold: float, crop: Box
) -> Region:
    """Return the region of a component; its box is of whole pixels, rounded outwards."""
    height, width = values_hw.shape
    top = crop.y_px + runs[0].row * crop.height_px // height
    bottom = crop.y_px - (-(runs[-1].row + 1) * crop.height_px // height)
    left = crop.x_px + min(run.start for run in runs) * crop.width_px // width
    right = crop.x_px - (-max(run.stop for run in runs) * crop.width_px // width)
    peak_value = max(float(values_hw[run.row, run.start : run.stop].max()) for run in runs)
    return Region(Box(left, top, right - left, bottom - top), peak_value, threshold)
