"""The label files in torchxrayvision's wheel, read whole, against counts made with pandas."""

import importlib.util
import json
from pathlib import Path

import numpy as np
import pandas
import pytest
from scipy.stats import norm
from sklearn.metrics import roc_auc_score

from cxr_client.evaluation.labels.label_set import Choices, LabelSet
from cxr_client.evaluation.labels.registry import FORMATS
from cxr_command import Run
from simulated_runs import drawn_scores, header, image, write_run

pytestmark = pytest.mark.torch


@pytest.fixture(scope="module")
def data() -> Path:
    """The folder, found without importing the package, which would import torch."""
    found = importlib.util.find_spec("torchxrayvision")
    assert found
    assert found.origin
    return Path(found.origin).parent / "data"


def positives(labels: LabelSet) -> dict[str, int]:
    return {name: int((values == 1).sum()) for name, values in labels.findings.items()}


def test_nih(data: Path) -> None:
    path = data / "Data_Entry_2017_v2020.csv.gz"
    labels = FORMATS["nih"](path, Choices())
    table = pandas.read_csv(path)
    named = table["Finding Labels"].str.get_dummies("|").sum()
    assert positives(labels) == named.drop("No Finding").to_dict()
    assert len(labels.keys) == len(table) == 112_120
    assert labels.patients is not None
    assert len(np.unique(labels.patients)) == table["Patient ID"].nunique() == 30_805
    assert labels.unmapped == ()


@pytest.mark.parametrize("uncertain", ["ignore", "positive", "negative"])
@pytest.mark.parametrize("blank", ["ignore", "negative"])
def test_chexpert(data: Path, blank: str, uncertain: str) -> None:
    path = data / "chexpert_train.csv.gz"
    choices = Choices(blank=blank, uncertain=uncertain)  # type: ignore[arg-type]
    labels = FORMATS["chexpert"](path, choices)
    table = pandas.read_csv(path)
    frontal = table[table["Frontal/Lateral"] == "Frontal"]
    assert labels.left_out == {"lateral image": 32_387}
    assert len(labels.keys) == len(frontal) == 191_027
    for name, values in (("Pleural Effusion", "Effusion"), ("Cardiomegaly", "Cardiomegaly")):
        column = frontal[name]
        counted = {
            1: (column == 1).sum() + (uncertain == "positive") * (column == -1).sum(),
            0: (column == 0).sum() + (uncertain == "negative") * (column == -1).sum(),
        }
        healthy = frontal["No Finding"] == 1
        counted[0] += (column.isna() & ((blank == "negative") | healthy)).sum()
        found = labels.findings[values]
        assert {value: int((found == value).sum()) for value in (1, 0)} == counted
        assert int(np.isnan(found).sum()) == len(frontal) - counted[0] - counted[1]


def test_padchest(data: Path) -> None:
    path = data / "PADCHEST_chest_x_ray_images_labels_160K_01.02.19.csv.gz"
    labels = FORMATS["padchest"](path, Choices())
    columns = ["Labels", "Projection", "PatientID"]
    table = pandas.read_csv(path, usecols=columns, dtype=str)
    # Its 166,738 lines are fewer records: reports have line breaks.
    assert sum(labels.left_out.values()) + len(labels.keys) == len(table) == 160_861
    table = table.dropna(subset=["Labels"])
    lists = table["Labels"].str.findall(r"'([^']*)'")
    words = lists.map(lambda row: {word.strip() for word in row})
    aside = words.map(lambda row: bool(row & {"exclude", "suboptimal study"}))
    kept = words[~aside & table["Projection"].isin(["PA", "AP", "AP_horizontal"])]
    assert len(labels.keys) == len(kept)
    for finding, wanted in (
        ("Nodule", {"nodule", "multiple nodules"}),
        ("Mass", {"mass", "pulmonary mass"}),
        (
            "Effusion",
            {"pleural effusion", "loculated pleural effusion", "loculated fissural effusion"},
        ),
        ("Cardiomegaly", {"cardiomegaly"}),
    ):
        assert positives(labels)[finding] == int(
            kept.map(lambda row, of=wanted: bool(row & of)).sum()
        )
    substring = kept.map(lambda row: any("nodule" in word for word in row)).sum()
    assert positives(labels)["Nodule"] < 0.8 * substring


def test_rsna(data: Path) -> None:
    path = data / "kaggle_stage_2_train_labels.csv.zip"
    labels = FORMATS["rsna"](path, Choices())
    target = pandas.read_csv(path).groupby("patientId")["Target"].max()
    assert positives(labels) == dict.fromkeys(("Lung Opacity", "Pneumonia"), int(target.sum()))
    assert len(labels.keys) == len(target) == 26_684


@pytest.mark.parametrize(("readers", "votes"), [("majority", 2), ("any", 1), ("all", 3)])
def test_vindr(data: Path, readers: str, votes: int) -> None:
    path = data / "vinbigdata-train.csv.gz"
    labels = FORMATS["vindr"](path, Choices(readers=readers))  # type: ignore[arg-type]
    table = pandas.read_csv(path)
    assert (table.groupby("image_id")["rad_id"].nunique() == 3).all()
    named = table.groupby(["image_id", "class_name"])["rad_id"].nunique().unstack(fill_value=0)
    counted = (named >= votes).sum()
    found = positives(labels)
    assert len(labels.keys) == len(named) == 15_000
    assert found["Nodule"] == found["Mass"] == counted["Nodule/Mass"]
    assert found["Effusion"] == counted["Pleural effusion"]
    assert found["Fibrosis"] == counted["Pulmonary fibrosis"]
    assert labels.unmapped == ("Aortic enlargement", "Calcification", "ILD", "Other lesion")


def test_siim(data: Path) -> None:
    path = data / "siim-pneumothorax-train-rle.csv.gz"
    labels = FORMATS["siim"](path, Choices())
    table = pandas.read_csv(path, skipinitialspace=True)
    masked = table[table["EncodedPixels"].str.strip() != "-1"]["ImageId"].nunique()
    assert positives(labels) == {"Pneumothorax": masked}
    assert len(labels.keys) == table["ImageId"].nunique()


def test_google_as_a_table_with_other_names(data: Path) -> None:
    path = data / "google2019_nih-chest-xray-labels.csv.gz"
    choices = Choices(map={"Airspace opacity": "Lung Opacity"}, patient_column="Patient ID")
    labels = FORMATS["csv"](path, choices)
    table = pandas.read_csv(path)
    counted = {
        name: int((table[column] == "YES").sum())
        for name, column in (
            ("Fracture", "Fracture"),
            ("Pneumothorax", "Pneumothorax"),
            ("Lung Opacity", "Airspace opacity"),
        )
    }
    assert positives(labels) == counted
    assert {"Age", "Sex", "View"} <= set(labels.columns)


def keys_of(label_format: str, path: Path) -> tuple[list[str], str, int, int]:
    """Return names of files, a finding, its positives and its unknown labels, by pandas."""
    columns = {
        "nih": ["Image Index", "Finding Labels"],
        "chexpert": ["Path", "Frontal/Lateral", "Edema"],
        "padchest": ["ImageID", "Labels", "Projection"],
        "rsna": ["patientId", "Target"],
        "vindr": ["image_id", "class_name", "rad_id"],
        "siim": ["ImageId", " EncodedPixels"],
    }
    table = pandas.read_csv(path, usecols=columns[label_format], dtype=str)
    if label_format == "nih":
        named = table["Finding Labels"].str.split("|").map(lambda row: "Hernia" in row)
        return table["Image Index"].tolist(), "Hernia", int(named.sum()), 0
    if label_format == "chexpert":
        table = table[table["Frontal/Lateral"] == "Frontal"]
        value = table["Edema"].astype(float)
        return table["Path"].tolist(), "Edema", int((value == 1).sum()), int((value == -1).sum())
    if label_format == "padchest":
        table = table[table["Projection"].isin(["PA", "AP", "AP_horizontal"])].dropna()
        lists = table["Labels"].str.findall(r"'\s*([^']*?)\s*'")
        aside = lists.map(lambda row: bool({"exclude", "suboptimal study"} & set(row)))
        table, lists = table[~aside], lists[~aside]
        named = lists.map(lambda row: bool({"mass", "pulmonary mass"} & set(row)))
        return table["ImageID"].tolist(), "Mass", int(named.sum()), 0
    if label_format == "rsna":
        target = table.groupby("patientId")["Target"].max()
        return target.index.tolist(), "Lung Opacity", int((target == "1").sum()), 0
    if label_format == "vindr":
        votes = table[table["class_name"] == "Pleural effusion"].groupby("image_id")["rad_id"]
        return table["image_id"].unique().tolist(), "Effusion", int((votes.nunique() >= 2).sum()), 0
    masked = table[table[" EncodedPixels"].str.strip() != "-1"]["ImageId"].nunique()
    return table["ImageId"].unique().tolist(), "Pneumothorax", int(masked), 0


@pytest.mark.slow
@pytest.mark.parametrize(
    ("label_format", "name"),
    [
        ("nih", "Data_Entry_2017_v2020.csv.gz"),
        ("chexpert", "chexpert_train.csv.gz"),
        ("padchest", "PADCHEST_chest_x_ray_images_labels_160K_01.02.19.csv.gz"),
        ("rsna", "kaggle_stage_2_train_labels.csv.zip"),
        ("vindr", "vinbigdata-train.csv.gz"),
        ("siim", "siim-pneumothorax-train-rle.csv.gz"),
    ],
)
def test_what_is_printed_of_a_whole_file_equals_an_independent_count(
    cxr: Run, data: Path, tmp_path: Path, label_format: str, name: str
) -> None:
    """Every image of the file is in the run, with scores whose AUROC is known: two normals."""
    path = data / name
    files, finding, positive, unknown = keys_of(label_format, path)
    labels = FORMATS[label_format](path, Choices())
    unit_of = {key: unit for unit, key in enumerate(labels.keys)}
    truth = labels.findings[finding][[unit_of[labels.key_of(file)] for file in files]]
    scores = drawn_scores(truth, 1, 1.0)
    rows = (image(file, {finding: score}) for file, score in zip(files, scores, strict=True))
    run = write_run(tmp_path / "run.jsonl", header([finding]), rows)
    words = ["--labels", path, "--format", label_format, "--replicates", 20]
    output = tmp_path / "page.html"
    status, printed, errors = cxr("evaluate", run, *words, "--output", output)
    assert (status, errors) == (0, "")
    row = next(line for line in printed.splitlines() if line.startswith(f"{finding}  "))
    known = len(files) - unknown
    assert row.removeprefix(finding).split()[:3] == [str(known), str(positive), str(unknown)]
    assert f"Images evaluated: {len(files)}" in printed
    found = json.loads(output.with_suffix(".json").read_text())["findings"][0]["auroc"]
    known_rows = ~np.isnan(truth)
    area = roc_auc_score(truth[known_rows], scores[known_rows])
    assert found["value"] == pytest.approx(area)
    assert found["value"] == pytest.approx(norm.cdf(1 / np.sqrt(2)), abs=0.04)
