"""The check of whether an image shows a chest is trained on drawings, and can be trained again."""

from pathlib import Path

import numpy as np
import pytest

from cxr_phantom.__main__ import main
from cxr_phantom.dataset import HELD_OUT_SEED
from cxr_phantom.gate_images import VARIANTS, thumbnails_of
from cxr_server.imaging.gate import SIDE_PX, View, view_of


def test_the_shipped_weights_tell_drawn_frontal_films_from_other_thumbnails() -> None:
    made = [
        pair for seed in range(HELD_OUT_SEED, HELD_OUT_SEED + 8) for pair in thumbnails_of(seed)
    ]
    assert len(made) == 8 * VARIANTS * len(View)
    right = [
        (view_of(image_hw) is View.FRONTAL) == (view is View.FRONTAL) for image_hw, view in made
    ]
    assert np.mean(right) > 0.97


@pytest.mark.slow
def test_a_small_training_writes_weights_that_already_tell_most_views(tmp_path: Path) -> None:
    assert main(["gate", "--output", str(tmp_path), "--films", "10", "--workers", "1"]) == 0
    with np.load(tmp_path / "gate.npz") as stored:
        assert stored["weights_vf"].shape == (len(View), 2 * SIDE_PX**2)
        assert 0 < stored["threshold"] < 1
