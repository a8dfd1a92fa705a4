"""Heat maps of evidence: scale, limits and the cases without heat."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from cxr_server.explanation.heatmap import (
    MIN_EVIDENCE_LOGITS,
    HeatMap,
    from_evidence,
    from_saliency,
    has_evidence,
)
from cxr_server.explanation.options import FIXED_SCALE_LOGITS, MIN_SCALE_LOGITS
from cxr_server.explanation.regions import peak, regions
from cxr_server.geometry import Box

RNG = np.random.default_rng(11)
SQUARE = Box(0, 0, 224, 224)
SCALES = [None, FIXED_SCALE_LOGITS, MIN_SCALE_LOGITS]
"""Each map's own scale, the fixed one, and the narrowest that can be chosen."""


def one_cell(row: int, column: int, evidence: float = 20.0, side: int = 7) -> np.ndarray:
    """Evidence in one cell, and some against the finding everywhere else."""
    evidence_hw = np.full((side, side), -1.0, dtype=np.float32)
    evidence_hw[row, column] = evidence
    return evidence_hw


def is_empty(heat: HeatMap) -> bool:
    """Whether there is no heat, no peak and no region."""
    found = heat.peak_row_column, peak(heat, SQUARE), regions(heat, SQUARE) or None
    return not heat.values_hw.any() and set(found) == {None}


@pytest.mark.parametrize("full", SCALES)
def test_no_positive_evidence_makes_an_empty_map(full: float | None) -> None:
    for evidence_hw in (-RNG.random((7, 7)) - 0.1, np.zeros((7, 7))):
        assert is_empty(from_evidence(evidence_hw.astype(np.float32), 224, full))


@pytest.mark.parametrize("full", SCALES)
def test_evidence_that_does_not_matter_makes_an_empty_map(full: float | None) -> None:
    just_below = np.nextafter(np.float32(MIN_EVIDENCE_LOGITS), np.float32(0))
    for evidence_hw in (one_cell(2, 5, just_below), np.full((7, 7), just_below, np.float32)):
        assert not has_evidence(evidence_hw)
        assert is_empty(from_evidence(evidence_hw, 224, full))
        # Added up, it leaves the finding's logit almost as it is.
        assert np.maximum(evidence_hw, 0).mean() < MIN_EVIDENCE_LOGITS
    assert not is_empty(from_evidence(one_cell(2, 5, MIN_EVIDENCE_LOGITS), 224, full))


@pytest.mark.parametrize("full", SCALES)
@settings(max_examples=40, deadline=None)
@given(
    seed=st.integers(0, 999),
    exponent=st.integers(-12, 12),
    side=st.sampled_from([1, 2, 7, 14]),
)
def test_heat_lies_between_zero_and_one(
    full: float | None, seed: int, exponent: int, side: int
) -> None:
    evidence_hw = np.random.default_rng(seed).normal(0, 10.0**exponent, (side, side))
    heat = from_evidence(evidence_hw.astype(np.float32), 96, full)
    assert heat.values_hw.shape == (96, 96)
    assert heat.values_hw.dtype == np.float32
    assert np.isfinite(heat.values_hw).all()
    assert 0 <= heat.values_hw.min() <= heat.values_hw.max() <= 1
    assert heat.low < heat.high


@pytest.mark.parametrize("evidence", [1.5, 61.3022, 1e12])
@pytest.mark.parametrize("side", [1, 7])
def test_a_level_map_has_no_relative_heat(side: int, evidence: float) -> None:
    # pytorch-grad-cam stretches what lies above the lowest cell: here nothing does.
    evidence_hw = np.full((side, side), evidence, np.float32)
    heat = from_evidence(evidence_hw, 96)
    assert not heat.values_hw.any()
    assert heat.low == pytest.approx(evidence)
    assert heat.high == pytest.approx(evidence + MIN_SCALE_LOGITS)
    assert heat.peak_row_column is not None
    assert regions(heat, SQUARE) == ()


@pytest.mark.parametrize("full", [MIN_SCALE_LOGITS, FIXED_SCALE_LOGITS, 400])
def test_the_fixed_scale_shows_strength(full: float) -> None:
    weak = from_evidence(one_cell(3, 3, full / 2), 224, full)
    strong = from_evidence(one_cell(3, 3, 10 * full), 224, full)
    assert weak.values_hw.max() == pytest.approx(0.5, rel=0.05)
    assert strong.values_hw.max() == 1
    assert (weak.low, weak.high) == (strong.low, strong.high) == (0, full)
    # Cut off at the top, it still knows where the top was.
    top = peak(strong, SQUARE)
    assert top is not None
    assert abs(top.x_px - 112) <= 0.5
    assert abs(top.y_px - 112) <= 0.5


def test_the_limits_are_logits_of_evidence() -> None:
    heat = from_evidence(one_cell(0, 0, 76.5), 224)
    assert heat.low == 0
    assert heat.high == pytest.approx(76.5, rel=1e-6)


@pytest.mark.parametrize("strongest", [1.0, 5.0, 9.9])
def test_weak_evidence_is_never_stretched_to_full_colour(strongest: float) -> None:
    for lift in (0, 30):  # evidence everywhere changes nothing
        evidence_hw = np.maximum(one_cell(0, 0, strongest), 0) + np.float32(lift)
        heat = from_evidence(evidence_hw, 224)
        assert heat.values_hw.max() == pytest.approx(strongest / MIN_SCALE_LOGITS, rel=1e-5)
        assert (heat.low, heat.high) == pytest.approx((lift, lift + MIN_SCALE_LOGITS))
        top = peak(heat, SQUARE)
        assert top is not None
        assert top.value == pytest.approx(strongest / MIN_SCALE_LOGITS, rel=1e-5)


def test_stronger_evidence_fills_its_own_scale() -> None:
    heat = from_evidence(one_cell(0, 0, 1.01 * MIN_SCALE_LOGITS), 224)
    assert heat.values_hw.max() == 1


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
