"""Boxes and masks against evidence: pycocotools for run lengths, cases with a known answer."""

import csv
import importlib.util
import json
from pathlib import Path
from typing import Any

import numpy as np
import pandas
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from pycocotools import mask as coco

from cxr_client.evaluation.labels import vindr
from cxr_client.evaluation.labels.label_set import LabelError
from cxr_client.evaluation.localisation.maps import heat_map, measures
from cxr_client.evaluation.localisation.regions import REGION_FORMATS, Box, Mask
from cxr_client.evaluation.localisation.rle import decode
from cxr_command import Run
from simulated_runs import header, image, write_run

MASKS = st.tuples(st.integers(1, 40), st.integers(1, 40), st.integers(0, 2**32), st.floats(0, 1))


def info(width: int, height: int, crop: tuple[int, int, int, int]) -> dict[str, Any]:
    names = ("x_px", "y_px", "width_px", "height_px")
    box = dict(zip(names, crop, strict=True))
    return {"width_px": width, "height_px": height, "crop_box": box}


def packaged(name: str) -> Path:
    """Return a file of torchxrayvision's wheel, without importing the package and torch."""
    found = importlib.util.find_spec("torchxrayvision")
    assert found
    assert found.origin
    return Path(found.origin).parent / "data" / name


@settings(max_examples=60, deadline=None)
@given(MASKS)
def test_run_lengths_of_pycocotools_are_decoded(case: tuple[int, int, int, float]) -> None:
    rows, columns, seed, share = case
    drawn = np.random.default_rng(seed).random((rows, columns)) < share
    encoded = coco.encode(np.asfortranarray(drawn.astype(np.uint8)))
    text = {"size": encoded["size"], "counts": encoded["counts"].decode()}
    np.testing.assert_array_equal(decode(text), drawn)


@pytest.mark.parametrize(
    "encoded",
    [None, {}, {"size": [2, 2], "counts": [3]}, {"size": [2, 2], "counts": "o"}, {"size": [-1, 4]}],
)
def test_damaged_run_lengths_are_refused(encoded: Any) -> None:
    with pytest.raises(LabelError):
        decode(encoded)


def test_a_map_that_fills_its_region_is_perfect() -> None:
    """One cell of 7 x 7 on 224 pixels is 32 pixels; the region is that of its upper half."""
    evidence = np.full((7, 7), -1.0, np.float32)
    evidence[2, 3] = 1.0
    heat = heat_map(evidence, 224)
    found = measures(heat, [Box(96, 64, 32, 32, None)], info(224, 224, (0, 0, 224, 224)), 0)
    assert found is not None
    assert (found.hit, found.outside) == (True, 0)
    assert found.energy == pytest.approx(1)
    hot = heat >= 0.5 * heat.max()
    assert found.iou[1] == pytest.approx(hot.sum() / 32**2)
    assert found.chance == pytest.approx(32**2 / 224**2)


def test_the_pointing_game_takes_the_margin_and_no_more() -> None:
    heat = np.zeros((224, 224))
    heat[100, 100] = 1
    for gap, margin, hit in ((10, 0, False), (10, 10, True), (16, 15, False), (15, 15, True)):
        box = Box(100 + gap, 80, 30, 40, None)
        found = measures(heat, [box], info(224, 224, (0, 0, 224, 224)), margin)
        assert found is not None
        assert found.hit is hit


@pytest.mark.parametrize("cell", [(3, 0), (0, 3), (0, 0), (6, 0), (3, 3)])
def test_a_peak_at_the_border_is_the_centre_of_its_cell_on_either_side(
    cell: tuple[int, int],
) -> None:
    """One cell is 32 pixels; a mark of 8 pixels lies at its centre."""
    evidence = np.full((7, 7), -0.5, np.float32)
    evidence[cell] = 5
    rows, columns = (32 * each + 12 for each in cell)
    facts = info(224, 224, (0, 0, 224, 224))
    box, mirrored = Box(columns, rows, 8, 8, None), Box(216 - columns, 216 - rows, 8, 8, None)
    for grid, mark in ((evidence, box), (evidence[::-1, ::-1], mirrored)):
        found = measures(heat_map(grid, 224), [mark], facts, 0)
        assert found is not None
        assert found.hit


def test_what_lies_outside_the_crop_counts_as_missed() -> None:
    """The image is 448 x 224 and the network saw its left half; the region spans both halves."""
    heat = np.ones((224, 224))
    found = measures(heat, [Box(112, 0, 224, 224, None)], info(448, 224, (0, 0, 224, 224)), 0)
    assert found is not None
    assert found.outside == pytest.approx(0.5)
    assert found.iou[0] == pytest.approx(0.5 * 224**2 / (1.5 * 224**2))
    beyond = measures(heat, [Box(300, 0, 100, 224, None)], info(448, 224, (0, 0, 224, 224)), 0)
    assert beyond is not None
    assert (beyond.hit, beyond.energy, beyond.outside) == (False, 0, 1)


def test_frames_of_boxes_and_masks_are_scaled_to_the_image() -> None:
    heat = np.zeros((224, 224))
    heat[50:60, 50:60] = 1
    facts = info(2048, 2048, (0, 0, 2048, 2048))
    drawn = np.zeros((512, 512), np.uint8)
    drawn[100:150, 100:150] = 1
    encoded = coco.encode(np.asfortranarray(drawn))
    mask = Mask({"size": encoded["size"], "counts": encoded["counts"].decode()})
    for shape in (Box(200, 200, 100, 100, 1024), Box(400, 400, 200, 200, None), mask):
        found = measures(heat, [shape], facts, 0)
        assert found is not None
        assert found.hit
        assert found.chance == pytest.approx((100 / 1024) ** 2, rel=0.05)


def test_a_map_without_positive_evidence_misses() -> None:
    heat = heat_map(np.full((7, 7), -1, np.float32), 224)
    found = measures(heat, [Box(0, 0, 50, 50, None)], info(224, 224, (0, 0, 224, 224)), 15)
    assert found is not None
    assert (found.hit, found.energy, found.iou) == (False, 0, (0, 0, 0))


def test_a_region_outside_the_image_is_none() -> None:
    heat = np.ones((224, 224))
    facts = info(224, 224, (0, 0, 224, 224))
    assert measures(heat, [Box(900, 900, 50, 50, None)], facts, 15) is None


def test_airspace_opacity_of_chexlocalize_is_lung_opacity(tmp_path: Path) -> None:
    path = tmp_path / "gt_segmentations_test.json"
    mask = {"size": [1, 2], "counts": [1, 1]}
    labels = ("Airspace Opacity", "Pleural Effusion", "Support Devices")
    path.write_text(json.dumps({"patient1_study1_view1_frontal": dict.fromkeys(labels, mask)}))
    found = REGION_FORMATS["chexlocalize"](path)
    marked = found.regions[found.key_of("test/patient1/study1/view1_frontal.jpg")]
    assert set(marked) == {"Lung Opacity", "Effusion", "Support Devices"}


@pytest.mark.torch
@pytest.mark.parametrize(
    ("form", "name", "images", "boxes"),
    [
        ("nih", "BBox_List_2017.csv.gz", 880, 984),
        ("rsna", "kaggle_stage_2_train_labels.csv.zip", 6_012, 2 * 9_555),
    ],
)
def test_the_lists_of_boxes_are_read_whole(form: str, name: str, images: int, boxes: int) -> None:
    regions = REGION_FORMATS[form](packaged(name)).regions
    assert len(regions) == images
    assert sum(len(each) for of in regions.values() for each in of.values()) == boxes


@pytest.mark.torch
def test_the_boxes_of_vindr_are_read_whole() -> None:
    path = packaged("vinbigdata-train.csv.gz")
    regions = REGION_FORMATS["vindr"](path).regions
    table = pandas.read_csv(path)
    known = table[table["class_name"].isin(vindr.FINDINGS)]
    targets = known["class_name"].map(lambda name: len(vindr.FINDINGS[name]))
    assert len(regions) == known["image_id"].nunique()
    assert sum(len(each) for of in regions.values() for each in of.values()) == targets.sum()
    boxes = [box for of in regions.values() for box in of.get("Cardiomegaly", [])]
    widths = known.loc[known["class_name"] == "Cardiomegaly", ["x_min", "x_max"]]
    assert sum(box.width_px for box in boxes) == (widths["x_max"] - widths["x_min"]).sum()


@pytest.mark.torch
def test_the_masks_of_siim_are_read_whole() -> None:
    path = packaged("siim-pneumothorax-train-rle.csv.gz")
    found = REGION_FORMATS["siim"](path)
    table = pandas.read_csv(path, skipinitialspace=True)
    masked = table[table["EncodedPixels"].str.strip() != "-1"]
    assert len(found.regions) == masked["ImageId"].nunique()
    masks = [mask for of in found.regions.values() for mask in of["Pneumothorax"]]
    assert len(masks) == len(masked)
    areas = masked["EncodedPixels"].map(lambda text: sum(map(int, text.split()[1::2])))
    assert sum(sum(mask.encoded["counts"][1::2]) for mask in masks) == areas.sum()
    name, text = masked.iloc[7][["ImageId", "EncodedPixels"]]
    of_it = found.regions[found.key_of(f"folder/{name}.dcm")]["Pneumothorax"]
    drawn = np.zeros(1024 * 1024, bool)  # as in the challenge's own mask_functions.py
    position = 0
    for gap, length in np.array(text.split(), int).reshape(-1, 2):
        position += gap
        drawn[position : position + length] = True
        position += length
    expected = drawn.reshape(1024, 1024).T
    assert any(np.array_equal(m.raster((1024, 1024), 1024, 1024), expected) for m in of_it)


@pytest.mark.parametrize("text", ["1 2 x", "1048570 9"])
def test_run_lengths_of_siim_that_are_none_are_refused(tmp_path: Path, text: str) -> None:
    path = tmp_path / "train-rle.csv"
    path.write_text(f"ImageId, EncodedPixels\n1.2.3, {text}\n")
    with pytest.raises(LabelError):
        REGION_FORMATS["siim"](path).regions["1.2.3"]["Pneumothorax"][0].raster((9, 9), 9, 9)


@pytest.fixture
def marked_run(tmp_path: Path) -> tuple[Path, Path]:
    """Twelve images whose evidence peaks in one cell, in two of them the wrong one."""
    rows = []
    for number in range(12):
        values = np.full((7, 7), -1.0)
        values[1 if number < 2 else 4, 2] = 2.0
        evidence = {"Mass": {"rows": 7, "columns": 7, "values": values.ravel().tolist()}}
        facts = info(700, 700, (0, 0, 700, 700))
        row = image(f"{number}.png", {"Mass": 0.7}, evidence=evidence, image_info=facts)
        rows.append(row)
    table = tmp_path / "labels.csv"
    with table.open("w", newline="") as file:
        csv.writer(file).writerows([["image", "Mass"], *((f"{n}", int(n < 11)) for n in range(12))])
    return write_run(tmp_path / "run.jsonl", header(["Mass"]), rows), table


@pytest.mark.parametrize("form", ["csv", "chexlocalize"])
def test_the_command_reports_localisation(
    cxr: Run, marked_run: tuple[Path, Path], tmp_path: Path, form: str
) -> None:
    run, table = marked_run
    regions = tmp_path / "regions"
    if form == "csv":
        rows = [f"{number}.png,Mass,200,400,100,100" for number in range(12)]
        regions.write_text("\n".join(["image,finding,x,y,width,height", *rows]) + "\n")
    else:
        drawn = np.zeros((700, 700), np.uint8)
        drawn[400:500, 200:300] = 1
        encoded = coco.encode(np.asfortranarray(drawn))
        mask = {"size": encoded["size"], "counts": encoded["counts"].decode()}
        regions.write_text(json.dumps({str(number): {"Mass": mask} for number in range(12)}))
    page = tmp_path / "page.html"
    status, _, errors = cxr(
        *("evaluate", run, "--labels", table, "--format", "csv", "--output", page),
        *("--regions", regions, "--regions-format", form, "--replicates", 50),
    )
    assert (status, errors) == (0, "")
    found = json.loads(page.with_suffix(".json").read_text())["localisation"]
    [mass] = found["findings"]
    assert (mass["n"], mass["above_operating_point"]) == (11, 11)
    assert found["left_out"] == {"the label file says negative": 1}
    assert mass["pointing_game"]["value"] == pytest.approx(9 / 11)
    # Bilinear enlargement carries some evidence over the edge of the cell.
    assert 0.9 * 9 / 11 < mass["energy"]["value"] < 9 / 11
    assert "Pointing game" in page.read_text()


def test_a_run_without_evidence_is_refused(
    cxr: Run, marked_run: tuple[Path, Path], tmp_path: Path
) -> None:
    bare = write_run(tmp_path / "bare.jsonl", header(["Mass"]), [image("3.png", {"Mass": 0.7})])
    regions = tmp_path / "regions.csv"
    regions.write_text("image,finding,x,y,width,height\n3.png,Mass,1,1,5,5\n")
    status, _, errors = cxr(
        *("evaluate", bare, "--labels", marked_run[1], "--format", "csv"),
        *("--output", tmp_path / "p.html", "--regions", regions, "--regions-format", "csv"),
    )
    assert status == 2
    assert "the run has no evidence for it: 1" in errors
