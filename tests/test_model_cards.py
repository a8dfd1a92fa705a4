"""Model cards: every model has one, it is what the catalogue says, and its figures have sources."""

import json
import re
import subprocess
import sys
import tomllib
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import pytest

from cxr_server.bundles.store import PHANTOM
from cxr_server.convert.catalog import CATALOG, LICENSE

ROOT = Path(__file__).parents[1]
FOLDER = ROOT / "docs" / "models"
FACTS = tomllib.loads((FOLDER / "facts.toml").read_text())
AUC = FACTS["auc"]["densenet121-res224-all"]


def card(name: str) -> str:
    return (FOLDER / f"{name}.md").read_text()


@pytest.mark.parametrize("name", CATALOG)
def test_the_card_of_a_model_names_its_training_sets_licence_and_findings(name: str) -> None:
    entry, text = CATALOG[name], card(name)
    assert "For research use only. Never for diagnosis" in text
    assert entry.trained_on in text
    for key in FACTS["trained_on"][name]:
        dataset = FACTS["datasets"][key]
        assert f"| {dataset['title']} [" in text
        assert f"{dataset['images']:,} images" in text
    assert LICENSE in text
    assert entry.url in text
    assert (entry.sha256 or "SHA-256 | not known") in text
    rows = re.findall(r"^\| ([\w ]+) \| ([\d.e-]+) \|", text, re.MULTILINE)
    assert {label: float(point) for label, point in rows} == pytest.approx(
        entry.operating_points, rel=1e-5
    )


def test_the_command_models_and_the_notices_of_a_bundle_lead_to_the_cards() -> None:
    for entry in CATALOG.values():
        assert (ROOT / entry.card).is_file()


def test_the_card_of_the_phantom_says_what_it_is() -> None:
    text = card(PHANTOM)
    assert "say nothing about people" in text
    assert "| People in the training set | none |" in text
    assert "| Licence of the weights | Apache-2.0" in text


def test_the_pages_are_those_that_make_writes() -> None:
    code = (
        "import sys, json, model_cards;"
        "json.dump({path.name: text for path, text in model_cards.pages().items()}, sys.stdout)"
    )
    done = subprocess.run(
        [sys.executable, "-c", code],
        cwd=ROOT / "scripts",
        capture_output=True,
        check=True,
        text=True,
    )
    pages = json.loads(done.stdout)
    assert pages == {path.name: path.read_text() for path in FOLDER.glob("*.md")}
    assert set(pages) == {f"{name}.md" for name in (*CATALOG, PHANTOM, "README")}


def test_every_source_that_a_fact_names_is_given_and_used() -> None:
    cited = {"benchmarks", "calibrate", "chester", "license", "train", "xrv_models"}
    for fact in (*FACTS["datasets"].values(), *FACTS["failures"]):
        assert fact["sources"], fact
        cited.update(fact["sources"])
    assert cited == set(FACTS["sources"])


def test_the_notes_that_are_served_quote_the_figures_of_the_card() -> None:
    for label, reliability in CATALOG["densenet121-res224-all"].reliability.items():
        seen = sorted(
            by_label[label]
            for name, by_label in AUC.items()
            if label in by_label and name not in ("SIIM", "VinDr-CXR")
        )
        joined = " and " if len(seen) == 2 else " to "
        expected = f": {seen[0]:.2f}{joined}{seen[-1]:.2f}"
        if label in AUC["SIIM"]:
            expected += f"; SIIM, NIH's images, {AUC['SIIM'][label]:.2f}"
        if label in AUC["VinDr-CXR"]:
            expected += f"; VinBigData, not trained on, {AUC['VinDr-CXR'][label]:.2f}"
        assert f"{expected} (torchxrayvision, BENCHMARKS.md)." in reliability.note, label


def metadata(dataset: str) -> Any:
    """The images of a data set: patient, age in years, whether male, and view, where known."""
    import pandas

    (package,) = find_spec("torchxrayvision").submodule_search_locations

    def read(name: str) -> Any:
        return pandas.read_csv(next(Path(package).rglob(name)), low_memory=False)

    if dataset == "nih":
        table = read("Data_Entry_2017_v2020.csv.gz")
        columns = ("Patient ID", "Patient Age", "Patient Gender", "View Position")
        patient, age, sex, view = (table[column] for column in columns)
    elif dataset == "pc":
        table = read("PADCHEST_chest_x_ray_images_labels_160K_01.02.19.csv.gz")
        born = pandas.to_numeric(table["PatientBirth"], errors="coerce")
        patient, sex, view = (table[c] for c in ("PatientID", "PatientSex_DICOM", "Projection"))
        age = table["StudyDate_DICOM"] // 10_000 - born
        view = view.replace({"L": "lateral", "AP_horizontal": "AP supine"})
    elif dataset == "chex":
        table = read("chexpert_train.csv.gz")
        patient, age, sex = (
            table["Path"].str.extract(r"(patient\d+)")[0],
            table["Age"],
            table["Sex"],
        )
        view = table["AP/PA"].fillna("lateral")
    else:
        table = read("kaggle_stage_2_train_images_dicom_headers.csv.gz")
        age, sex, view = (table[c] for c in ("PatientAge", "PatientSex", "ViewPosition"))
        patient = None
    return len(table), patient, age.dropna(), sex.str.startswith("M"), view


@pytest.mark.torch
@pytest.mark.parametrize("dataset", [k for k, v in FACTS["datasets"].items() if "views" in v])
def test_the_population_is_what_the_metadata_count(dataset: str) -> None:
    count, patient, age, male, view = metadata(dataset)
    stated = FACTS["datasets"][dataset]
    assert stated["images"] == count
    assert stated["median_age"] == age.median()
    assert stated["under_18_percent"] == round(100 * float((age < 18).mean()), 1)
    assert stated["male_percent"] == round(100 * float(male.mean()), 1)
    views = view.value_counts().to_dict()
    assert {name: views[name] for name in stated["views"]} == stated["views"]
    if "patients" in stated:
        assert stated["patients"] == patient.nunique()
