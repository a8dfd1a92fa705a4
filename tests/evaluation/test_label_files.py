"""The label files in torchxrayvision's wheel, read whole, against counts made with pandas."""

import importlib.util
from pathlib import Path

import numpy as np
import pandas
import pytest

from cxr_client.evaluation.labels.label_set import Choices, LabelSet
from cxr_client.evaluation.labels.registry import FORMATS

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
