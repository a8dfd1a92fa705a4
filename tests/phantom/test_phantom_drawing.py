"""Claims about the drawn chests: repeatable, scalable, and changed only where a mask says."""

import numpy as np
import pytest
from scipy import ndimage

from cxr_phantom.anatomy import ENLARGED_CTR, NORMAL_CTR, Anatomy, sample_anatomy
from cxr_phantom.canvas import Canvas, Pose, stream
from cxr_phantom.draw import draw_phantom
from cxr_phantom.findings import FINDINGS, RADIUS, sample_findings

UPRIGHT = Pose(shift_x=0, shift_y=0, scale_x=1, scale_y=1, rotation_rad=0)


def test_the_same_seed_draws_the_same_pixels_and_masks() -> None:
    first, second = draw_phantom(5), draw_phantom(5)
    np.testing.assert_array_equal(first.pixels_hw, second.pixels_hw)
    assert first.masks.keys() == second.masks.keys()
    for name in first.masks:
        np.testing.assert_array_equal(first.masks[name], second.masks[name])


def test_another_seed_draws_another_chest() -> None:
    difference = np.abs(draw_phantom(5, []).pixels_hw.astype(int) - draw_phantom(6, []).pixels_hw)
    assert difference.mean() > 5


def test_a_film_is_grey_bytes_with_dark_lungs_between_bright_tissue() -> None:
    pixels = draw_phantom(8, [], 256).pixels_hw
    assert pixels.dtype == np.uint8
    assert pixels.shape == (256, 256)
    canvas = Canvas.of(256, Pose.sample(stream(8, 1)))
    anatomy = sample_anatomy(stream(8, 2), stream(8, 3), enlarged_heart=False)
    heart = anatomy.heart_mask(canvas)
    lungs = anatomy.lung_mask(canvas) & ~heart
    assert pixels[lungs].mean() + 40 < pixels[heart].mean()
    assert pixels[:20, :20].mean() < 30, "the corner is air"


@pytest.mark.parametrize("finding", FINDINGS)
def test_a_mask_is_inside_the_body_and_of_a_plausible_size(finding: str) -> None:
    for seed in range(4):
        mask = draw_phantom(seed, [finding]).masks[finding]
        assert mask.shape == (224, 224)
        assert mask.dtype == np.bool_
        share = mask.mean()
        assert 0.001 < share < 0.25, (seed, share)
        border = np.concatenate([mask[0], mask[:, 0], mask[:, -1]])
        assert not border.any(), seed


@pytest.mark.parametrize("finding", FINDINGS)
def test_planting_changes_the_mask_and_nothing_far_from_it(finding: str) -> None:
    for seed in (11, 12, 13):
        healthy, planted = draw_phantom(seed, []), draw_phantom(seed, [finding])
        mask = planted.masks[finding]
        change = np.abs(planted.pixels_hw.astype(int) - healthy.pixels_hw)
        far = ndimage.distance_transform_edt(~mask) > 12
        assert change[far].max() == 0, seed
        # A heart that grows changes its rim only: its middle was heart before.
        needed = 2 if finding == "Cardiomegaly" else 6
        assert change[mask].mean() > needed, (seed, change[mask].mean())


def test_findings_planted_together_each_have_a_mask() -> None:
    phantom = draw_phantom(3, FINDINGS)
    assert set(phantom.masks) == set(FINDINGS)
    assert all(mask.any() for mask in phantom.masks.values())
    assert not (phantom.masks["Effusion"] & phantom.masks["Pneumothorax"]).any()


@pytest.mark.parametrize("seed", [0, 1, 2])
def test_a_seed_is_the_same_chest_at_every_size(seed: int) -> None:
    small, large = draw_phantom(seed, FINDINGS, 224), draw_phantom(seed, FINDINGS, 448)
    boxes = large.pixels_hw.reshape(224, 2, 224, 2).mean((1, 3))
    # Without the grain, which belongs to each film's own pixels.
    difference = ndimage.gaussian_filter(boxes - small.pixels_hw, 1.5)
    assert np.abs(difference).mean() < 1.5
    assert np.percentile(np.abs(difference), 99) < 8
    for name, mask in small.masks.items():
        shrunk = large.masks[name].reshape(224, 2, 224, 2).mean((1, 3)) >= 0.5
        overlap = (shrunk & mask).sum() / (shrunk | mask).sum()
        assert overlap > 0.93, name


def _anatomies(*, enlarged: bool) -> list[Anatomy]:
    return [
        sample_anatomy(stream(seed, 2), stream(seed, 3), enlarged_heart=enlarged)
        for seed in range(25)
    ]


@pytest.mark.parametrize(("enlarged", "stated"), [(False, NORMAL_CTR), (True, ENLARGED_CTR)])
def test_the_cardiothoracic_ratio_is_in_its_stated_range(
    enlarged: bool, stated: tuple[float, float]
) -> None:
    canvas = Canvas.of(448, UPRIGHT)
    for anatomy in _anatomies(enlarged=enlarged):
        assert stated[0] <= anatomy.cardiothoracic_ratio <= stated[1]
        columns = np.flatnonzero(anatomy.heart_mask(canvas).any(axis=0))
        width = (columns[-1] - columns[0] + 1) / 448
        assert width / anatomy.inner_width == pytest.approx(
            anatomy.cardiothoracic_ratio, abs=0.02
        ), "the drawn heart is as wide as its ratio says"


def test_a_normal_heart_is_under_half_the_thorax_and_an_enlarged_one_is_over() -> None:
    assert NORMAL_CTR[1] < 0.5 < ENLARGED_CTR[0]


def test_a_nodule_is_smaller_than_a_mass() -> None:
    assert RADIUS["Nodule"][1] < RADIUS["Mass"][0]
    for seed in range(6):
        masks = draw_phantom(seed, ["Nodule", "Mass"]).masks
        assert masks["Nodule"].sum() * 1.5 < masks["Mass"].sum()


def test_a_quarter_of_the_films_has_nothing_and_each_finding_is_in_three_tenths() -> None:
    chosen = [sample_findings(stream(seed, 0)) for seed in range(4000)]
    assert np.mean([not names for names in chosen]) == pytest.approx(0.24, abs=0.03)
    for finding in FINDINGS:
        assert np.mean([finding in names for names in chosen]) == pytest.approx(0.27, abs=0.03)


def test_fluid_lies_low_and_free_air_high() -> None:
    for seed in range(5):
        masks = draw_phantom(seed, ["Effusion", "Pneumothorax"]).masks
        fluid_y = np.nonzero(masks["Effusion"])[0].mean()
        air_y = np.nonzero(masks["Pneumothorax"])[0].mean()
        assert air_y < 112 < fluid_y


@pytest.mark.parametrize(
    ("seed", "findings", "size_px", "said"),
    [
        (0, ["Pneumonia"], 224, "unknown findings"),
        (-1, [], 224, "negative"),
        (0, [], 32, "at least 64"),
    ],
)
def test_a_wrong_request_is_refused(
    seed: int, findings: list[str], size_px: int, said: str
) -> None:
    with pytest.raises(ValueError, match=said):
        draw_phantom(seed, findings, size_px)
