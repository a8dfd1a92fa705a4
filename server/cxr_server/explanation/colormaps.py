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
    with files(__package__).joinpath("colors", f"{color_map.lower()}.csv").open() as file:
        rgb = np.loadtxt(file, np.uint8, delimiter=",")
    rgb.setflags(write=False)
    return rgb
