"""Dataset: seeds -> arrays for training and evaluation. Next: train, metrics.

Imports no torch, so that worker processes start quickly.
"""

from collections.abc import Sequence
from concurrent.futures import ProcessPoolExecutor
from dataclasses import dataclass
from functools import partial
from multiprocessing import get_context

import numpy as np
from numpy.typing import NDArray
from scipy import ndimage

from cxr_phantom.canvas import stream
from cxr_phantom.draw import draw_phantom
from cxr_phantom.findings import FINDINGS
from cxr_server.imaging.radiograph import Radiograph
from cxr_server.inference.preprocess import XRV

TRAIN_SEED = 10_000_000
VALIDATION_SEED = 20_000_000
HELD_OUT_SEED = 30_000_000
"""First seeds of the three sets. Smaller seeds are used neither for training nor calibration."""

INPUT_PX = 224
GRID = 7
CELL_PX = INPUT_PX // GRID
NEAR_PX = 0.75 * CELL_PX
"""A cell counts as near a mask if its centre is within this distance. No pixel is further than
0.71 cells from the nearest centre, so every mask has at least one cell."""

BLUR_STREAM = 50
CHUNK = 100
"""Phantoms per task of a worker process."""


@dataclass(frozen=True, slots=True)
class PhantomSet:
    """N phantoms, preprocessed to the input size of the model.

    Attributes:
        pixels_nhw: uint8 [N, 224, 224].
        labels_nk: bool [N, K], in the order of `FINDINGS`.
        near_nkhw: bool [N, K, 7, 7], cells on or next to the mask of the finding.
        masks_nkhw: uint8 [N, K, 224, 28], masks with eight pixels per byte.
    """

    pixels_nhw: NDArray[np.uint8]
    labels_nk: NDArray[np.bool_]
    near_nkhw: NDArray[np.bool_]
    masks_nkhw: NDArray[np.uint8]

    def mask(self, n: int, k: int) -> NDArray[np.bool_]:
        """Return the mask of finding k in phantom n, bool [224, 224]."""
        return np.unpackbits(self.masks_nkhw[n, k], axis=-1).astype(np.bool_)


def draw_set(
    seeds: Sequence[int], *, size_px: int = INPUT_PX, blur: bool = False, workers: int = 1
) -> PhantomSet:
    """Draw one phantom per seed; the seed chooses its findings.

    Args:
        seeds: One per phantom.
        size_px: Side of the drawn image. Other sizes than 224 are preprocessed as by the server.
        blur: Blur each image by an amount that depends on its seed, as downsampling would.
        workers: Number of worker processes; with 1, drawing happens in this process.
    """
    draw = partial(_draw_chunk, size_px=size_px, blur=blur)
    chunks = [seeds[start : start + CHUNK] for start in range(0, len(seeds), CHUNK)]
    if workers == 1:
        return _concatenate([draw(chunk) for chunk in chunks])
    with ProcessPoolExecutor(workers, mp_context=get_context("spawn")) as pool:
        return _concatenate(list(pool.map(draw, chunks)))


def _concatenate(parts: Sequence[PhantomSet]) -> PhantomSet:
    return PhantomSet(
        np.concatenate([part.pixels_nhw for part in parts]),
        np.concatenate([part.labels_nk for part in parts]),
        np.concatenate([part.near_nkhw for part in parts]),
        np.concatenate([part.masks_nkhw for part in parts]),
    )


def _draw_chunk(seeds: Sequence[int], *, size_px: int, blur: bool) -> PhantomSet:
    n_count, k_count = len(seeds), len(FINDINGS)
    pixels = np.empty((n_count, INPUT_PX, INPUT_PX), np.uint8)
    labels = np.zeros((n_count, k_count), np.bool_)
    near = np.zeros((n_count, k_count, GRID, GRID), np.bool_)
    masks = np.zeros((n_count, k_count, INPUT_PX, INPUT_PX // 8), np.uint8)
    for n, seed in enumerate(seeds):
        phantom = draw_phantom(seed, size_px=size_px)
        pixels[n] = _preprocess(phantom.pixels_hw)
        if blur and (sigma_px := _blur_px(seed)) > 0:
            blurred = ndimage.gaussian_filter(pixels[n].astype(np.float32), sigma_px)
            pixels[n] = np.round(blurred)
        for name, full_mask in phantom.masks.items():
            k = FINDINGS.index(name)
            mask = _resize_mask(full_mask)
            labels[n, k] = True
            near[n, k] = _cells_near(mask)
            masks[n, k] = np.packbits(mask, axis=-1)
    return PhantomSet(pixels, labels, near, masks)


def _blur_px(seed: int) -> float:
    """Standard deviation of the blur: 0 in a third of the images, up to 0.7 in the others."""
    return float(max(0.0, stream(seed, BLUR_STREAM).uniform(-0.35, 0.7)))


def _preprocess(pixels_hw: NDArray[np.uint8]) -> NDArray[np.uint8]:
    if pixels_hw.shape[0] == INPUT_PX:
        return pixels_hw
    radiograph = Radiograph(pixels_hw, 255, "PNG", 8)
    return XRV.picture_hw(XRV.image_chw(radiograph, INPUT_PX), radiograph)


def _resize_mask(mask_hw: NDArray[np.bool_]) -> NDArray[np.bool_]:
    """Nearest neighbour: sample the mask at the centres of the model's pixels."""
    at = ((np.arange(INPUT_PX) + 0.5) * mask_hw.shape[0] / INPUT_PX).astype(np.int64)
    return mask_hw[np.ix_(at, at)]


def _cells_near(mask: NDArray[np.bool_]) -> NDArray[np.bool_]:
    distance_px = ndimage.distance_transform_edt(~mask)
    centres = np.arange(GRID) * CELL_PX + CELL_PX // 2
    return np.asarray(distance_px[np.ix_(centres, centres)] <= NEAR_PX)
