"""Render: HeatMap (over a radiograph), or radiograph -> picture file. The last step of Explain."""

from functools import lru_cache

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from cxr_server.explanation.caption import Caption
from cxr_server.explanation.colormaps import ColorMap, colors
from cxr_server.explanation.contours import draw_contours
from cxr_server.explanation.encode import jpeg, png
from cxr_server.explanation.frame import background, frame_of, radiograph
from cxr_server.explanation.heatmap import HeatMap
from cxr_server.explanation.legend import add_legend
from cxr_server.explanation.options import RenderFormat, RenderKind, RenderOptions
from cxr_server.inference.model_input import Evidence

_ENCODERS = {RenderFormat.PNG: png, RenderFormat.JPEG: jpeg}
OPAQUE_FROM = 0.5
"""Heat from which an overlay has its full opacity; below, the opacity follows the heat. Regions
end at half of the highest heat as well."""


class Renderer:
    """Draws the heat maps of one image; the whole image is given if `needs_whole`."""

    def __init__(
        self, evidence: Evidence, options: RenderOptions, whole_hw: NDArray[np.uint8] | None
    ) -> None:
        self._options = options
        if not options.draws_maps:
            return
        self._frame = frame_of(evidence, options)
        self._background_hw = background(self._frame, evidence, options, whole_hw)
        left, top, right, bottom = self._frame.seen_edges
        self._seen_hw = self._background_hw[top:bottom, left:right]
        self._heat_over_grey = _heat_over_grey(options.kind, options.color_map, options.opacity)

    def render(self, caption: Caption) -> bytes:
        """Return the heat map of a caption as a picture file; empty unless `draws_maps`.

        The opacity of an overlay follows the heat: without heat the radiograph shows as is.
        Outside of what the network saw there is no heat.
        """
        if not self._options.draws_maps:
            return b""
        return _ENCODERS[self._options.format](self._drawn(caption), caption.to_json())

    def _drawn(self, caption: Caption) -> Image.Image:
        options, frame, heat = self._options, self._frame, caption.heat
        picture = self._over_grey(heat)
        if frame.unseen:
            whole = Image.fromarray(self._background_hw).convert("RGB")
            whole.paste(picture, frame.seen_edges)
            picture = whole
        if options.contours:
            draw_contours(picture, heat, frame.seen)
        if options.legend:
            picture = add_legend(picture, caption, self._heat_over_grey, contours=options.contours)
        return picture

    def _over_grey(self, heat: HeatMap) -> Image.Image:
        """Return heat over what the network saw, RGBX."""
        levels_hw = np.rint(heat.values_hw * 255).astype(np.uint8)
        height, width = self._seen_hw.shape
        if levels_hw.shape != (height, width):
            levels = Image.fromarray(levels_hw)
            levels_hw = np.asarray(levels.resize((width, height), Image.Resampling.BILINEAR))
        rgbx = self._heat_over_grey.view(np.uint32).ravel()
        pairs_hw = levels_hw.astype(np.uint16) << 8
        pairs_hw |= self._seen_hw
        return Image.frombuffer("RGBX", (width, height), rgbx.take(pairs_hw), "raw", "RGBX", 0, 1)


def render_radiograph(
    evidence: Evidence, options: RenderOptions, whole_hw: NDArray[np.uint8] | None
) -> bytes:
    """Return the radiograph as a picture file without a mark: it may be sent again.

    The pixels are those of an overlay without heat. The whole image is given if `needs_whole`.
    """
    picture_hw = radiograph(frame_of(evidence, options), evidence, options, whole_hw)
    return _ENCODERS[options.format](Image.fromarray(picture_hw), None)


@lru_cache(maxsize=8)  # 256 KiB each
def _heat_over_grey(kind: RenderKind, color_map: ColorMap, opacity: float) -> NDArray[np.uint8]:
    """Return how each level of heat looks over each grey, RGBX, uint8 [level, grey, 4]; read-only.

    The opacity of an overlay follows the heat.
    """
    share = np.ones(256)
    if kind is RenderKind.OVERLAY:
        share = np.rint(opacity * np.minimum(np.arange(256) / OPAQUE_FROM, 255)) / 255
    share = share[:, None, None]
    grey = np.arange(256)[:, None]
    rgbx = np.zeros((256, 256, 4), np.uint8)
    rgbx[..., :3] = np.rint(colors(color_map)[:, None] * share + grey * (1 - share))
    rgbx.setflags(write=False)
    return rgbx
