"""Preprocessing against torchxrayvision's own transforms, over many shapes."""

import warnings
from collections.abc import Callable

import numpy as np
import pytest
import skimage.transform
from hypothesis import example, given, settings
from hypothesis import strategies as st

from cxr_server.geometry import Box
from cxr_server.imaging.codecs import decode
from cxr_server.imaging.radiograph import Radiograph
from cxr_server.inference.preprocess import XRV
from cxr_server.inference.resize import resize_operator
from images import chest_like

TOLERANCE = 0.01
"""Of the range of 2048, as the project promises."""

SHAPES_HW = [
    (1, 1),
    (1, 300),
    (2, 3),
    (31, 33),
    (32, 32),
    (111, 112),
    (112, 448),
    (223, 223),
    (224, 224),
    (224, 225),
    (225, 224),
    (225, 225),
    (226, 301),
    (301, 226),
    (447, 448),
    (449, 449),
    (512, 512),
    (640, 481),
    (777, 1203),
    (1024, 1024),
    (1025, 2049),
    (2373, 2373),
]


def reference(pixels_hw: np.ndarray, max_value: int) -> np.ndarray:
    """What torchxrayvision makes of an image: float32 [1, 224, 224]."""
    import torchxrayvision

    image_chw = torchxrayvision.utils.normalize(pixels_hw, max_value)[None]
    return torchxrayvision.datasets.XRayResizer(224)(
        torchxrayvision.datasets.XRayCenterCrop()(image_chw)
    )


def noisy(
    shape_hw: tuple[int, int], dtype: type, low: float = 0.0, high: float = 1.0
) -> np.ndarray:
    """A chest-like picture under heavy noise, in a part of the grey range."""
    max_value = np.iinfo(dtype).max
    share_hw = chest_like(*shape_hw) / 255
    share_hw = 0.5 * share_hw + 0.5 * np.random.default_rng(sum(shape_hw)).random(shape_hw)
    return np.round((low + (high - low) * share_hw) * max_value).astype(dtype)


def radiograph(pixels_hw: np.ndarray) -> Radiograph:
    return Radiograph(pixels_hw, int(np.iinfo(pixels_hw.dtype).max), "PNG", 8)


@pytest.mark.torch
@pytest.mark.parametrize("dtype", [np.uint8, np.uint16], ids=["8bit", "16bit"])
@pytest.mark.parametrize("shape_hw", SHAPES_HW, ids=lambda shape: "x".join(map(str, shape)))
def test_the_input_equals_torchxrayvision(
    shape_hw: tuple[int, int], dtype: type, record_property: Callable[[str, object], None]
) -> None:
    pixels_hw = noisy(shape_hw, dtype)
    image_chw = XRV.image_chw(radiograph(pixels_hw), 224)
    expected = reference(pixels_hw, np.iinfo(dtype).max)
    error = float(np.abs(image_chw - expected).max())
    record_property("max_fit_error", error)
    assert image_chw.shape == expected.shape == (1, 224, 224)
    assert image_chw.dtype == np.float32
    assert error < TOLERANCE


@pytest.mark.torch
@pytest.mark.parametrize("shape_hw", [(100, 100), (224, 300), (700, 500)])
@pytest.mark.parametrize(
    ("low", "high"),
    [(0.6, 0.9), (0.1, 0.4), (0.5, 0.5), (0.0, 0.0), (1.0, 1.0), (0.5001, 0.5003)],
    ids=["bright", "dark", "flat", "black", "white", "narrow"],
)
def test_the_reference_clip_holds_for_one_sided_grey(
    shape_hw: tuple[int, int], low: float, high: float
) -> None:
    # Zeros beyond the edge are mid-grey, so an image all brighter than that meets the clip.
    pixels_hw = noisy(shape_hw, np.uint16, low, high)
    image_chw = XRV.image_chw(radiograph(pixels_hw), 224)
    assert np.abs(image_chw - reference(pixels_hw, 65_535)).max() < TOLERANCE


@pytest.mark.torch
def test_real_radiographs_fit_as_in_torchxrayvision(radiographs: list) -> None:
    for file in radiographs:
        image = decode(file.read_bytes())
        error = np.abs(XRV.image_chw(image, 224) - reference(image.pixels_hw, 255)).max()
        assert error < TOLERANCE


@settings(max_examples=60, deadline=None)
@given(side_in=st.integers(1, 1500), side_out=st.integers(1, 320), seed=st.integers(0, 99))
@example(side_in=2373, side_out=224, seed=0)
def test_an_operator_row_resizes_as_scikit_image(side_in: int, side_out: int, seed: int) -> None:
    line = np.random.default_rng(seed).uniform(-1, 1, side_in)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", UserWarning)
        expected = skimage.transform.resize(line, (side_out,), order=1, mode="constant", clip=False)
    resized = resize_operator(side_in, side_out).apply(line[:, None])[:, 0]
    assert resized == pytest.approx(expected, abs=1e-6)


@settings(max_examples=60, deadline=None)
@given(side_in=st.integers(1, 3000), side_out=st.integers(1, 512))
def test_operator_rows_are_weights(side_in: int, side_out: int) -> None:
    operator = resize_operator(side_in, side_out)
    matrix = operator.apply(np.eye(side_in))
    assert matrix.shape == (side_out, side_in)
    assert (matrix >= 0).all()
    row_sums = matrix.sum(axis=1)
    np.testing.assert_allclose(operator.coverage_hw, np.outer(row_sums, row_sums), 0, 1e-5)
    assert (row_sums <= 1 + 1e-5).all()
    # Pixels at the edge weigh in zeros beyond it; none consists of them alone.
    assert (row_sums >= 0.25).all()
    if side_in == side_out:
        assert (matrix == np.eye(side_in)).all()


CROPS = [
    (4, 4, Box(0, 0, 4, 4)),
    (5, 4, Box(0, 0, 4, 4)),
    (7, 4, Box(0, 1, 4, 4)),
    (4, 7, Box(1, 0, 4, 4)),
    (301, 100, Box(0, 100, 100, 100)),
    (101, 300, Box(100, 0, 101, 101)),
]


@pytest.mark.parametrize(("height_px", "width_px", "box"), CROPS)
def test_the_crop_is_the_centred_square(height_px: int, width_px: int, box: Box) -> None:
    assert XRV.crop(height_px, width_px) == box


@pytest.mark.torch
@pytest.mark.parametrize(("height_px", "width_px", "box"), CROPS)
def test_the_crop_is_that_of_torchxrayvision(height_px: int, width_px: int, box: Box) -> None:
    import torchxrayvision

    rows_columns = np.stack(np.mgrid[0:height_px, 0:width_px])
    cropped = torchxrayvision.datasets.XRayCenterCrop()(rows_columns)
    assert cropped[:, 0, 0].tolist() == [box.y_px, box.x_px]
    assert cropped.shape[1:] == (box.height_px, box.width_px)


def test_the_picture_of_the_input_is_the_image_again() -> None:
    pixels_hw = chest_like(224, 224)
    picture = XRV.picture_hw(XRV.image_chw(radiograph(pixels_hw), 224), radiograph(pixels_hw))
    assert picture.dtype == np.uint8
    assert (picture == pixels_hw).all()


@pytest.mark.parametrize("white", [32_768, 32_769, 32_770])
def test_a_picture_of_few_values_around_mid_grey_keeps_black_and_white(white: int) -> None:
    pixels_hw = np.full((1000, 1000), 32_766, np.uint16)
    pixels_hw[500:] = white
    picture = XRV.picture_hw(XRV.image_chw(radiograph(pixels_hw), 224), radiograph(pixels_hw))
    assert picture[4:100, 4:-4].max() < 9  # zeros beyond the edge are mid-grey
    assert picture[124:-4, 4:-4].min() > 246


def test_a_16_bit_image_is_preprocessed_as_its_8_bit_twin() -> None:
    pixels_hw = chest_like(300, 280)
    eight = XRV.image_chw(radiograph(pixels_hw), 224)
    sixteen = XRV.image_chw(radiograph(pixels_hw.astype(np.uint16) * 257), 224)
    assert np.abs(eight - sixteen).max() < TOLERANCE
