"""Drawing: reserves the memory of everything that one Explain draws and sends."""

import math

from cxr_server.budget import Share
from cxr_server.errors import ExplanationTooLarge
from cxr_server.explanation.footprint import Drawing, max_drawn_px, picture_size
from cxr_server.explanation.options import RenderFrame, RenderKind, RenderOptions
from cxr_server.imaging.radiograph import ImageBytes
from cxr_server.model import ServingModel
from cxr_server.observability.call import Call


def most_drawn_px(model: ServingModel) -> int:
    """Return the pixels of all pictures that one Explain may draw."""
    return max_drawn_px(model.drawing_budget.limit_bytes, model.limits.max_pixel_count)


async def room_to_draw(
    model: ServingModel, pictures: int, render: RenderOptions, image: ImageBytes, call: Call
) -> Share:
    """Wait for the memory of some pictures; the call holds it until it has ended.

    Raises ExplanationTooLarge, ImageError and DeadlineExpired.
    """
    if render.kind is RenderKind.NONE:
        return Share(model.drawing_budget, 0)
    if render.kind is RenderKind.RADIOGRAPH:
        pictures = 1  # however many maps there are
    frame_px, kept_px = (model.manifest.input_side_px,) * 2, 0
    if render.frame is RenderFrame.ORIGINAL:
        frame_px = await model.source.image_size(image, call)
        kept_px = math.prod(frame_px) if render.needs_whole else 0
    drawing = Drawing(pictures, *picture_size(*frame_px, render.max_side_px), kept_px)
    if drawing.drawn_px > (most_px := most_drawn_px(model)):
        several = "s" if pictures > 1 else ""
        fewer = "name fewer labels or heatmap_labels, or " if several else "give "
        raise ExplanationTooLarge(
            f"One call may draw {most_px} pixels; {pictures} picture{several} of "
            f"{drawing.width_px} x {drawing.height_px} "
            f"{'are' if several else 'is'} {drawing.drawn_px}: "
            f"{fewer}a smaller render.max_side_px"
        )
    budget = model.drawing_budget
    wanted_bytes = min(drawing.peak_bytes, budget.limit_bytes)
    share = await budget.take(wanted_bytes, deadline=call.deadline, bulk=call.bulk)
    call.at_end(share.release)
    return share
