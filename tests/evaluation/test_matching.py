"""Which row of a table an image of a run is held to, where names repeat in other folders."""

import csv
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pytest

from cxr_client.evaluation.cohort import Cohort, join
from cxr_client.evaluation.comparison import pair
from cxr_client.evaluation.labels.label_set import Choices, LabelError, LabelSet
from cxr_client.evaluation.labels.registry import FORMATS
from cxr_client.evaluation.localisation.localise import localise
from cxr_client.evaluation.localisation.regions import REGION_FORMATS
from cxr_client.evaluation.scores import Scores, read_scores
from cxr_client.runs import Run
from simulated_runs import header, image, write_run


def table(folder: Path, names: Sequence[str]) -> LabelSet:
    path = folder / "labels.csv"
    with path.open("w", newline="") as file:
        csv.writer(file).writerows([["image", "Mass"], *((name, 1) for name in names)])
    return FORMATS["csv"](path, Choices())


def scored(folder: Path, files: Sequence[str], contents: Sequence[str] = ()) -> Scores:
    rows: list[Any] = [image(file, {"Mass": 0.5}) for file in files]
    first = header(["Mass"])
    if contents:
        rows = [row | {"key": key} for row, key in zip(rows, contents, strict=True)]
    return read_scores(Run.read(write_run(folder / "run.jsonl", first, rows)))


def pairs(files: Sequence[str], names: Sequence[str], cohort: Cohort) -> dict[str, str]:
    rows, units = cohort.rows.tolist(), cohort.units.tolist()
    return {files[row]: names[unit] for row, unit in zip(rows, units, strict=True)}


@pytest.mark.parametrize(
    ("files", "names", "found"),
    [
        # Only the folder tells these apart.
        (["d/A/1.dcm", "d/B/1.dcm"], ["B/1.dcm"], {"d/B/1.dcm": "B/1.dcm"}),
        (["A/1.dcm", "B/1.dcm"], ["A/1", "B/1"], {"A/1.dcm": "A/1", "B/1.dcm": "B/1"}),
        (["A/1.dcm", "B/2.dcm"], ["B\\1", "./B/2"], {"B/2.dcm": "./B/2"}),
        (["p2/s1/a.png", "p1/s1/a.png"], ["o/p1/s1/a.jpg"], {"p1/s1/a.png": "o/p1/s1/a.jpg"}),
        # The paths of the table may be longer, or have other folders than the run.
        (["B/1.png"], ["/old/A/1.dcm", "/old/B/1.dcm"], {"B/1.png": "/old/B/1.dcm"}),
        (["mine/1.png", "mine/2.png"], ["old/1.dcm", "9"], {"mine/1.png": "old/1.dcm"}),
        (["A/1.png", "A/2.png"], ["2", "A/1"], {"A/1.png": "A/1", "A/2.png": "2"}),
        # The image as DICOM and as PNG is one image.
        (["A/1.png", "A/1.dcm", "B/2.png"], ["1", "2"], {"A/1.png": "1", "B/2.png": "2"}),
        # Nothing tells which of these the row is of.
        (["A/1.png", "B/1.png", "B/2.png"], ["1", "2"], {"B/2.png": "2"}),
        (["x/1.png", "x/2.png"], ["A/1", "B/1", "A/2"], {"x/2.png": "A/2"}),
    ],
)
def test_an_image_is_held_to_the_row_of_its_folder(
    tmp_path: Path, files: list[str], names: list[str], found: dict[str, str]
) -> None:
    cohort = join(scored(tmp_path, files), table(tmp_path, names))
    assert pairs(files, names, cohort) == found
    total, *left_out, evaluated = cohort.flow
    assert total.count == len(files)
    assert evaluated.count == len(found) == len(files) - sum(step.count for step in left_out)


def test_images_of_one_name_are_left_out_unless_the_run_knows_them_as_copies(
    tmp_path: Path,
) -> None:
    files, labels = ["A/1.png", "B/1.png", "B/2.png"], table(tmp_path, ["1", "2"])
    [_, step, _] = join(scored(tmp_path, files), labels).flow
    assert step.text.startswith("named like other images of the run")
    assert step.count == 2
    copies = join(scored(tmp_path, files, ["x", "x", "y"]), labels)
    assert copies.rows.tolist() == [0, 2]
    differing = join(scored(tmp_path, files, ["x", "z", "y"]), labels)
    assert differing.rows.tolist() == [2]
    with pytest.raises(LabelError, match=r"named like other images of the run.*: 2"):
        join(scored(tmp_path, files[:2]), labels)


def test_names_of_a_data_set_are_of_one_image_in_any_folder(tmp_path: Path) -> None:
    path = tmp_path / "train.csv"
    path.write_text("image_id,class_name,rad_id\n1,No finding,R1\n")
    cohort = join(scored(tmp_path, ["A/1.png", "B/1.png"]), FORMATS["vindr"](path, Choices()))
    assert cohort.rows.tolist() == [0]


def test_images_of_two_runs_are_paired_by_their_rows(tmp_path: Path) -> None:
    labels = table(tmp_path, ["A/1", "B/1"])
    halves = []
    for files in (["A/1.png", "B/1.png"], ["/data/B/1.dcm", "/data/A/1.dcm"]):
        scores = scored(tmp_path, files)
        halves.append((scores, join(scores, labels)))
    a, b = pair(halves[0], halves[1], studies=False)
    assert (a.rows.tolist(), b.rows.tolist()) == ([0, 1], [1, 0])


def test_regions_are_of_the_image_in_their_folder(tmp_path: Path) -> None:
    evidence = {"Mass": {"rows": 7, "columns": 7, "values": [1.0] * 49}}
    box = {"x_px": 0, "y_px": 0, "width_px": 224, "height_px": 224}
    facts = {"width_px": 224, "height_px": 224, "crop_box": box}
    files = ["A/1.png", "B/1.png", "B/2.png"]
    rows = [image(name, {"Mass": 0.7}, image_info=facts, evidence=evidence) for name in files]
    run = Run.read(write_run(tmp_path / "run.jsonl", header(["Mass"]), rows))
    scores = read_scores(run)
    cohort = join(scores, table(tmp_path, files))
    for names, count, ambiguous in ((["B/1.png", "B/2.png"], 2, 0), (["1.png", "2.png"], 1, 2)):
        path = tmp_path / "regions.csv"
        marks = [f"{name},Mass,9,9,50,50" for name in names]
        path.write_text("\n".join(["image,finding,x,y,width,height", *marks]) + "\n")
        regions = REGION_FORMATS["csv"](path)
        found = localise(run, scores, cohort, regions, replicates=10, seed=0)
        assert found.findings[0].n == count
        assert found.left_out.get("several images of the run have its name", 0) == ambiguous
