"""Pictures: the heat is where the evidence is, in either frame, for every shape of image."""

from io import BytesIO

import numpy as np
import pytest
from PIL import Image

from cxr_server.errors import InvalidField
from cxr_server.explanation.colormaps import ColorMap, colors
from cxr_server.explanation.heatmap import HeatMap, HeatScale, from_evidence
from cxr_server.explanation.regions import peak, regions
from cxr_server.explanation.render import (
    Renderer,
    RenderFormat,
    RenderFrame,
    RenderKind,
    RenderOptions,
)
from cxr_server.imaging.radiograph import Radiograph
from cxr_server.inference.model_input import Evidence, ImageFacts
from cxr_server.inference.preprocess import XRV
from images import chest_like, pixels_of

CELL = (1, 4)
"""Row and column of the planted evidence, off the middle in both."""
ORIGINAL = RenderOptions(frame=RenderFrame.ORIGINAL, max_side_px=4096)
PICTURE_HW = chest_like(224, 224)


def planted() -> HeatMap:
    evidence_hw = np.full((7, 7), -1, dtype=np.float32)
    evidence_hw[CELL] = 20
    return from_evidence(evidence_hw, 224, HeatScale.PER_MAP)


def everywhere() -> HeatMap:
    return HeatMap(np.ones((224, 224), dtype=np.float32), 0, 1, (112, 112))


def file_of(
    radiograph: Radiograph,
    options: RenderOptions,
    heat: HeatMap | None = None,
    *,
    with_pixels: bool = True,
) -> bytes:
    height_px, width_px = radiograph.height_px, radiograph.width_px
    facts = ImageFacts("PNG", 8, height_px, width_px, XRV.crop(height_px, width_px))
    evidence = Evidence(np.zeros((1, 7, 7), np.float32), PICTURE_HW, facts, ())
    renderer = Renderer(evidence, options, radiograph if with_pixels else None)
    return renderer.render(heat or planted())


def drawn(
    radiograph: Radiograph, options: RenderOptions, heat: HeatMap | None = None
) -> np.ndarray:
    return pixels_of(file_of(radiograph, options, heat))


def heat_of(picture_hwc: np.ndarray, under_hw: np.ndarray) -> np.ndarray:
    """How far a picture is from the grey one below it."""
    return np.abs(picture_hwc.astype(int) - under_hw[..., None]).max(axis=-1)


def grey(height_px: int, width_px: int) -> Radiograph:
    return Radiograph(chest_like(height_px, width_px), 255, "PNG", 8)


SHAPES_HW = [(300, 300), (900, 400), (400, 900), (301, 224), (150, 100), (64, 2000)]


@pytest.mark.parametrize("shape_hw", SHAPES_HW, ids=lambda shape: "x".join(map(str, shape)))
def test_heat_lies_on_the_planted_cell_of_the_original(shape_hw: tuple[int, int]) -> None:
    radiograph = grey(*shape_hw)
    crop = XRV.crop(*shape_hw)
    picture = drawn(radiograph, ORIGINAL)
    assert picture.shape == (*shape_hw, 3)
    heat_hw = heat_of(picture, radiograph.pixels_hw)
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


def test_outside_the_crop_there_is_no_heat_whatever_the_evidence() -> None:
    for shape_hw in ((500, 300), (300, 500)):
        radiograph, crop = grey(*shape_hw), XRV.crop(*shape_hw)
        heat_hw = heat_of(drawn(radiograph, ORIGINAL, everywhere()), radiograph.pixels_hw)
        inside_hw = np.zeros(shape_hw, dtype=bool)
        inside_hw[crop.y_px : crop.y_px + 300, crop.x_px : crop.x_px + 300] = True
        assert not heat_hw[~inside_hw].any()
        assert (heat_hw[inside_hw] > 0).mean() > 0.95


@pytest.mark.parametrize("shape_hw", [(900, 400), (333, 777)])
def test_peak_and_regions_lie_on_the_drawn_heat(shape_hw: tuple[int, int]) -> None:
    crop = XRV.crop(*shape_hw)
    options = RenderOptions(
        kind=RenderKind.HEATMAP, frame=RenderFrame.ORIGINAL, color_map=ColorMap.GRAY
    )
    heat_hw = drawn(grey(*shape_hw), options)[..., 0].astype(int)
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
    heat_hw = heat_of(picture, PICTURE_HW)
    rows, columns = np.nonzero(heat_hw > heat_hw.max() / 2)
    assert rows.mean() == pytest.approx(48, abs=8)
    assert columns.mean() == pytest.approx(144, abs=8)


def test_without_evidence_the_radiograph_shows_as_is() -> None:
    nothing = from_evidence(np.full((7, 7), -2, dtype=np.float32), 224, HeatScale.PER_MAP)
    radiograph = grey(300, 280)
    picture = drawn(radiograph, ORIGINAL, nothing)
    assert not heat_of(picture, radiograph.pixels_hw).any()


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
    assert not heat_alone.needs_radiograph
    assert file_of(radiograph, heat_alone, with_pixels=False) == file_of(radiograph, heat_alone)
    assert ORIGINAL.needs_radiograph
    assert not RenderOptions().needs_radiograph
    with pytest.raises(ValueError, match="pixels"):
        file_of(radiograph, ORIGINAL, with_pixels=False)


@pytest.mark.parametrize("frame", list(RenderFrame))
@pytest.mark.parametrize("kind", [RenderKind.OVERLAY, RenderKind.HEATMAP])
def test_a_jpeg_shows_the_same_as_the_png_and_is_smaller(
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
    assert len(jpeg) < len(png)


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
    ],
)
def test_options_out_of_range_are_refused_by_their_field(field: str, value: float) -> None:
    with pytest.raises(InvalidField, match=field) as caught:
        RenderOptions(**{field: value})
    assert caught.value.field == f"render.{field}"


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
    rows, columns = np.nonzero(picture[..., 0] > 128)
    assert rows.mean() == pytest.approx(50 + 1.5 * 200 / 7, abs=4)
    assert columns.mean() == pytest.approx(4.5 * 200 / 7, abs=4)
    assert not picture[:50].any()
    assert not picture[250:].any()


def test_a_16_bit_original_is_drawn_as_its_8_bit_twin() -> None:
    eight = grey(300, 260)
    sixteen = Radiograph(eight.pixels_hw.astype(np.uint16) * 257, 65_535, "PNG", 16)
    assert (drawn(eight, ORIGINAL) == drawn(sixteen, ORIGINAL)).all()


@pytest.mark.parametrize("size", [(32, 32), (224, 224), (1024, 700)])
def test_the_legend_stands_beside_the_picture(size: tuple[int, int]) -> None:
    radiograph = grey(*size)
    plain = drawn(radiograph, ORIGINAL)
    with_legend = drawn(
        radiograph, RenderOptions(frame=RenderFrame.ORIGINAL, max_side_px=4096, legend=True)
    )
    height, width = plain.shape[:2]
    assert (with_legend[:height, :width] == plain).all()
    panel = with_legend[:, width:].reshape(-1, 3)
    assert panel.shape[0] > 0
    # Text, and the colours of both ends of the scale.
    assert (panel.min(axis=1) > 200).any()
    near = [
        np.abs(panel - colors(ColorMap.INFERNO)[at].astype(int)).max(axis=1).min()
        for at in (9, 250)
    ]
    assert max(near) < 12


def test_grey_and_rainbow_run_as_they_should() -> None:
    grey_map, jet = colors(ColorMap.GRAY), colors(ColorMap.JET)
    assert (grey_map == np.arange(256)[:, None]).all()
    assert jet[0, 2] > jet[0, 0] == 0
    assert jet[127].argmax() == 1
    assert jet[255, 0] > jet[255, 2] == 0
