"""Regions: files of boxes or masks -> the readers' regions by image and finding. Next: maps."""

import csv
import json
from collections import defaultdict
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from cxr_client.evaluation.labels import chexpert, nih, rsna, vindr
from cxr_client.evaluation.labels.label_set import LabelError, stem_of, study_path_of
from cxr_client.evaluation.labels.tables import open_text, read_columns
from cxr_client.evaluation.localisation.rle import decode
from cxr_client.evaluation.paths import path_of


@dataclass(frozen=True, slots=True)
class Box:
    """Edges of a box in pixels of a frame; the frame is the image's own where it is None."""

    x_px: float
    y_px: float
    width_px: float
    height_px: float
    frame_px: int | None

    def raster(self, shape: tuple[int, int], width_px: int, height_px: int) -> NDArray[np.bool_]:
        """Return the pixels [rows, columns] of a raster of the image whose centres are inside.

        A box that covers no centre is the pixel that its own centre lies in.
        """
        along = []
        for start, length, side, count in (
            (self.y_px, self.height_px, height_px, shape[0]),
            (self.x_px, self.width_px, width_px, shape[1]),
        ):
            frame = self.frame_px or side
            # Products, which are exact for whole pixels: an edge may lie on a centre.
            centres = (np.arange(count) + 0.5) * frame
            inside = (centres >= start * count) & (centres < (start + length) * count)
            middle = int((start + length / 2) * count / frame)
            if not inside.any() and 0 <= middle < count:
                inside[middle] = True
            along.append(inside)
        return np.outer(*along)


@dataclass(frozen=True, slots=True)
class Mask:
    """A mask of the whole image in run lengths, as COCO's."""

    encoded: Any

    def raster(self, shape: tuple[int, int], width_px: int, height_px: int) -> NDArray[np.bool_]:
        """Return the mask [rows, columns] at the centres of a raster's pixels."""
        mask = decode(self.encoded)
        rows, columns = (
            ((np.arange(count) + 0.5) * side / count).astype(np.intp)
            for count, side in zip(shape, mask.shape, strict=True)
        )
        return mask[np.ix_(rows, columns)]


_SIIM_PX = 1024
_CHEXLOCALIZE = {**chexpert.FINDINGS, "Airspace Opacity": "Lung Opacity"}
"""Its files have CheXpert's labels, but for the name of this one."""

Shape = Box | Mask
Regions = dict[str, dict[str, list[Shape]]]
"""By key of the image and finding."""


@dataclass(frozen=True, slots=True)
class RegionSet:
    """What a file marks, and how its images are found in a run."""

    title: str
    regions: Regions
    key_of: Callable[[str], str]
    by_path: bool = False
    """As in `LabelSet`."""


def _nih(path: Path) -> RegionSet:
    """Read BBox_List_2017.csv: boxes in a frame of 1024 pixels; its header names no columns."""
    regions: Regions = defaultdict(lambda: defaultdict(list))
    with open_text(path) as text:
        reader = csv.reader(text)
        if not ",".join(next(reader, [])).startswith("Image Index,Finding Label,Bbox"):
            raise LabelError(f"{path} is not of this format: its header is not that of BBox_List")
        for row in filter(None, reader):
            finding = nih.FINDINGS.get(row[1])
            if finding is None:
                raise LabelError(f"{path}: line {reader.line_num} names the finding {row[1]}")
            regions[stem_of(row[0])][finding].append(_box(_numbers(row[2:6], path), 1024))
    return RegionSet("NIH BBox_List_2017", regions, stem_of)


def _rsna(path: Path) -> RegionSet:
    columns = ["patientId", "x", "y", "width", "height", "Target"]
    table = read_columns(path, columns)
    regions: Regions = defaultdict(lambda: defaultdict(list))
    for key, *box, target in zip(*(table[name] for name in columns), strict=True):
        if target == "1":
            for finding in rsna.FINDINGS:
                regions[key][finding].append(_box(_numbers(box, path), 1024))
    return RegionSet("RSNA Pneumonia Detection Challenge", regions, stem_of)


def _vindr(path: Path) -> RegionSet:
    """Read train.csv: boxes of every reader, in pixels of the image."""
    columns = ["image_id", "class_name", "x_min", "y_min", "x_max", "y_max"]
    table = read_columns(path, columns)
    regions: Regions = defaultdict(lambda: defaultdict(list))
    for key, label, *edges in zip(*(table[name] for name in columns), strict=True):
        for finding in vindr.FINDINGS.get(label, ()):
            left, top, right, bottom = _numbers(edges, path)
            box = Box(left, top, right - left, bottom - top, None)
            regions[key][finding].append(box)
    return RegionSet("VinDr-CXR", regions, stem_of)


def _siim(path: Path) -> RegionSet:
    """Read train-rle.csv: masks of 1024 x 1024 pixels, an image's share none.

    Pairs of numbers, column by column: pixels outside since the last run, and length of the run.
    """
    table = read_columns(path, ["ImageId", "EncodedPixels"])
    regions: Regions = defaultdict(lambda: defaultdict(list))
    for image, text in zip(*table.values(), strict=True):
        if text.strip() == "-1":
            continue
        try:
            runs = [int(number) for number in text.split()]
        except ValueError:
            raise LabelError(f"{path} holds a mask that is not in run lengths") from None
        left = _SIIM_PX**2 - sum(runs)
        mask = Mask({"size": [_SIIM_PX, _SIIM_PX], "counts": [*runs, left]})
        regions[image.strip()]["Pneumothorax"].append(mask)
    return RegionSet("SIIM-ACR Pneumothorax", regions, stem_of)


def _csv(path: Path) -> RegionSet:
    """Read a table with the columns image, finding, x, y, width, height; in the image's pixels."""
    columns = ["image", "finding", "x", "y", "width", "height"]
    table = read_columns(path, columns)
    regions: Regions = defaultdict(lambda: defaultdict(list))
    for image, finding, *box in zip(*(table[name] for name in columns), strict=True):
        regions[path_of(image)][finding].append(_box(_numbers(box, path), None))
    return RegionSet(path.name, regions, path_of, by_path=True)


def _coco(path: Path) -> RegionSet:
    """Read CheXlocalize's gt_segmentations: a mask for each image and finding, empty if absent."""
    with open_text(path) as text:
        try:
            table = json.load(text)
        except ValueError:
            raise LabelError(f"{path} is not of this format: it is not JSON") from None
    regions: Regions = defaultdict(lambda: defaultdict(list))
    try:
        for image, masks in table.items():
            for label, encoded in masks.items():
                if decode(encoded).any():
                    finding = _CHEXLOCALIZE.get(label, label)
                    regions[image][finding].append(Mask(encoded))
    except AttributeError:
        raise LabelError(f"{path} is not of this format: it is not a table of masks") from None
    return RegionSet(path.name, regions, _coco_key(frozenset(regions)))


def _coco_key(keys: frozenset[str]) -> Callable[[str], str]:
    """Return a function: a path -> patient1_study1_view1_frontal, or the name of the file."""
    tail = study_path_of(3)

    def key(file: str) -> str:
        stem = stem_of(file)
        return stem if stem in keys else tail(file).replace("/", "_")

    return key


def _box(edges: list[float], frame_px: int | None) -> Box:
    x, y, width, height = edges
    return Box(x, y, width, height, frame_px)


def _numbers(texts: list[str], path: Path) -> list[float]:
    try:
        numbers = [float(text) for text in texts]
    except ValueError:
        raise LabelError(f"{path} holds a box whose edges are not numbers") from None
    if not np.isfinite(numbers).all():
        raise LabelError(f"{path} holds a box whose edges are not numbers")
    return numbers


REGION_FORMATS: dict[str, Callable[[Path], RegionSet]] = {
    "nih": _nih,
    "rsna": _rsna,
    "vindr": _vindr,
    "siim": _siim,
    "chexlocalize": _coco,
    "csv": _csv,
}
