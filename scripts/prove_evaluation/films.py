"""Films: phantoms with exact masks -> what a researcher has: films, labels, boxes, masks.

Drawn phantoms are read without an error and are square. Some are made harder or cut, masks alike,
so that there are errors, warnings, and regions outside the crop.
"""

import csv
import json
import subprocess
import sys
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from PIL import Image
from pycocotools import mask as coco
from scipy import ndimage

FINDINGS = ("Cardiomegaly", "Effusion", "Pneumothorax", "Nodule", "Mass", "Consolidation")
SIZE_PX = 512
FIRST_SEED = 1000
PER_PATIENT = 3
BROKEN = 5
"""Files that are no films any more: the run must say so, once for each."""

_CUT_PX = 128
Masks = dict[str, NDArray[np.bool_]]


@dataclass(frozen=True, slots=True)
class DataSet:
    """Where the files are. Films lie in a folder for each patient."""

    root: Path

    @property
    def films(self) -> Path:
        """The folder of folders of films."""
        return self.root / "films"

    @property
    def masks(self) -> Path:
        """The folder of masks, named as film.finding.png."""
        return self.root / "masks"

    @property
    def labels(self) -> Path:
        """A table with patients, sex, age, view and scanner."""
        return self.root / "labels.csv"

    @property
    def labels_without_patients(self) -> Path:
        """The same images and labels alone."""
        return self.root / "labels-without-patients.csv"

    @property
    def boxes(self) -> Path:
        """Boxes around the connected parts of each mask."""
        return self.root / "boxes.csv"

    @property
    def run_lengths(self) -> Path:
        """The masks as CheXlocalize has them, encoded by pycocotools."""
        return self.root / "masks.json"


def prepare(root: Path, count: int, workers: int) -> DataSet:
    """Draw the phantoms, and write everything that belongs to them; what is there is kept."""
    data = DataSet(root)
    done = root / f"drawn-{count}"
    if done.exists():
        return data
    drawn = root / "drawn"
    if not drawn.exists():
        drawing = root / "drawing"
        parts = np.array_split(np.arange(count), workers)
        with ThreadPoolExecutor(workers) as pool:
            list(pool.map(lambda part: _draw(drawing, part), parts))
        drawing.rename(drawn)
    data.masks.mkdir(parents=True, exist_ok=True)
    by_seed = {int(path.stem.rpartition("-")[2]): path for path in drawn.glob("*.png")}
    numbers = range(count)
    with ThreadPoolExecutor(workers) as pool:
        masks = list(pool.map(lambda n: _film(data, n, by_seed[FIRST_SEED + n]), numbers))
    for number in range(BROKEN):
        (data.films / "broken").mkdir(exist_ok=True)
        (data.films / "broken" / f"broken{number}.png").write_bytes(b"\x89PNG\r\n\x1a\nno film")
    _write_labels(data, masks)
    _write_regions(data, masks)
    done.touch()
    return data


def name_of(number: int) -> str:
    """Return the name of a film, without its suffix."""
    return f"film{number:06}"


def _draw(drawn: Path, numbers: NDArray[Any]) -> None:
    words = ["--output", drawn, "--masks", "--count", len(numbers), "--size", SIZE_PX]
    words += ["--seed", FIRST_SEED + int(numbers[0])]
    command = [sys.executable, "-m", "cxr_phantom", "draw", *map(str, words)]
    subprocess.run(command, check=True, stdout=subprocess.DEVNULL)


def _film(data: DataSet, number: int, drawn: Path) -> Masks:
    """Write a film and its masks, and return these; those that were cut off wholly are none."""
    pixels_hw = np.asarray(Image.open(drawn))
    found = drawn.parent.glob(f"masks/{drawn.stem}.*.png")
    masks = {path.suffixes[-2][1:].capitalize(): np.asarray(Image.open(path)) > 0 for path in found}
    random = np.random.default_rng(number)
    if number % 5 == 2:
        noise = random.normal(0, random.uniform(5, 60), pixels_hw.shape)
        blurred = ndimage.gaussian_filter(pixels_hw.astype(np.float32), random.uniform(0, 9))
        pixels_hw = np.clip(blurred + noise, 0, 255).round().astype(np.uint8)
    if number % 20 == 3:
        pixels_hw = (110 + pixels_hw * np.float32(0.06)).astype(np.uint8)
    if number % 4 == 1:  # A narrow film: the square crop loses its top and its bottom.
        cut = slice(0, SIZE_PX - _CUT_PX) if number % 8 == 1 else slice(_CUT_PX, None)
        pixels_hw = pixels_hw[:, cut]
        masks = {name: mask[:, cut] for name, mask in masks.items()}
    folder = data.films / f"patient{number // PER_PATIENT:05}"
    folder.mkdir(parents=True, exist_ok=True)
    Image.fromarray(pixels_hw).save(folder / f"{name_of(number)}.png")
    masks = {name: mask for name, mask in masks.items() if mask.any()}
    for name, mask in masks.items():
        Image.fromarray(mask).save(data.masks / f"{name_of(number)}.{name}.png")
    return masks


def _write_labels(data: DataSet, masks: list[Masks]) -> None:
    facts = ("patient", "sex", "age", "view", "manufacturer")
    with data.labels.open("w", newline="") as file, data.labels_without_patients.open("w") as bare:
        table, images = csv.writer(file), csv.writer(bare)
        table.writerow(["image", *facts, *FINDINGS])
        images.writerow(["image", *FINDINGS])
        for number, found in enumerate(masks):
            if number % 97 == 50:  # Not every film has labels,
                continue
            labels = [int(name in found) for name in FINDINGS]
            if number % 23 == 0:  # nor a label for every finding.
                labels[FINDINGS.index("Nodule")] = ""  # type: ignore[call-overload]
            patient = number // PER_PATIENT
            age = "" if patient % 31 == 0 else 18 + patient * 7 % 73
            view, maker = ("PA", "AP")[number % 3 == 0], "ABC"[patient % 3]
            table.writerow([name_of(number), patient, "FM"[patient % 2], age, view, maker, *labels])
            images.writerow([name_of(number), *labels])


def _write_regions(data: DataSet, masks: list[Masks]) -> None:
    encoded: dict[str, dict[str, Any]] = {}
    with data.boxes.open("w", newline="") as file:
        boxes = csv.writer(file)
        boxes.writerow(["image", "finding", "x", "y", "width", "height"])
        for number, found in enumerate(masks):
            for name, mask in found.items():
                rle = coco.encode(np.asfortranarray(mask.astype(np.uint8)))
                text = {"size": rle["size"], "counts": rle["counts"].decode()}
                encoded.setdefault(name_of(number), {})[name] = text
                for x, y, width, height in boxes_of(mask):
                    boxes.writerow([f"{name_of(number)}.png", name, x, y, width, height])
    data.run_lengths.write_text(json.dumps(encoded))


def boxes_of(mask: NDArray[np.bool_]) -> Iterator[tuple[int, int, int, int]]:
    """Yield the box of each connected part: x, y, width and height in pixels."""
    labelled, _ = ndimage.label(mask)
    for rows, columns in ndimage.find_objects(labelled):
        yield columns.start, rows.start, columns.stop - columns.start, rows.stop - rows.start
