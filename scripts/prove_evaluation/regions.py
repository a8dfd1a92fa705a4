"""Regions: exact masks and evidence -> pointing game, energy and IoU, computed a second time.

Pillow enlarges the evidence, pycocotools intersects, NumPy measures distances. The crop is computed
from the size of the film as torchxrayvision does; that of the answer is not used.
"""

import json
from collections import defaultdict
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from PIL import Image
from pycocotools import mask as coco
from scripts.prove_evaluation.films import FINDINGS, DataSet, boxes_of
from scripts.prove_evaluation.scores import EXACT, Frame
from scripts.prove_evaluation.table import Pair

_SIDE_PX = 224
_MARGIN_PX = 15
_HEIGHTS = (0.25, 0.5, 0.75)
_FROM_FLOAT32 = 2e-5
"""Pillow enlarges in float32."""

_ABOUT_A_PIXEL = 5e-3
"""Where pixels of equal or nearly equal evidence lie on a limit, float32 decides otherwise."""


def compare(
    localisation: dict[str, Any], journal: Path, data: DataSet, table: Frame, *, boxes: bool
) -> list[Pair]:
    """Compare with the boxes of the masks, or with the masks themselves."""
    found = _measured(journal, data, table, boxes=boxes)
    kind = "boxes" if boxes else "masks"
    pairs = []
    for each in localisation["findings"]:
        name = each["finding"]
        values = np.array(found[name])
        means = values.mean(axis=0)
        pairs.append(Pair(f"Regions, {kind}", name, "masks", each["n"], len(values), 0))
        hits = (each["pointing_game"]["value"], means[0])
        pairs.append(Pair(f"Pointing game, {kind}", name, "NumPy", *hits, EXACT))
        energy = (each["energy"]["value"], means[1])
        pairs.append(Pair(f"Energy, {kind}", name, "Pillow, NumPy", *energy, _FROM_FLOAT32))
        for height, ours, theirs in zip(_HEIGHTS, each["iou"], means[2:5], strict=True):
            figure = f"IoU at {height}, {kind}"
            pair = (ours["value"], theirs)
            pairs.append(Pair(figure, name, "pycocotools", *pair, _ABOUT_A_PIXEL))
        outside = (each["outside_crop"], means[5])
        pairs.append(Pair(f"Outside crop, {kind}", name, "NumPy", *outside, EXACT))
    return pairs


def _measured(
    journal: Path, data: DataSet, table: Frame, *, boxes: bool
) -> dict[str, list[tuple[float, ...]]]:
    evaluated = set(table["image"])
    found: dict[str, list[tuple[float, ...]]] = defaultdict(list)
    with journal.open() as lines:
        next(lines)
        for line in lines:
            row = json.loads(line)
            stem = Path(row["file"]).stem
            if stem not in evaluated:
                continue
            for finding in FINDINGS:
                path = data.masks / f"{stem}.{finding}.png"
                if path.exists():
                    mask = np.asarray(Image.open(path)) > 0
                    region = _boxed(mask) if boxes else mask
                    found[finding].append(_measure(row["evidence"][finding], region))
    return found


def _boxed(mask: NDArray[np.bool_]) -> NDArray[np.bool_]:
    boxed = np.zeros_like(mask)
    for x, y, width, height in boxes_of(mask):
        boxed[y : y + height, x : x + width] = True
    return boxed


def _measure(evidence: dict[str, Any], region_hw: NDArray[np.bool_]) -> tuple[float, ...]:
    """Return hit, energy, three IoUs and the share outside the crop."""
    grid = np.array(evidence["values"], np.float32).reshape(evidence["rows"], evidence["columns"])
    enlarged = Image.fromarray(grid).resize((_SIDE_PX, _SIDE_PX), Image.Resampling.BILINEAR)
    heat = np.maximum(np.asarray(enlarged, np.float64), 0)
    rows, columns = region_hw.shape
    crop = min(rows, columns)
    top, left = (round((side // 2 - crop // 2) * _SIDE_PX / crop) for side in (rows, columns))
    height, width = (round(side * _SIDE_PX / crop) for side in (rows, columns))
    # Of the film's pixels, those at the centres of the raster's.
    at = [
        (2 * np.arange(n) + 1) * side // (2 * n) for n, side in ((height, rows), (width, columns))
    ]
    region = region_hw[np.ix_(*at)]
    whole = np.zeros((height, width))
    whole[top : top + _SIDE_PX, left : left + _SIDE_PX] = heat
    highest = np.argwhere(heat >= heat.max() * (1 - 1e-6))  # in float, equal values differ a little
    away = np.hypot(*(highest - (_SIDE_PX - 1) / 2).T)
    peak = highest[away.argmin()] + (top, left)
    distances = np.hypot(*(np.argwhere(region) - peak).T)
    ious = [_iou(region, (whole > 0) & (whole >= height * whole.max())) for height in _HEIGHTS]
    inside = region[top : top + _SIDE_PX, left : left + _SIDE_PX]
    total = whole.sum()
    return (
        float(total > 0 and distances.min() <= _MARGIN_PX),
        float(whole[region].sum() / total) if total else 0.0,
        *ious,
        1 - inside.sum() / region.sum(),
    )


def _iou(a: NDArray[np.bool_], b: NDArray[np.bool_]) -> float:
    first, second = (coco.encode(np.asfortranarray(each.astype(np.uint8))) for each in (a, b))
    return float(coco.iou([first], [second], [False])[0, 0])
