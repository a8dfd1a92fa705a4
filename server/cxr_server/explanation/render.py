"""Render: HeatMap (over a radiograph) -> picture file. The last step of Explain."""

import struct
from dataclasses import dataclass
from enum import StrEnum

import numpy as np
import simplejpeg
from isal.isal_zlib import compress, crc32
from numpy.typing import NDArray
from PIL import Image

from cxr_server.errors import InvalidField
from cxr_server.explanation.colormaps import ColorMap, colors
from cxr_server.explanation.heatmap import HeatMap, HeatScale
from cxr_server.explanation.legend import add_legend
from cxr_server.geometry import Box
from cxr_server.imaging.radiograph import Radiograph
from cxr_server.inference.model_input import Evidence

OPAQUE_FROM = 0.5
"""Heat from which an overlay has its full opacity; below, the opacity follows the heat. Regions
end at half of the highest heat as well."""


class RenderKind(StrEnum):
    """What to draw; see `RenderKind` in the contract."""

    OVERLAY = "OVERLAY"
    HEATMAP = "HEATMAP"
    NONE = "NONE"


class RenderFrame(StrEnum):
    """The frame to draw in; see `RenderFrame` in the contract."""

    MODEL_INPUT = "MODEL_INPUT"
    ORIGINAL = "ORIGINAL"


class RenderFormat(StrEnum):
    """Format of the picture; see `RenderFormat` in the contract."""

    PNG = "PNG"
    JPEG = "JPEG"


@dataclass(frozen=True, slots=True, kw_only=True)
class RenderOptions:
    """How to draw a map; fields and defaults as in the contract. Raises InvalidField."""

    kind: RenderKind = RenderKind.OVERLAY
    frame: RenderFrame = RenderFrame.MODEL_INPUT
    color_map: ColorMap = ColorMap.INFERNO
    opacity: float = 0.5
    legend: bool = False
    max_side_px: int = 1024
    scale: HeatScale = HeatScale.PER_MAP
    format: RenderFormat = RenderFormat.PNG

    def __post_init__(self) -> None:
        if not 0.0 <= self.opacity <= 1.0:  # NaN fails as well
            raise InvalidField("opacity must be from 0 to 1", field="render.opacity")
        if not 32 <= self.max_side_px <= 4096:
            raise InvalidField("max_side_px must be from 32 to 4096", field="render.max_side_px")

    @property
    def needs_radiograph(self) -> bool:
        """Whether the pixels of the whole image are drawn."""
        return self.kind is RenderKind.OVERLAY and self.frame is RenderFrame.ORIGINAL


class Renderer:
    """Draws the heat maps of one image; the whole image is given if `needs_radiograph`."""

    def __init__(
        self, evidence: Evidence, options: RenderOptions, radiograph: Radiograph | None
    ) -> None:
        height_px, width_px = evidence.picture_hw.shape
        crop = Box(0, 0, width_px, height_px)
        if options.frame is RenderFrame.ORIGINAL:
            height_px, width_px = evidence.facts.height_px, evidence.facts.width_px
            crop = evidence.facts.crop
        factor = min(1.0, options.max_side_px / max(height_px, width_px))
        width, height = max(1, round(width_px * factor)), max(1, round(height_px * factor))
        scale_x, scale_y = width / width_px, height / height_px
        left, right = round(crop.x_px * scale_x), round((crop.x_px + crop.width_px) * scale_x)
        top, bottom = round(crop.y_px * scale_y), round((crop.y_px + crop.height_px) * scale_y)
        self._options, self._size, self._heat_at = options, (width, height), (left, top)
        self._heat_size = max(1, right - left), max(1, bottom - top)
        if options.kind is RenderKind.OVERLAY:
            pixels_hw = evidence.picture_hw
            if options.needs_radiograph:
                if radiograph is None:
                    raise ValueError("an overlay of the original image needs its pixels")
                pixels_hw = radiograph.display_hw()
            picture = Image.fromarray(pixels_hw)
            if picture.size != self._size:
                picture = picture.resize(self._size, Image.Resampling.BILINEAR, reducing_gap=2.0)
            self._radiograph = picture.convert("RGB")

    def render(self, heat: HeatMap) -> bytes:
        """Return a heat map as a picture file; empty for `RenderKind.NONE`.

        The opacity of an overlay follows the heat: without heat the radiograph shows as is.
        Outside the crop there is no heat.
        """
        options = self._options
        if options.kind is RenderKind.NONE:
            return b""
        values = Image.fromarray(np.rint(heat.values_hw * 255).astype(np.uint8))
        if values.size != self._heat_size:
            values = values.resize(self._heat_size, Image.Resampling.BILINEAR)
        levels = Image.new("L", self._size)
        levels.paste(values, self._heat_at)
        indexed = levels.copy()
        indexed.putpalette(colors(options.color_map).tobytes())
        picture = indexed.convert("RGB")
        if options.kind is RenderKind.OVERLAY:
            opacity_of_level = options.opacity * np.minimum(np.arange(256) / OPAQUE_FROM, 255)
            opacity = levels.point(np.rint(opacity_of_level).astype(int).tolist())
            picture = Image.composite(picture, self._radiograph, opacity)
        if options.legend:
            picture = add_legend(picture, heat, options.color_map)
        rgb_hwc = np.asarray(picture)
        if options.format is RenderFormat.JPEG:
            return bytes(simplejpeg.encode_jpeg(rgb_hwc, 90, "RGB", "444"))
        return _encode_png(rgb_hwc)


def _encode_png(rgb_hwc: NDArray[np.uint8]) -> bytes:
    """Return an RGB picture as a PNG file.

    Rows are differences to the row above (filter 2, "Up"), compressed by Intel's ISA-L at level 1
    of 3: a quarter of the CPU time of libpng, spng and Pillow, for a file of the same size.
    """
    height, width, _ = rgb_hwc.shape
    rows = rgb_hwc.reshape(height, 3 * width)
    filtered = np.empty((height, 1 + 3 * width), dtype=np.uint8)
    filtered[:, 0] = 2
    filtered[0, 1:] = rows[0]
    np.subtract(rows[1:], rows[:-1], out=filtered[1:, 1:])
    header = struct.pack(">IIBBBBB", width, height, 8, 2, 0, 0, 0)
    file = [b"\x89PNG\r\n\x1a\n"]
    for kind, payload in ((b"IHDR", header), (b"IDAT", compress(filtered, 1)), (b"IEND", b"")):
        checksum = crc32(payload, crc32(kind))
        file += struct.pack(">I4s", len(payload), kind), payload, struct.pack(">I", checksum)
    return b"".join(file)
