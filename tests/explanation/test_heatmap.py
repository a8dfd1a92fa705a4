"""Heat maps of evidence: scale, limits and the cases without heat."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from cxr_server.explanation.heatmap import (
    FIXED_FULL_SCALE_LOGITS,
    HeatScale,
    from_evidence,
    from_saliency,
)
from cxr_server.explanation.regions import peak, regions
from cxr_server.geometry import Box

RNG = np.random.default_rng(11)
SQUARE = Box(0, 0, 224, 224)


def one_cell(row: int, column: int, evidence: float = 10.0, side: int = 7) -> np.ndarray:
    """Evidence in one cell, and some against the finding everywhere else."""
    evidence_hw = np.full((side, side), -1.0, dtype=np.float32)
    evidence_hw[row, column] = evidence
    return evidence_hw


@pytest.mark.parametrize("scale", list(HeatScale))
def test_no_positive_evidence_makes_an_empty_map(scale: HeatScale) -> None:
    for evidence_hw in (-RNG.random((7, 7)) - 0.1, np.zeros((7, 7))):
        heat = from_evidence(evidence_hw.astype(np.float32), 224, scale)
        assert heat.peak_row_column is None
        assert not heat.values_hw.any()
        assert peak(heat, SQUARE) is None
        assert regions(heat, SQUARE) == ()


@pytest.mark.parametrize("scale", list(HeatScale))
@settings(max_examples=40, deadline=None)
@given(
    seed=st.integers(0, 999),
    exponent=st.integers(-12, 12),
    side=st.sampled_from([1, 2, 7, 14]),
)
def test_heat_lies_between_zero_and_one(
    scale: HeatScale, seed: int, exponent: int, side: int
) -> None:
    evidence_hw = np.random.default_rng(seed).normal(0, 10.0**exponent, (side, side))
    heat = from_evidence(evidence_hw.astype(np.float32), 96, scale)
    assert heat.values_hw.shape == (96, 96)
    assert heat.values_hw.dtype == np.float32
    assert np.isfinite(heat.values_hw).all()
    assert 0 <= heat.values_hw.min() <= heat.values_hw.max() <= 1
    assert heat.low <= heat.high


@pytest.mark.parametrize("contribution", [1e-9, 0.3, 1257.3022, 1e12])
@pytest.mark.parametrize("side", [1, 7])
def test_a_level_map_has_no_relative_heat(side: int, contribution: float) -> None:
    # pytorch-grad-cam stretches what lies above the lowest cell: here nothing does.
    evidence_hw = np.full((side, side), contribution, np.float32)
    heat = from_evidence(evidence_hw, 96, HeatScale.PER_MAP)
    assert not heat.values_hw.any()
    assert heat.low == heat.high > 0
    assert heat.peak_row_column is not None
    assert regions(heat, SQUARE) == ()


def test_the_fixed_scale_shows_strength() -> None:
    half = FIXED_FULL_SCALE_LOGITS * 49 / 2
    weak = from_evidence(one_cell(3, 3, half), 224, HeatScale.FIXED)
    strong = from_evidence(one_cell(3, 3, 20 * half), 224, HeatScale.FIXED)
    assert weak.values_hw.max() == pytest.approx(0.5, rel=0.05)
    assert strong.values_hw.max() == 1
    assert (weak.low, weak.high) == (strong.low, strong.high) == (0, FIXED_FULL_SCALE_LOGITS)
    # Cut off at the top, it still knows where the top was.
    top = peak(strong, SQUARE)
    assert top is not None
    assert abs(top.x_px - 112) <= 0.5
    assert abs(top.y_px - 112) <= 0.5


def test_the_limits_are_logits_that_a_cell_adds() -> None:
    heat = from_evidence(one_cell(0, 0, 4.9), 224, HeatScale.PER_MAP)
    assert heat.low == 0
    assert heat.high == pytest.approx(0.1, rel=1e-6)


def test_a_map_of_another_method_is_stretched_to_its_highest() -> None:
    saliency_hw = np.zeros((64, 64), dtype=np.float32)
    saliency_hw[40, 10] = 0.2
    heat = from_saliency(saliency_hw)
    assert heat.values_hw.max() == 1
    assert not heat.in_logits
    found = peak(heat, Box(0, 0, 64, 64))
    assert found is not None
    assert (found.x_px, found.y_px) == (10.5, 40.5)
    assert from_saliency(np.zeros((8, 8), dtype=np.float32)).peak_row_column is None
