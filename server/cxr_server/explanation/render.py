"""Render: HeatMap (over a radiograph), or radiograph -> picture file. The last step of Explain."""

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from cxr_server.explanation.caption import Caption
from cxr_server.explanation.colormaps import colors
from cxr_server.explanation.contours import draw_contours
from cxr_server.explanation.encode import jpeg, png
from cxr_server.explanation.frame import background, frame_of, radiograph
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
        self._background = background(self._frame, evidence, options, whole_hw)
        self._opacity_of_level = _opacity_of_level(options)
        rgba = np.column_stack((colors(options.color_map), self._opacity_of_level))
        self._palette = rgba.tobytes()

    def render(self, caption: Caption) -> bytes:
        """Return the heat map of a caption as a picture file; empty unless `draws_maps`.

        The opacity of an overlay follows the heat: without heat the radiograph shows as is.
        Outside of what the network saw there is no heat.
        """
        if not self._options.draws_maps:
            return b""
        return _ENCODERS[self._options.format](self._drawn(caption), caption.to_json())

    def _drawn(self, caption: Caption) -> Image.Image:
        options, seen, heat = self._options, self._frame.seen, caption.heat
        levels = Image.fromarray(np.rint(heat.values_hw * 255).astype(np.uint8))
        size = seen.width_px, seen.height_px
        if levels.size != size:
            levels = levels.resize(size, Image.Resampling.BILINEAR)
        levels.putpalette(self._palette, "RGBA")
        colored, picture = levels.convert("RGBA"), self._background.copy()
        picture.paste(colored, (seen.x_px, seen.y_px), colored)
        if options.contours:
            draw_contours(picture, heat, seen)
        if options.legend:
            picture = add_legend(
                picture,
                caption,
                options.color_map,
                self._opacity_of_level,
                contours=options.contours,
            )
        return picture


def render_radiograph(
    evidence: Evidence, options: RenderOptions, whole_hw: NDArray[np.uint8] | None
) -> bytes:
    """Return the radiograph as a picture file without a mark: it may be sent again.

    The pixels are those of an overlay without heat. The whole image is given if `needs_whole`.
    """
    picture = radiograph(frame_of(evidence, options), evidence, options, whole_hw)
    return _ENCODERS[options.format](picture, None)


def _opacity_of_level(options: RenderOptions) -> NDArray[np.uint8]:
    """Return the opacity, to 255, of each of the 256 levels of heat."""
    if options.kind is RenderKind.HEATMAP:
        return np.full(256, 255, np.uint8)
    opacity = options.opacity * np.minimum(np.arange(256) / OPAQUE_FROM, 255)
    return np.rint(opacity).astype(np.uint8)
