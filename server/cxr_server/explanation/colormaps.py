"""Colour maps: heat -> colour, 256 levels each."""

from enum import StrEnum
from functools import lru_cache
from importlib.resources import files

import numpy as np
from numpy.typing import NDArray


class ColorMap(StrEnum):
    """Colours of a heat map; see `ColorMap` in the contract."""

    INFERNO = "INFERNO"
    VIRIDIS = "VIRIDIS"
    JET = "JET"
    GRAY = "GRAY"


@lru_cache(maxsize=len(ColorMap))
def colors(color_map: ColorMap) -> NDArray[np.uint8]:
    """Return the RGB colours of a map, uint8 [256, 3], from no heat to full heat; read-only.

    Inferno and viridis are matplotlib's; jet is OpenCV's, which pytorch-grad-cam draws with.
    """
    level = np.arange(256.0)
    if color_map is ColorMap.GRAY:
        table = np.stack([level] * 3, axis=1)
    elif color_map is ColorMap.JET:
        # A trapezoid for each primary, a quarter of the range apart.
        centers = np.array([0.75, 0.5, 0.25])
        table = np.rint(255 * np.clip(1.5 - 4 * np.abs(level[:, None] / 255 - centers), 0, 1))
    else:
        with files(__package__).joinpath("colors", f"{color_map.lower()}.csv").open() as file:
            table = np.loadtxt(file, delimiter=",")
    rgb = table.astype(np.uint8)
    rgb.setflags(write=False)
    return rgb
