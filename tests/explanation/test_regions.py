"""Peak and regions: equal to scipy's components, and in the original image's pixels."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy import ndimage

from cxr_server.explanation.heatmap import HeatMap, from_evidence
from cxr_server.explanation.regions import peak, regions
from cxr_server.geometry import Box

SQUARE = Box(0, 0, 224, 224)


def one_cell(row: int, column: int, evidence: float = 20.0, side: int = 7) -> np.ndarray:
    """Evidence in one cell, and some against the finding everywhere else."""
    evidence_hw = np.full((side, side), -1.0, dtype=np.float32)
    evidence_hw[row, column] = evidence
    return evidence_hw


def map_of(values_hw: np.ndarray) -> HeatMap:
    return HeatMap(values_hw.astype(np.float32), 0, 1, None)


@settings(max_examples=200, deadline=None)
@given(
    height=st.integers(1, 24),
    width=st.integers(1, 24),
    density=st.floats(0, 1),
    seed=st.integers(0, 2**16),
)
def test_regions_are_the_components_that_scipy_finds(
    height: int, width: int, density: float, seed: int
) -> None:
    rng = np.random.default_rng(seed)
    values_hw = (rng.random((height, width)) < density) * rng.uniform(0.5, 1, (height, width))
    values_hw = values_hw.astype(np.float32)
    numbered, count = ndimage.label(values_hw > 0, structure=np.ones((3, 3)))
    expected = []
    for number, (rows, columns) in enumerate(ndimage.find_objects(numbered), start=1):
        box = (columns.start, rows.start, columns.stop, rows.stop)
        inside = numbered == number
        expected.append((-inside.sum(), number, box, values_hw[inside].max()))
    found = regions(map_of(values_hw), Box(0, 0, width, height))
    assert len(found) == count
    for region, (_, _, corners, highest) in zip(found, sorted(expected), strict=True):
        box = region.box
        assert corners == (
            box.x_px,
            box.y_px,
            box.x_px + box.width_px,
            box.y_px + box.height_px,
        )
        assert region.peak_value == highest


def test_pixels_that_meet_at_a_corner_are_one_region() -> None:
    values_hw = np.array([[0, 0, 1], [1, 0, 0], [0, 1, 0], [1, 0, 1]])
    found = regions(map_of(values_hw), Box(0, 0, 3, 4))
    assert [region.box for region in found] == [Box(0, 1, 3, 3), Box(2, 0, 1, 1)]


@pytest.mark.parametrize("row", range(7))
@pytest.mark.parametrize("column", range(7))
def test_the_peak_is_the_middle_of_the_hot_cell(row: int, column: int) -> None:
    found = peak(from_evidence(one_cell(row, column), 224), SQUARE)
    assert found is not None
    assert abs(found.x_px - (column + 0.5) * 32) <= 0.5
    assert abs(found.y_px - (row + 0.5) * 32) <= 0.5
    assert found.value == pytest.approx(1, abs=1e-5)


def test_peak_and_region_are_given_in_the_originals_pixels() -> None:
    crop = Box(x_px=0, y_px=310, width_px=700, height_px=700)
    heat = from_evidence(one_cell(1, 5), 224)
    found = peak(heat, crop)
    assert found is not None
    assert found.x_px == pytest.approx(550, abs=2)
    assert found.y_px == pytest.approx(310 + 150, abs=2)
    (region,) = regions(heat, crop)
    assert region.peak_value == pytest.approx(1, abs=1e-5)
    assert region.threshold == pytest.approx(0.5, abs=1e-5)
    box = region.box
    assert box.x_px < 550 < box.x_px + box.width_px
    assert box.y_px < 460 < box.y_px + box.height_px
    # Half height lies half a cell away in either direction.
    assert abs(box.width_px - 100) <= 8
    assert abs(box.height_px - 100) <= 8


def test_regions_come_largest_first_and_stay_apart() -> None:
    evidence_hw = np.zeros((7, 7), dtype=np.float32)
    evidence_hw[0, 0] = 9
    evidence_hw[4:6, 3:6] = 8
    heat = from_evidence(evidence_hw, 224)
    large, small = regions(heat, SQUARE)
    assert (small.box.x_px, small.box.y_px) == (0, 0)
    assert large.box.x_px > 64
    assert large.box.width_px * large.box.height_px > small.box.width_px * small.box.height_px
    assert small.peak_value > large.peak_value


@settings(max_examples=50, deadline=None)
@given(
    seed=st.integers(0, 999),
    x_px=st.integers(0, 400),
    y_px=st.integers(0, 400),
    side_px=st.integers(1, 3000),
)
def test_regions_stay_in_the_crop_and_hold_the_peak(
    seed: int, x_px: int, y_px: int, side_px: int
) -> None:
    crop = Box(x_px, y_px, side_px, side_px)
    evidence_hw = np.random.default_rng(seed).normal(0, 3, (7, 7)).astype(np.float32)
    heat = from_evidence(evidence_hw, 224)
    found, boxes = peak(heat, crop), [region.box for region in regions(heat, crop)]
    assert found is not None
    for box in boxes:
        assert crop.x_px <= box.x_px < box.x_px + box.width_px <= crop.x_px + side_px
        assert crop.y_px <= box.y_px < box.y_px + box.height_px <= crop.y_px + side_px
    assert any(
        box.x_px <= found.x_px <= box.x_px + box.width_px
        and box.y_px <= found.y_px <= box.y_px + box.height_px
        for box in boxes
    )
