"""Pictures: the heat is where the evidence is, in either frame, for every shape of image."""

import json
import struct
import subprocess
import sys
from io import BytesIO
from itertools import product

import numpy as np
import pytest
from PIL import Image

from cxr_server.bundles.load import load_bundle
from cxr_server.bundles.store import PHANTOM_PATH
from cxr_server.errors import InvalidField
from cxr_server.explanation.caption import Caption
from cxr_server.explanation.colormaps import ColorMap, colors
from cxr_server.explanation.footprint import picture_size
from cxr_server.explanation.heatmap import HeatMap, from_evidence, from_saliency
from cxr_server.explanation.legend import size_with_legend_px
from cxr_server.explanation.options import (
    HeatScale,
    RenderFormat,
    RenderFrame,
    RenderKind,
    RenderOptions,
)
from cxr_server.explanation.regions import peak, regions
from cxr_server.explanation.render import Renderer
from cxr_server.imaging.radiograph import Radiograph
from cxr_server.inference.model_input import Evidence, ImageFacts
from cxr_server.inference.preprocess import XRV
from cxr_server.inference.scoring import Finding
from images import chest_like, pixels_of

CELL = (1, 4)
"""Row and column of the planted evidence, off the middle in both."""
ORIGINAL = RenderOptions(frame=RenderFrame.ORIGINAL, max_side_px=4096)
PICTURE_HW = chest_like(224, 224)
MODEL = load_bundle(PHANTOM_PATH).manifest
MASS = Finding("Mass", 4, -1.25, 0.7031251, 0.625, 0.5)


def planted() -> HeatMap:
    evidence_hw = np.full((7, 7), -1, dtype=np.float32)
    evidence_hw[CELL] = 20
    return from_evidence(evidence_hw, 224)


def nothing() -> HeatMap:
    return from_evidence(np.full((7, 7), -2, dtype=np.float32), 224)


def everywhere() -> HeatMap:
    return HeatMap(np.ones((224, 224), dtype=np.float32), 0, 1, (112, 112))


def file_of(
    radiograph: Radiograph,
    options: RenderOptions,
    heat: HeatMap | None = None,
    *,
    finding: Finding = MASS,
    with_pixels: bool = True,
) -> bytes:
    height_px, width_px = radiograph.height_px, radiograph.width_px
    facts = ImageFacts("PNG", 8, height_px, width_px, XRV.crop(height_px, width_px))
    evidence = Evidence(np.zeros((1, 7, 7), np.float32), (), PICTURE_HW, facts, ())
    renderer = Renderer(evidence, options, radiograph.display_hw() if with_pixels else None)
    return renderer.render(
        Caption(
            finding=finding,
            model=MODEL,
            precision="float32",
            method="GRAD_CAM",
            scale=options.scale,
            heat=heat or planted(),
        )
    )


def drawn(
    radiograph: Radiograph, options: RenderOptions, heat: HeatMap | None = None
) -> np.ndarray:
    return pixels_of(file_of(radiograph, options, heat))


def heat_of(picture_hwc: np.ndarray, cold_hwc: np.ndarray) -> np.ndarray:
    """How far a picture is from the one without heat."""
    return np.abs(picture_hwc.astype(int) - cold_hwc).max(axis=-1)


def grey(height_px: int, width_px: int) -> Radiograph:
    return Radiograph(chest_like(height_px, width_px), 255, "PNG", 8)


def seen_in(shape_hw: tuple[int, int]) -> np.ndarray:
    """Where the network looks, as a mask."""
    crop, seen_hw = XRV.crop(*shape_hw), np.zeros(shape_hw, bool)
    seen_hw[crop.y_px : crop.y_px + crop.height_px, crop.x_px : crop.x_px + crop.width_px] = True
    return seen_hw


SHAPES_HW = [(300, 300), (900, 400), (400, 900), (301, 224), (150, 100), (64, 2000)]


@pytest.mark.parametrize("shape_hw", SHAPES_HW, ids=lambda shape: "x".join(map(str, shape)))
def test_heat_lies_on_the_planted_cell_of_the_original(shape_hw: tuple[int, int]) -> None:
    radiograph = grey(*shape_hw)
    crop = XRV.crop(*shape_hw)
    picture = drawn(radiograph, ORIGINAL)
    assert picture.shape == (*shape_hw, 3)
    heat_hw = heat_of(picture, drawn(radiograph, ORIGINAL, nothing()))
    side_px = crop.width_px
    expected_y = crop.y_px + (CELL[0] + 0.5) * side_px / 7
    expected_x = crop.x_px + (CELL[1] + 0.5) * side_px / 7
    rows, columns = np.nonzero(heat_hw > heat_hw.max() / 2)
    assert abs(rows.mean() - expected_y) < side_px / 14
    assert abs(columns.mean() - expected_x) < side_px / 14
    # Heat fades out within a cell of the planted one; beyond, the radiograph is untouched.
    far_hw = np.ones(shape_hw, dtype=bool)
    reach = 1.1 * side_px / 7 + side_px / 14
    top, left = max(0, int(expected_y - reach)), max(0, int(expected_x - reach))
    far_hw[top : int(expected_y + reach) + 2, left : int(expected_x + reach) + 2] = False
    assert not heat_hw[far_hw].any()


@pytest.mark.parametrize("shape_hw", [(500, 300), (300, 500)])
def test_outside_the_crop_there_is_no_heat_whatever_the_evidence(
    shape_hw: tuple[int, int],
) -> None:
    radiograph, seen_hw = grey(*shape_hw), seen_in(shape_hw)
    cold = drawn(radiograph, ORIGINAL, nothing())
    heat_hw = heat_of(drawn(radiograph, ORIGINAL, everywhere()), cold)
    assert not heat_hw[~seen_hw].any()
    assert (heat_hw[seen_hw] > 0).mean() > 0.95


@pytest.mark.parametrize("kind", [RenderKind.OVERLAY, RenderKind.HEATMAP])
@pytest.mark.parametrize("shape_hw", [(500, 300), (300, 500), (301, 300), (64, 2000)])
@pytest.mark.parametrize("shade", [0, 128, 255])
def test_what_the_network_did_not_see_is_marked_and_what_it_saw_is_not(
    shade: int, shape_hw: tuple[int, int], kind: RenderKind
) -> None:
    flat = Radiograph(np.full(shape_hw, shade, np.uint8), 255, "PNG", 8)
    options = RenderOptions(kind=kind, frame=RenderFrame.ORIGINAL, max_side_px=4096)
    picture, seen_hw = drawn(flat, options, nothing()), seen_in(shape_hw)
    assert (flat.pixels_hw == shade).all()  # the mark is on the picture alone
    ground = shade if kind is RenderKind.OVERLAY else colors(ColorMap.INFERNO)[0]
    assert (picture[seen_hw] == ground).all()
    unseen = picture[~seen_hw].astype(int)
    assert np.ptp(unseen, axis=1).max() == 0  # grey: a colour would be taken for heat
    # The edge is there on any ground, and where there is room also the hatching.
    assert np.abs(unseen - shade).max() > 40
    if shape_hw != (301, 300):
        assert len(np.unique(unseen)) >= 3


def test_an_image_that_was_seen_whole_carries_no_mark() -> None:
    radiograph = grey(300, 300)
    picture = drawn(radiograph, ORIGINAL, nothing())
    assert (picture == radiograph.pixels_hw[..., None]).all()


@pytest.mark.parametrize("shape_hw", [(500, 300), (300, 500)])
def test_at_opacity_0_the_radiograph_is_drawn_as_is_to_its_edges(
    shape_hw: tuple[int, int],
) -> None:
    radiograph = grey(*shape_hw)
    bare = RenderOptions(frame=RenderFrame.ORIGINAL, opacity=0, max_side_px=4096)
    assert (drawn(radiograph, bare, everywhere()) == radiograph.pixels_hw[..., None]).all()


@pytest.mark.parametrize("shape_hw", [(900, 400), (333, 777)])
def test_peak_and_regions_lie_on_the_drawn_heat(shape_hw: tuple[int, int]) -> None:
    crop = XRV.crop(*shape_hw)
    options = RenderOptions(
        kind=RenderKind.HEATMAP, frame=RenderFrame.ORIGINAL, color_map=ColorMap.GRAY
    )
    heat_hw = drawn(grey(*shape_hw), options)[..., 0] * seen_in(shape_hw).astype(int)
    found = peak(planted(), crop)
    (region,) = regions(planted(), crop)
    assert found is not None
    hottest = heat_hw[int(found.y_px), int(found.x_px)]
    assert hottest > 0.95 * heat_hw.max()
    box = region.box
    high_hw = heat_hw >= 0.52 * heat_hw.max()
    in_box = np.s_[box.y_px : box.y_px + box.height_px, box.x_px : box.x_px + box.width_px]
    assert high_hw[in_box].sum() == high_hw.sum()
    assert high_hw[in_box].mean() > 0.5


def test_the_models_frame_shows_what_the_network_saw() -> None:
    radiograph = grey(900, 400)
    picture = drawn(radiograph, RenderOptions())
    assert picture.shape == (224, 224, 3)
    heat_hw = heat_of(picture, PICTURE_HW[..., None])
    rows, columns = np.nonzero(heat_hw > heat_hw.max() / 2)
    assert rows.mean() == pytest.approx(48, abs=8)
    assert columns.mean() == pytest.approx(144, abs=8)


def test_without_evidence_the_radiograph_shows_as_is() -> None:
    radiograph = grey(300, 280)
    picture = drawn(radiograph, ORIGINAL, nothing())
    seen_hw = seen_in((300, 280))
    assert (picture[seen_hw] == radiograph.pixels_hw[seen_hw][:, None]).all()


@pytest.mark.parametrize(("opacity", "share"), [(0.0, 0.0), (0.5, 0.5), (1.0, 1.0)])
def test_opacity_is_that_of_full_heat(opacity: float, share: float) -> None:
    radiograph = grey(224, 224)
    picture = drawn(radiograph, RenderOptions(opacity=opacity), everywhere())
    full = colors(ColorMap.INFERNO)[255].astype(float)
    expected = (1 - share) * PICTURE_HW[..., None] + share * full
    assert np.abs(picture - expected).max() <= 1.5


@pytest.mark.parametrize("color_map", list(ColorMap))
def test_a_heat_map_alone_is_the_maps_colours(color_map: ColorMap) -> None:
    heat = planted()
    picture = drawn(grey(300, 300), RenderOptions(kind=RenderKind.HEATMAP, color_map=color_map))
    level = np.rint(heat.values_hw * 255).astype(int)
    assert (picture == colors(color_map)[level]).all()


def test_heat_alone_needs_no_pixels_and_an_overlay_of_the_original_does() -> None:
    radiograph = grey(300, 400)
    heat_alone = RenderOptions(kind=RenderKind.HEATMAP, frame=RenderFrame.ORIGINAL)
    assert not heat_alone.needs_whole
    assert file_of(radiograph, heat_alone, with_pixels=False) == file_of(radiograph, heat_alone)
    assert ORIGINAL.needs_whole
    assert not RenderOptions().needs_whole
    with pytest.raises(ValueError, match="pixels"):
        file_of(radiograph, ORIGINAL, with_pixels=False)


@pytest.mark.parametrize("frame", list(RenderFrame))
@pytest.mark.parametrize("kind", [RenderKind.OVERLAY, RenderKind.HEATMAP])
def test_a_jpeg_shows_the_same_as_the_png_and_of_a_radiograph_is_smaller(
    kind: RenderKind, frame: RenderFrame
) -> None:
    radiograph = grey(700, 500)
    png, jpeg = (
        file_of(radiograph, RenderOptions(kind=kind, frame=frame, format=each))
        for each in RenderFormat
    )
    assert [Image.open(BytesIO(file)).format for file in (png, jpeg)] == ["PNG", "JPEG"]
    difference = np.abs(pixels_of(png).astype(int) - pixels_of(jpeg))
    assert difference.mean() < 3
    assert np.percentile(difference, 99) < 16
    if kind is RenderKind.OVERLAY:
        assert len(jpeg) < len(png) / 2


def test_a_jpeg_keeps_the_full_resolution_of_colours() -> None:
    file = file_of(grey(300, 300), RenderOptions(format=RenderFormat.JPEG))
    sampling = {layer[1:3] for layer in Image.open(BytesIO(file)).layer}
    assert sampling == {(1, 1)}


@pytest.mark.parametrize(
    ("field", "value"),
    [
        ("opacity", -0.01),
        ("opacity", 1.01),
        ("opacity", float("nan")),
        ("opacity", float("inf")),
        ("max_side_px", 31),
        ("max_side_px", 4097),
        ("max_side_px", -1),
        ("fixed_scale_logits", 9.99),
        ("fixed_scale_logits", 1000.1),
        ("fixed_scale_logits", 0.0),
        ("fixed_scale_logits", float("nan")),
        ("fixed_scale_logits", float("inf")),
    ],
)
def test_options_out_of_range_are_refused_by_their_field(field: str, value: float) -> None:
    with pytest.raises(InvalidField, match=field) as caught:
        RenderOptions(scale=HeatScale.FIXED, **{field: value})
    assert caught.value.field == f"render.{field}"


def test_a_limit_of_the_fixed_scale_needs_that_scale() -> None:
    with pytest.raises(InvalidField, match="FIXED") as caught:
        RenderOptions(fixed_scale_logits=25)
    assert caught.value.field == "render.fixed_scale_logits"
    fixed = RenderOptions(scale=HeatScale.FIXED, fixed_scale_logits=40)
    assert fixed.full_scale_logits == 40
    assert RenderOptions(scale=HeatScale.FIXED).full_scale_logits == 25
    assert RenderOptions().full_scale_logits is None


def test_grey_heat_is_not_drawn_over_a_radiograph() -> None:
    with pytest.raises(InvalidField, match="anatomy") as caught:
        RenderOptions(color_map=ColorMap.GRAY)
    assert caught.value.field == "render.color_map"
    for kind in (RenderKind.HEATMAP, RenderKind.NONE):
        RenderOptions(kind=kind, color_map=ColorMap.GRAY)


@pytest.mark.parametrize(
    ("shape_hw", "max_side_px", "drawn_hw"),
    [
        ((900, 400), 450, (450, 200)),
        ((400, 900), 450, (200, 450)),
        ((300, 200), 4096, (300, 200)),
        ((64, 2000), 32, (1, 32)),
    ],
)
def test_the_longest_side_is_bounded_and_never_enlarged(
    shape_hw: tuple[int, int], max_side_px: int, drawn_hw: tuple[int, int]
) -> None:
    options = RenderOptions(frame=RenderFrame.ORIGINAL, max_side_px=max_side_px)
    assert drawn(grey(*shape_hw), options).shape[:2] == drawn_hw
    small = RenderOptions(max_side_px=max_side_px)
    side_px = min(224, max_side_px)
    assert drawn(grey(*shape_hw), small).shape[:2] == (side_px, side_px)


def test_a_reduced_original_keeps_the_heat_in_place() -> None:
    radiograph = grey(1200, 800)
    options = RenderOptions(
        kind=RenderKind.HEATMAP,
        frame=RenderFrame.ORIGINAL,
        color_map=ColorMap.GRAY,
        max_side_px=300,
    )
    picture = drawn(radiograph, options)
    assert picture.shape == (300, 200, 3)
    rows, columns = np.nonzero(picture[50:250, :, 0] > 128)
    assert rows.mean() == pytest.approx(1.5 * 200 / 7, abs=4)
    assert columns.mean() == pytest.approx(4.5 * 200 / 7, abs=4)
    assert picture[:50].all()  # marked as not seen, which black is not
    assert picture[250:].all()


def test_a_16_bit_original_is_drawn_as_its_8_bit_twin() -> None:
    eight = grey(300, 260)
    sixteen = Radiograph(eight.pixels_hw.astype(np.uint16) * 257, 65_535, "PNG", 16)
    assert (drawn(eight, ORIGINAL) == drawn(sixteen, ORIGINAL)).all()


@pytest.mark.parametrize("bits", [8, 10, 12, 14])
@pytest.mark.parametrize("offset", [0, 40_000])
def test_a_16_bit_original_of_a_narrow_range_is_windowed(bits: int, offset: int) -> None:
    eight = grey(300, 300).pixels_hw.astype(np.float64)
    stretched = (eight - eight.min()) / np.ptp(eight)
    narrow = np.rint(offset + stretched * (2**bits - 1)).astype(np.uint16)
    radiograph = Radiograph(narrow, 65_535, "PNG", 16)
    picture = drawn(radiograph, ORIGINAL, nothing())
    assert np.abs(picture[..., 0] - stretched * 255).max() <= 1


def test_a_16_bit_original_of_one_value_is_drawn() -> None:
    radiograph = Radiograph(np.full((64, 64), 4095, np.uint16), 65_535, "PNG", 16)
    assert not np.ptp(drawn(radiograph, ORIGINAL, nothing()), axis=(0, 1)).any()


LEGEND = RenderOptions(frame=RenderFrame.ORIGINAL, max_side_px=4096, legend=True)


@pytest.mark.parametrize("size", [(32, 32), (224, 224), (1024, 700)])
def test_the_legend_stands_beside_the_picture(size: tuple[int, int]) -> None:
    radiograph = grey(*size)
    plain, with_legend = drawn(radiograph, ORIGINAL), drawn(radiograph, LEGEND)
    height, width = plain.shape[:2]
    assert (with_legend[:height, :width] == plain).all()
    assert len(np.unique(with_legend[height:, :width])) <= 1  # padded where the panel is higher
    panel = with_legend[:, width:].reshape(-1, 3)
    assert panel.shape[0] > 0
    assert (panel.min(axis=1) > 200).any()  # text


def panel_of(options: RenderOptions, heat: HeatMap | None = None, **more: object) -> np.ndarray:
    return pixels_of(file_of(grey(512, 512), options, heat, **more))[:, 512:]


def shows(panel: np.ndarray, rgb: np.ndarray) -> bool:
    """Whether a colour occurs, within rounding."""
    return bool((np.abs(panel.reshape(-1, 3) - rgb).max(axis=1) <= 2).any())


@pytest.mark.parametrize("opacity", [0.3, 0.5, 1.0])
@pytest.mark.parametrize("color_map", [ColorMap.INFERNO, ColorMap.VIRIDIS, ColorMap.JET])
def test_the_legend_shows_the_colours_as_they_are_drawn(
    color_map: ColorMap, opacity: float
) -> None:
    """Compared with an overlay on mid-grey, where each level of heat occurs."""
    ramp = HeatMap(np.tile(np.linspace(0, 1, 512, dtype=np.float32), (512, 1)), 0, 9, (0, 511))
    mid_grey = Radiograph(np.full((512, 512), 128, np.uint8), 255, "PNG", 8)
    options = RenderOptions(
        frame=RenderFrame.ORIGINAL, color_map=color_map, opacity=opacity, legend=True
    )
    picture = drawn(mid_grey, options, ramp)
    panel = picture[:, 512:]
    for column in (0, 80, 200, 300, 511):
        assert shows(panel, picture[0, column].astype(int))
    if opacity < 1:
        assert not shows(panel, colors(color_map)[255].astype(int))


def test_the_legend_of_heat_alone_shows_the_opaque_colours() -> None:
    options = RenderOptions(kind=RenderKind.HEATMAP, frame=RenderFrame.ORIGINAL, legend=True)
    panel = panel_of(options)
    for level in (3, 90, 160, 252):
        assert shows(panel, colors(ColorMap.INFERNO)[level].astype(int))


def test_the_legend_differs_by_whatever_it_must_say() -> None:
    """Finding, score, scale, limits, unit, and that there is no evidence."""
    fixed = RenderOptions(frame=RenderFrame.ORIGINAL, legend=True, scale=HeatScale.FIXED)
    wider = RenderOptions(
        frame=RenderFrame.ORIGINAL, legend=True, scale=HeatScale.FIXED, fixed_scale_logits=40
    )
    relative = from_saliency(planted().values_hw)
    panels = [
        panel_of(LEGEND),
        panel_of(LEGEND, finding=Finding("Nodule", 4, -1.25, 0.7031251, 0.625, 0.5)),
        panel_of(LEGEND, finding=Finding("Mass", 4, -1.25, 0.101, 0.625, 0.5)),
        panel_of(fixed, from_evidence(np.eye(7, dtype=np.float32) * 30, 224, 25)),
        panel_of(wider, from_evidence(np.eye(7, dtype=np.float32) * 30, 224, 40)),
        panel_of(LEGEND, relative),
        panel_of(LEGEND, nothing()),
    ]
    assert len({panel.tobytes() for panel in panels}) == len(panels)


def test_limits_are_in_the_unit_of_the_evidence_and_a_fixed_scale_is_open_at_its_top() -> None:
    evidence_hw = np.zeros((7, 7), np.float32)
    evidence_hw[0, 0] = 76.5

    def caption(scale: HeatScale, full: float | None) -> Caption:
        heat = from_evidence(evidence_hw, 224, full)
        return Caption(
            finding=MASS,
            model=MODEL,
            precision="float32",
            method="GRAD_CAM",
            scale=scale,
            heat=heat,
        )

    assert caption(HeatScale.PER_MAP, None).limits == ("0", "38.2", "76.5")
    assert caption(HeatScale.FIXED, 25.0).limits == ("0", "12.5", ">= 25")
    assert caption(HeatScale.FIXED, 25.0).unit == "evidence (logits)"


def test_labels_and_names_of_any_length_fit_into_the_legend() -> None:
    for label in ("Enlarged Cardiomediastinum", "x" * 200, "\u6c14\u80f8 " * 30, "W W" * 60):
        finding = Finding(label, 4, -1.25, 0.5, 0.625, 0.5)
        assert panel_of(LEGEND, finding=finding).shape == panel_of(LEGEND).shape


@pytest.mark.parametrize(
    ("label", "written"),
    [
        ("\u00c9panchement", "Epanchement"),
        ("Verschattung \u00fcber", "Verschattung uber"),
        ("\u80f8\u8154\u7a4d\u6db2", "finding 4"),
        ("\u0423\u0441\u0438\u043b\u0435\u043d\u0438\u0435", "finding 4"),
    ],
)
def test_a_label_of_letters_that_the_font_lacks_is_no_row_of_boxes(
    label: str, written: str
) -> None:
    panels = [
        panel_of(LEGEND, finding=Finding(text, 4, -1.25, 0.5, 0.625, 0.5))
        for text in (label, written)
    ]
    assert (panels[0] == panels[1]).all()


@pytest.mark.parametrize("legend", [False, True])
@pytest.mark.parametrize("frame", list(RenderFrame))
@pytest.mark.parametrize("shape_hw", [(300, 200), (64, 2000), (900, 400), (1500, 1500)])
def test_the_size_of_a_picture_is_known_before_it_is_drawn(
    shape_hw: tuple[int, int], frame: RenderFrame, legend: bool
) -> None:
    for max_side_px in (32, 1024):
        options = RenderOptions(frame=frame, legend=legend, max_side_px=max_side_px)
        picture = Image.open(BytesIO(file_of(grey(*shape_hw), options)))
        original = frame is RenderFrame.ORIGINAL
        height, width = picture_size(*(shape_hw if original else (224, 224)), max_side_px)
        expected = size_with_legend_px((width, height)) if legend else (width, height)
        assert picture.size == expected


MEMORY_OF_A_PICTURE = """
from pathlib import Path
import numpy as np
from cxr_server.bundles.load import load_bundle
from cxr_server.bundles.store import PHANTOM_PATH
from cxr_server.explanation.caption import Caption
from cxr_server.explanation.footprint import Drawing
from cxr_server.explanation.heatmap import from_evidence
from cxr_server.explanation.options import RenderFormat, RenderFrame, RenderOptions
from cxr_server.explanation.render import Renderer
from cxr_server.geometry import Box
from cxr_server.imaging.radiograph import Radiograph
from cxr_server.inference.model_input import Evidence, ImageFacts
from cxr_server.inference.scoring import Finding

def most_bytes():
    return 1024 * int(Path("/proc/self/status").read_text().split("VmHWM:")[1].split()[0])

def draw(side_px):
    noise_hw = np.random.default_rng(0).integers(0, 255, (side_px, side_px), dtype=np.uint8)
    evidence_hw = np.full((7, 7), 20, np.float32)
    facts = ImageFacts("PNG", 8, side_px, side_px, Box(0, 0, side_px, side_px))
    evidence = Evidence(evidence_hw[None], (), noise_hw[:224, :224], facts, ())
    heat = from_evidence(evidence_hw, 224, 25)
    finding, model = Finding("Mass", 4, 0, 0.5, 0.5, 0.5), load_bundle(PHANTOM_PATH).manifest
    caption = Caption(
        finding=finding,
        model=model,
        precision="float32",
        method="m",
        scale=options.scale,
        heat=heat,
    )
    before = most_bytes()
    Renderer(evidence, options, noise_hw).render(caption)
    return most_bytes() - before

options = RenderOptions(
    frame=RenderFrame.ORIGINAL,
    max_side_px=4096,
    legend=True,
    contours=True,
    format=RenderFormat.FORMAT,
)
draw(64)
print(draw(3000) / Drawing(1, 3000, 3000).peak_bytes)
"""


@pytest.mark.parametrize("file_format", list(RenderFormat))
def test_a_picture_takes_no_more_memory_than_stated(file_format: RenderFormat) -> None:
    code = MEMORY_OF_A_PICTURE.replace("FORMAT", file_format.value)
    run = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert 0.5 < float(run.stdout) <= 1


CONTOURS = RenderOptions(frame=RenderFrame.ORIGINAL, max_side_px=4096, contours=True)


@pytest.mark.parametrize("kind", [RenderKind.OVERLAY, RenderKind.HEATMAP])
@pytest.mark.parametrize("shade", [0, 128, 255])
def test_contours_outline_the_regions_on_dark_and_bright_ground(
    shade: int, kind: RenderKind
) -> None:
    flat = Radiograph(np.full((700, 500), shade, np.uint8), 255, "PNG", 8)
    plain = RenderOptions(kind=kind, frame=RenderFrame.ORIGINAL)
    outlined = RenderOptions(kind=kind, frame=RenderFrame.ORIGINAL, contours=True)
    before, after = drawn(flat, plain), drawn(flat, outlined)
    changed_hw = heat_of(after, before) > 0
    (region,) = regions(planted(), XRV.crop(700, 500))
    rows, columns = np.nonzero(changed_hw)
    box = region.box
    assert rows.min() == pytest.approx(box.y_px, abs=4)
    assert rows.max() == pytest.approx(box.y_px + box.height_px, abs=4)
    assert columns.min() == pytest.approx(box.x_px, abs=4)
    assert columns.max() == pytest.approx(box.x_px + box.width_px, abs=4)
    line = {tuple(rgb) for rgb in after[changed_hw]}
    assert line <= {(0, 0, 0), (255, 255, 255)}
    assert len(line) == 2 or shade in (0, 255)
    middle = box.y_px + box.height_px // 2, box.x_px + box.width_px // 2
    assert not changed_hw[middle]  # an outline, not a filled region


def test_without_heat_there_are_no_contours() -> None:
    radiograph = grey(300, 300)
    assert file_of(radiograph, CONTOURS, nothing()) == file_of(radiograph, ORIGINAL, nothing())


def mark_of(file: bytes) -> dict[str, object]:
    """The mark of a picture, as the README and the contract describe it."""
    with Image.open(BytesIO(file)) as image:
        if image.format == "PNG":
            return json.loads(image.text["cxr-serve"])
        keyword, text = image.info["comment"].split(b" ", 1)
        assert keyword == b"cxr-serve"
        return json.loads(text)


@pytest.mark.parametrize(
    ("file_format", "kind", "frame", "legend"),
    list(
        product(RenderFormat, (RenderKind.OVERLAY, RenderKind.HEATMAP), RenderFrame, (False, True))
    ),
)
def test_every_picture_says_in_its_file_what_it_is(
    file_format: RenderFormat, kind: RenderKind, frame: RenderFrame, legend: bool
) -> None:
    options = RenderOptions(format=file_format, kind=kind, frame=frame, legend=legend)
    finding = Finding('\u6c14\u80f8 "quoted"', 4, -1.25, 0.7031251, 0.625, 0.5)
    file = file_of(grey(300, 260), options, finding=finding)
    assert mark_of(file) == {
        "finding": finding.label,
        "score": 0.703125,
        "method": "GRAD_CAM",
        "model": MODEL.name,
        "version": MODEL.version,
        "weights_sha256": MODEL.weights_sha256,
        "precision": "float32",
        "scale": "PER_MAP",
        "low": 0.0,
        "high": pytest.approx(20, rel=0.04),
        "unit": "evidence (logits)",
        "notice": MODEL.notice,
    }


def test_the_mark_stands_where_readers_of_the_first_bytes_find_it() -> None:
    png, jpeg = (file_of(grey(64, 64), RenderOptions(format=each)) for each in RenderFormat)
    (length,) = struct.unpack_from(">I", png, 33)
    assert png[37:51] == b"tEXtcxr-serve\0"
    assert png[33 + 12 + length :][4:8] == b"IDAT"
    assert jpeg[:4] == b"\xff\xd8\xff\xe0"
    (app0,) = struct.unpack_from(">H", jpeg, 4)
    assert jpeg[4 + app0 :].startswith(b"\xff\xfe")
    assert jpeg[4 + app0 + 4 :].startswith(b"cxr-serve {")


def test_grey_and_rainbow_run_as_they_should() -> None:
    grey_map, jet = colors(ColorMap.GRAY), colors(ColorMap.JET)
    assert (grey_map == np.arange(256)[:, None]).all()
    assert jet[0, 2] > jet[0, 0] == 0
    assert jet[127].argmax() == 1
    assert jet[255, 0] > jet[255, 2] == 0
