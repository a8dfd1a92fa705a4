"""Probe: the drawn image of every bundle, and its scores in float32. Next: write."""

from io import BytesIO

import numpy as np
from PIL import Image

from cxr_server.bundles.manifest import Description
from cxr_server.convert.architectures.graph import State
from cxr_server.convert.parity import numpy_scores
from cxr_server.inference.verify import probe_input

PROBE_NAME = "probe.png"
SIDE_PX = 320


def probe_file() -> bytes:
    """Return a PNG file: two dark ellipses in a bright one, with stripes of several widths.

    The grey values are roughly those of a chest radiograph.
    """
    y, x = np.mgrid[-1 : 1 : SIDE_PX * 1j, -1 : 1 : SIDE_PX * 1j]
    body = np.exp(-((x / 0.9) ** 8) - (y / 1.1) ** 12)
    lungs = np.exp(-((((np.abs(x) - 0.42) / 0.3) ** 2 + ((y + 0.05) / 0.62) ** 2) ** 3))
    middle = np.exp(-((((x - 0.12) / 0.3) ** 2 + ((y - 0.3) / 0.35) ** 2) ** 2))
    stripes = np.sin(22 * y + 9 * x**2) + 0.5 * np.sin(57 * x + 31 * y)
    grey = 190 * body - 120 * lungs * (1 - middle) + 14 * body * stripes
    file = BytesIO()
    Image.fromarray(np.clip(grey, 0, 255).astype(np.uint8)).save(file, "PNG", optimize=True)
    return file.getvalue()


def probe_scores(description: Description, weights: State) -> tuple[float, ...]:
    """Return the probe's scores by the numpy forward pass, as float32. Raises BundleError."""
    image_chw = probe_input(probe_file(), description)
    (scores,) = numpy_scores(description, weights, image_chw[None])
    return tuple(scores.astype(np.float32).tolist())
