"""Dataset: seeds -> arrays to learn and to measure with, drawn by several processes. Next: train.

No torch here, so that drawing processes start quickly.
"""

from collections.abc import Iterator, Sequence
from concurrent.futures import ProcessPoolExecutor
from dataclasses import dataclass
from functools import partial
from multiprocessing import get_context

import numpy as np
from numpy.typing import NDArray
from scipy import ndimage

from cxr_server.imaging.radiograph import Radiograph
from cxr_server.inference.preprocess import XRV
from cxr_server.phantom.canvas import stream
from cxr_server.phantom.draw import draw_phantom
from cxr_server.phantom.findings import FINDINGS

INPUT_PX = 224
GRID = 7
CELL_PX = INPUT_PX // GRID
REACH_PX = 0.75 * CELL_PX
"""A cell may speak for a finding if its centre is this close to the mask. Every point of a film
is within 0.71 of a cell of some centre, so even the smallest finding has a cell."""

SOFTEN_STREAM = 50
CHUNK = 100


@dataclass(frozen=True, slots=True)
class PhantomSet:
    """N phantoms fitted to the model's input.

    Attributes:
        pixels_nhw: uint8 [N, 224, 224].
        labels_nk: bool [N, K], in the order of `FINDINGS`.
        near_nkhw: bool [N, K, 7, 7], cells that are on or beside the finding's mask.
        masks_nkhw: uint8 [N, K, 224, 28], the masks, eight pixels a byte.
    """

    pixels_nhw: NDArray[np.uint8]
    labels_nk: NDArray[np.bool_]
    near_nkhw: NDArray[np.bool_]
    masks_nkhw: NDArray[np.uint8]

    def mask(self, n: int, k: int) -> NDArray[np.bool_]:
        """The mask of finding k in phantom n, bool [224, 224]."""
        return np.unpackbits(self.masks_nkhw[n, k], axis=-1).astype(np.bool_)


def draw_set(
    seeds: Sequence[int], *, size_px: int = INPUT_PX, soften: bool = False, workers: int = 1
) -> PhantomSet:
    """Draws one phantom per seed, its findings chosen by the seed.

    Args:
        seeds: one per phantom.
        size_px: side at which they are drawn; if it is not 224 they are then fitted as the
            server fits what it is sent.
        soften: blur each by a little that its seed chooses, as resizing a larger film would.
        workers: drawing processes; with 1 everything happens in this one.
    """
    draw = partial(_draw_chunk, size_px=size_px, soften=soften)
    chunks = list(_chunks(seeds))
    if workers == 1:
        return _join([draw(chunk) for chunk in chunks])
    with ProcessPoolExecutor(workers, mp_context=get_context("spawn")) as pool:
        return _join(list(pool.map(draw, chunks)))


def _chunks(seeds: Sequence[int]) -> Iterator[Sequence[int]]:
    for start in range(0, len(seeds), CHUNK):
        yield seeds[start : start + CHUNK]


def _join(parts: Sequence[PhantomSet]) -> PhantomSet:
    return PhantomSet(
        np.concatenate([part.pixels_nhw for part in parts]),
        np.concatenate([part.labels_nk for part in parts]),
        np.concatenate([part.near_nkhw for part in parts]),
        np.concatenate([part.masks_nkhw for part in parts]),
    )


def _draw_chunk(seeds: Sequence[int], *, size_px: int, soften: bool) -> PhantomSet:
    count, kinds = len(seeds), len(FINDINGS)
    pixels = np.empty((count, INPUT_PX, INPUT_PX), np.uint8)
    labels = np.zeros((count, kinds), np.bool_)
    near = np.zeros((count, kinds, GRID, GRID), np.bool_)
    masks = np.zeros((count, kinds, INPUT_PX, INPUT_PX // 8), np.uint8)
    for n, seed in enumerate(seeds):
        phantom = draw_phantom(seed, size_px=size_px)
        pixels[n] = _fitted(phantom.pixels_hw, _softness(seed) if soften else 0.0)
        for name, drawn_mask in phantom.masks.items():
            k = FINDINGS.index(name)
            mask = _fitted_mask(drawn_mask)
            labels[n, k] = True
            near[n, k] = _cells_near(mask)
            masks[n, k] = np.packbits(mask, axis=-1)
    return PhantomSet(pixels, labels, near, masks)


def _softness(seed: int) -> float:
    """A blur in pixels: none in a third of the films, up to 0.7 in the rest."""
    return float(max(0.0, stream(seed, SOFTEN_STREAM).uniform(-0.35, 0.7)))


def _fitted(pixels_hw: NDArray[np.uint8], blur_px: float) -> NDArray[np.uint8]:
    if pixels_hw.shape[0] != INPUT_PX:
        pixels_hw = XRV.picture_hw(XRV.image_chw(Radiograph(pixels_hw, 255, "PNG", 8), INPUT_PX))
    if blur_px > 0:
        soft = ndimage.gaussian_filter(pixels_hw.astype(np.float32), blur_px)
        return np.asarray(np.round(soft), np.uint8)
    return pixels_hw


def _fitted_mask(mask_hw: NDArray[np.bool_]) -> NDArray[np.bool_]:
    """Every model pixel whose centre lies in the mask."""
    at = ((np.arange(INPUT_PX) + 0.5) * mask_hw.shape[0] / INPUT_PX).astype(np.int64)
    return mask_hw[np.ix_(at, at)]


def _cells_near(mask: NDArray[np.bool_]) -> NDArray[np.bool_]:
    distance_px = ndimage.distance_transform_edt(~mask)
    centres = np.arange(GRID) * CELL_PX + CELL_PX // 2
    return np.asarray(distance_px[np.ix_(centres, centres)] <= REACH_PX)
