"""Colour maps: 256 colours each, from a few anchors. Used by render."""

from enum import StrEnum
from functools import lru_cache

import numpy as np
from numpy.typing import NDArray


class ColorMap(StrEnum):
    """Colours of a map; see `ColorMap` in the contract."""

    INFERNO = "INFERNO"
    VIRIDIS = "VIRIDIS"
    JET = "JET"
    GRAY = "GRAY"


_ANCHORS = {
    # Every 15th colour of matplotlib's perceptually uniform maps (Smith and van der Walt
    # 2015, released under CC0). A cubic through them is within 3 of 255 everywhere.
    ColorMap.INFERNO: (
        "000004 0a0722 1e0c45 380962 510e6c 69166e 801f6c 982766 b0315b"
        " c63d4d d94d3d e9612b f47918 fa9407 fcb014 f8cd37 f2ea69 fcffa4"
    ),
    ColorMap.VIRIDIS: (
        "440154 481769 472a7a 433d84 3d4e8a 355e8d 2e6d8e 297b8e 23898e"
        " 1f978b 21a585 2eb37c 46c06f 65cb5e 89d548 b0dd2f d8e219 fde725"
    ),
    ColorMap.GRAY: "000000 ffffff",
}


@lru_cache(maxsize=len(ColorMap))
def colors(color_map: ColorMap) -> NDArray[np.uint8]:
    """Return the map's colours, uint8 [256, 3], from no heat to full heat; read-only."""
    if color_map is ColorMap.JET:
        table = _jet()
    else:
        anchors = np.array(
            [list(bytes.fromhex(color)) for color in _ANCHORS[color_map].split()], dtype=float
        )
        table = _smooth(anchors)
    rounded = np.clip(np.rint(table), 0, 255).astype(np.uint8)
    rounded.setflags(write=False)
    return rounded


def _smooth(anchors: NDArray[np.float64]) -> NDArray[np.float64]:
    """Return 256 colours through evenly spaced ones, by cubic Hermite interpolation.

    Six lines, since importing scipy.interpolate took a quarter of the time of all imports.
    """
    slopes = np.gradient(anchors, axis=0, edge_order=2 if len(anchors) > 2 else 1)
    place = np.linspace(0, len(anchors) - 1, 256)
    left = np.minimum(place.astype(int), len(anchors) - 2)
    t = (place - left)[:, None]
    start, end = anchors[left], anchors[left + 1]
    bend = (1 - t) * slopes[left] - t * slopes[left + 1] + (2 * t - 1) * (end - start)
    return np.asarray((1 - t) * start + t * end + t * (1 - t) * bend)


def _jet() -> NDArray[np.float64]:
    """Return the rainbow: three trapezoids, one for each primary, shifted by a quarter."""
    place = np.arange(256) / 255
    shifts = np.array([0.75, 0.5, 0.25])
    return np.asarray(255 * np.clip(1.5 - 4 * np.abs(place[:, None] - shifts), 0, 1))
