"""Training sets hold what their seeds draw, preprocessed as the server does it."""

import numpy as np
import pytest
from scipy import ndimage

from cxr_phantom.dataset import CELL_PX, CHUNK, PhantomSet, draw_set
from cxr_phantom.draw import draw_phantom
from cxr_phantom.findings import FINDINGS


@pytest.fixture(scope="module")
def drawn() -> PhantomSet:
    return draw_set(range(1000, 1034))


def test_a_set_holds_what_its_seeds_draw(drawn: PhantomSet) -> None:
    for n in (0, 7, 33):
        phantom = draw_phantom(1000 + n)
        np.testing.assert_array_equal(drawn.pixels_nhw[n], phantom.pixels_hw)
        assert {FINDINGS[k] for k in np.flatnonzero(drawn.labels_nk[n])} == set(phantom.masks)
        for name, mask in phantom.masks.items():
            np.testing.assert_array_equal(drawn.mask(n, FINDINGS.index(name)), mask)


@pytest.mark.slow
def test_worker_processes_draw_the_same_phantoms_in_the_order_of_their_seeds() -> None:
    many = draw_set(range(1000, 1000 + CHUNK + 2), blur=True, workers=2)
    few = draw_set([1000, 1000 + CHUNK, 1000 + CHUNK + 1], blur=True)
    np.testing.assert_array_equal(many.pixels_nhw[[0, CHUNK, CHUNK + 1]], few.pixels_nhw)
    np.testing.assert_array_equal(many.labels_nk[[0, CHUNK, CHUNK + 1]], few.labels_nk)


def test_blur_smooths_some_images_and_leaves_the_others(drawn: PhantomSet) -> None:
    blurred = draw_set(range(1000, 1034), blur=True)
    changed = (drawn.pixels_nhw != blurred.pixels_nhw).any((1, 2))
    assert 0 < changed.sum() < len(changed)
    steps = [np.abs(np.diff(each.pixels_nhw.astype(int))).mean() for each in (blurred, drawn)]
    assert steps[0] < steps[1]


def test_a_phantom_drawn_large_and_resized_is_the_one_drawn_at_the_input_size() -> None:
    small, large = draw_set([1001, 1002]), draw_set([1001, 1002], size_px=512)
    np.testing.assert_array_equal(small.labels_nk, large.labels_nk)
    # Apart from the outermost pixels, which preprocessing darkens as torchxrayvision does.
    difference = (large.pixels_nhw.astype(int) - small.pixels_nhw)[:, 2:-2, 2:-2]
    assert np.abs(difference).mean() < 5
    assert np.abs(difference.mean()) < 1


def test_every_planted_finding_has_a_cell_and_no_cell_is_far_from_its_mask(
    drawn: PhantomSet,
) -> None:
    np.testing.assert_array_equal(drawn.near_nkhw.any((2, 3)), drawn.labels_nk)
    for n, k in np.argwhere(drawn.labels_nk)[:20]:
        distance = ndimage.distance_transform_edt(~drawn.mask(n, k))
        rows, columns = np.nonzero(drawn.near_nkhw[n, k])
        centres = distance[rows * CELL_PX + 16, columns * CELL_PX + 16]
        assert centres.max() <= CELL_PX
