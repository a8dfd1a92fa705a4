import numpy as np
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy import ndimage

from cxr_server.explanation.components import label


@settings(max_examples=200, deadline=None)
@given(
    height=st.integers(1, 24),
    width=st.integers(1, 24),
    density=st.floats(0, 1),
    seed=st.integers(0, 2**16),
)
def test_the_parts_of_a_mask_are_those_that_scipy_finds(
    height: int, width: int, density: float, seed: int
) -> None:
    mask = np.random.default_rng(seed).random((height, width)) < density
    expected, expected_count = ndimage.label(mask, structure=np.ones((3, 3)))
    found, count = label(mask)
    assert count == expected_count
    assert np.array_equal(found > 0, mask)
    pairs = set(zip(found.ravel().tolist(), expected.ravel().tolist(), strict=True))
    assert len(pairs) == len(np.unique(expected))  # one number of ours for each of scipy's


def test_parts_are_numbered_in_reading_order() -> None:
    mask = np.array([[0, 0, 1], [1, 0, 0], [1, 0, 1]], bool)
    assert label(mask)[0].tolist() == [[0, 0, 1], [2, 0, 0], [2, 0, 3]]
