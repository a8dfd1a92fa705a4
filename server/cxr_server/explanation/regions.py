"""Regions: heat map -> its peak and its connected regions, in pixels of the original image."""

from collections import defaultdict
from dataclasses import dataclass

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


def regions(heat: HeatMap, crop: Box) -> tuple[Region, ...]:
    """Return where a map that covers `crop` is high, as 8-connected regions, largest first.

    A region ends where the map falls below half of its highest value. Boxes are of whole pixels,
    rounded outwards.
    """
    values_hw = heat.values_hw
    height, width = values_hw.shape
    threshold = float(values_hw.max()) / 2
    if not threshold > 0:
        return ()
    components = _components(values_hw >= threshold)
    components.sort(key=lambda runs: sum(stop - start for _, start, stop in runs), reverse=True)
    found = []
    for runs in components:
        rows, starts, stops = zip(*runs, strict=True)
        top = crop.y_px + rows[0] * crop.height_px // height
        bottom = crop.y_px - (-(rows[-1] + 1) * crop.height_px // height)
        left = crop.x_px + min(starts) * crop.width_px // width
        right = crop.x_px - (-max(stops) * crop.width_px // width)
        peak_value = max(float(values_hw[row, start:stop].max()) for row, start, stop in runs)
        found.append(Region(Box(left, top, right - left, bottom - top), peak_value, threshold))
    return tuple(found)


def _components(mask_hw: NDArray[np.bool_]) -> list[list[tuple[int, int, int]]]:
    """Return the 8-connected components of a mask, each as its runs, in reading order.

    A run is a row and the columns, start and stop, of consecutive set pixels. Union-find over
    runs instead of pixels. `scipy.ndimage.label` does the same, but importing it takes a fifth of
    the server's start.
    """
    padded_hw = np.pad(mask_hw, ((0, 0), (1, 1)))
    edge_rows, edges = np.nonzero(padded_hw[:, 1:] != padded_hw[:, :-1])
    rows, starts, stops = edge_rows[::2].tolist(), edges[::2].tolist(), edges[1::2].tolist()
    runs = list(zip(rows, starts, stops, strict=True))
    parents = list(range(len(runs)))

    def root(index: int) -> int:
        while parents[index] != index:
            parents[index] = index = parents[parents[index]]
        return index

    above = 0
    for index, (row, start, stop) in enumerate(runs):
        # Runs of the row above touch this one if they overlap it or meet it at a corner.
        while (rows[above], stops[above]) < (row - 1, start):
            above += 1
        touching = above
        while rows[touching] < row and starts[touching] <= stop:
            parents[root(index)] = root(touching)
            touching += 1
    components = defaultdict(list)
    for index, run in enumerate(runs):
        components[root(index)].append(run)
    return list(components.values())
