"""`cxr evaluate`: a run and a label file -> the figures, the page and what is printed."""

import csv
import io
import json
import re
from collections.abc import Callable
from contextlib import redirect_stderr, redirect_stdout
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from sklearn.metrics import confusion_matrix, roc_auc_score
from statsmodels.stats.proportion import proportion_confint

from cxr_client.bulk.identity import Identity, read_secret
from cxr_client.cli import main
from cxr_client.runs import Run as CxrRun
from cxr_command import Run
from simulated_runs import drawn_scores, failure, header, image, write_run

N = 300
Case = tuple[Path, Path, dict[str, np.ndarray]]


@pytest.fixture(scope="module")
def case(tmp_path_factory: pytest.TempPathFactory) -> Case:
    """A run of 300 images of 100 patients, a table of labels, and the truth."""
    folder = tmp_path_factory.mktemp("case")
    random = np.random.default_rng(0)
    positive = random.random(N) < 0.3
    scores = drawn_scores(positive, 1, 1.5)
    rare = np.arange(N) < 5
    low_contrast = (scores > 0.4) & (scores < 0.6)
    files = [f"films/{number:05}.png" for number in range(N)]
    rows: list[Any] = [
        image(
            file,
            {"Effusion": scores[index], "Mass": 0.1, "Nodule": 0.9},
            ["LOW_CONTRAST"] * bool(low_contrast[index]),
        )
        for index, file in enumerate(files)
    ]
    rows += [failure("films/x.png", "IMAGE_TOO_LARGE"), image("films/other.png", rows_scores())]
    run = write_run(folder / "run.jsonl", header(["Effusion", "Mass", "Nodule"]), rows)
    table = folder / "labels.csv"
    with table.open("w", newline="") as file:
        writer = csv.writer(file)
        writer.writerow(["image", "Patient ID", "Effusion", "Mass", "age", "sex", "ward"])
        for index in range(N):
            effusion = "" if index == 7 else int(positive[index])
            sex, age = "FM"[index % 2], 20 + index % 70
            name = f"{index:05}.dcm"
            writer.writerow([name, index // 3, effusion, int(rare[index]), age, sex, index % 4])
    return run, table, {"positive": positive, "scores": scores, "low_contrast": low_contrast}


def rows_scores() -> dict[str, float]:
    return {"Effusion": 0.5, "Mass": 0.5, "Nodule": 0.5}


Evaluated = tuple[dict[str, Any], str, str]
Evaluate = Callable[..., Evaluated]


def evaluated(folder: Path, *argv: object) -> Evaluated:
    """Run the command with few replicates; return the JSON, the page and what was printed."""
    page = folder / "out" / "page.html"
    words = ("evaluate", *argv, "--format", "csv", "--output", page, "--replicates", 60)
    with redirect_stdout(io.StringIO()) as output, redirect_stderr(io.StringIO()) as errors:
        status = main([str(word) for word in words])
    assert (status, errors.getvalue()) == (0, "")
    return json.loads(page.with_suffix(".json").read_text()), page.read_text(), output.getvalue()


@pytest.fixture(scope="module")
def plain(case: Case, tmp_path_factory: pytest.TempPathFactory) -> Evaluated:
    """The case evaluated without options."""
    return evaluated(tmp_path_factory.mktemp("plain"), case[0], "--labels", case[1])


@pytest.fixture
def evaluate(tmp_path: Path) -> Evaluate:
    return partial(evaluated, tmp_path)


def test_figures_equal_an_independent_computation(plain: Evaluated, case: Case) -> None:
    found, truth = plain[0], case[2]
    effusion = found["findings"][0]
    known = np.arange(N) != 7
    positive, scores = truth["positive"][known], truth["scores"][known]
    assert effusion["finding"] == "Effusion"
    assert (effusion["n"], effusion["missing"]) == (N - 1, 1)
    assert (effusion["positives"], effusion["patients"]) == (positive.sum(), 100)
    assert effusion["auroc"]["value"] == pytest.approx(roc_auc_score(positive, scores))
    assert effusion["auroc"]["low"] < effusion["auroc"]["value"] < effusion["auroc"]["high"]
    names = ["true_negatives", "false_positives", "false_negatives", "true_positives"]
    table_2x2 = confusion_matrix(positive, scores >= 0.5).ravel().tolist()
    assert [effusion[name] for name in names] == table_2x2
    tn, _, fn, tp = table_2x2
    assert effusion["sensitivity"]["value"] == pytest.approx(tp / (tp + fn))
    assert effusion["npv"]["value"] == pytest.approx(tn / (tn + fn))


def test_no_interval_is_stated_below_ten_positives(plain: Evaluated) -> None:
    mass = plain[0]["findings"][1]
    assert mass["positives"] == 5
    assert mass["auroc_method"].startswith("none")
    for name in ("auroc", "average_precision", "sensitivity", "specificity", "ppv", "npv"):
        assert mass[name]["low"] is None


@pytest.mark.parametrize("patients", [True, False])
def test_perfect_scores_have_an_interval_too(
    evaluate: Evaluate, tmp_path: Path, patients: bool
) -> None:
    """Twelve positives that all score higher prove no more than twelve trials can."""
    rows = [image(f"{n}.png", {"Mass": 0.9 if n < 12 else 0.1}) for n in range(40)]
    run = write_run(tmp_path / "perfect.jsonl", header(["Mass"]), rows)
    table = tmp_path / "perfect.csv"
    column = "patient" if patients else "number"
    lines = [f"{n},{n},{int(n < 12)}" for n in range(40)]
    table.write_text("\n".join([f"image,{column},Mass", *lines]) + "\n")
    [mass] = evaluate(run, "--labels", table, "--prevalence", 0.1)[0]["findings"]
    low, specificity = (proportion_confint(n, n, method="wilson")[0] for n in (12, 28))
    false = (1 - specificity) * 28
    ppv, npv = 12 * low / (12 * low + false), 28 * specificity / (28 * specificity + 12 * (1 - low))
    at_10 = 0.1 * low / (0.1 * low + 0.9 * (1 - specificity))
    for name, end in (
        ("auroc", low),
        ("average_precision", low),
        ("sensitivity", low),
        ("specificity", specificity),
        ("ppv", ppv),
        ("npv", npv),
        ("ppv_at_stated", at_10),
    ):
        assert (mass[name]["value"], mass[name]["high"]) == (1, 1)
        assert mass[name]["low"] == pytest.approx(end)


def test_every_image_of_the_run_is_accounted_for(plain: Evaluated) -> None:
    found, _, printed = plain
    flow = {step["text"]: step["count"] for step in found["flow"]}
    assert flow == {
        "Images in the run": N + 2,
        "not answered: IMAGE_TOO_LARGE": 1,
        "not in the label file, or left out of it": 1,
        "Images evaluated": N,
    }
    assert "not answered: IMAGE_TOO_LARGE: 1" in printed
    assert found["labels"]["findings_without_labels"] == ["Nodule"]


def test_subgroups_are_those_of_the_columns_asked_for(
    plain: Evaluated, evaluate: Evaluate, case: Case
) -> None:
    parts = plain[0]["findings"][0]["subgroups"]
    assert {part["column"] for part in parts} == {"Sex", "Age"}
    assert sum(part["n"] for part in parts if part["column"] == "Sex") == N - 1
    ages = [part["level"] for part in parts if part["column"] == "Age"]
    assert ages == ["18 to 39", "40 to 59", "60 to 79", "80 and over"]
    found, _, _ = evaluate(case[0], "--labels", case[1], "--subgroup", "Ward")
    parts = found["findings"][0]["subgroups"]
    truth, wards = case[2], np.arange(N) % 4
    for part in parts:
        rows = (wards == int(part["level"])) & (np.arange(N) != 7)
        expected = roc_auc_score(truth["positive"][rows], truth["scores"][rows])
        assert part["auroc"]["value"] == pytest.approx(expected)


def test_a_warning_that_predicts_errors_is_found(plain: Evaluated, case: Case) -> None:
    [warning] = plain[0]["findings"][0]["warnings"]
    truth = case[2]
    wrong = (truth["scores"] >= 0.5) != truth["positive"]
    rows = truth["low_contrast"] & (np.arange(N) != 7)
    assert (warning["n"], warning["errors"]) == (rows.sum(), (wrong & rows).sum())
    assert warning["difference"]["low"] > 0


def test_a_low_typicality_that_predicts_errors_is_found(evaluate: Evaluate, tmp_path: Path) -> None:
    random = np.random.default_rng(3)
    positive, scores = random.random(N) < 0.4, np.round(random.random(N), 3)
    wrong = (scores >= 0.5) != positive
    typicality = np.round(random.normal(0.6 - 0.2 * wrong, 0.1), 3)
    rows = [
        image(f"{n}.png", {"Mass": scores[n]}, typicality=None if n == 5 else typicality[n])
        for n in range(N)
    ]
    run = write_run(tmp_path / "typical.jsonl", header(["Mass"]), rows)
    table = tmp_path / "typical.csv"
    lines = [f"{n},{int(positive[n])}" for n in range(N)]
    table.write_text("\n".join(["image,Mass", *lines]) + "\n")
    found, page, _ = evaluate(run, "--labels", table)
    [mass] = found["findings"]
    known = np.arange(N) != 5
    area = roc_auc_score(wrong[known], -typicality[known])
    assert (mass["typicality"]["n"], mass["typicality"]["errors"]) == (N - 1, wrong[known].sum())
    assert mass["typicality"]["auroc"]["value"] == pytest.approx(area)
    assert mass["typicality"]["auroc"]["low"] > 0.5
    assert "Typicality and errors" in page


def test_names_that_were_hashed_are_found_with_the_secret(
    cxr: Run, plain: Evaluated, case: Case, evaluate: Evaluate, tmp_path: Path
) -> None:
    run, table, _ = case
    secret = tmp_path / "secret"
    identity = Identity(secret=read_secret(str(secret)))
    opened = CxrRun.read(run)
    rows: list[Any] = [
        row | {"file": identity.name(row["file"], row["file"])} for row in opened.rows()
    ]
    first = opened.header | {"options": {"anonymous_names": identity.fingerprint()}}
    hashed = write_run(tmp_path / "hashed.jsonl", first, rows)
    clear = plain[0]
    found, page, _ = evaluate(hashed, "--labels", table, "--anonymous-names", secret)
    assert found["findings"] == clear["findings"]
    assert found["flow"] == clear["flow"]
    assert "films/0" not in page
    other = tmp_path / "other"
    read_secret(str(other))
    for options, words in (
        ([hashed], "--anonymous-names SECRET finds"),
        ([hashed, "--anonymous-names", other], "another secret"),
        ([hashed, "--anonymous-names", tmp_path / "none"], "no such file"),
        ([run, "--anonymous-names", secret], "are not hashed"),
    ):
        status, _, errors = cxr("evaluate", *options, "--labels", table, "--format", "csv")
        assert status == 2
        assert words in errors


def test_predictive_values_at_a_stated_prevalence(evaluate: Evaluate, case: Case) -> None:
    prevalences = ("--prevalence", "0.5", "--prevalence", "Effusion=0.01")
    found, page, _ = evaluate(case[0], "--labels", case[1], *prevalences)
    effusion, mass = found["findings"]
    assert (effusion["stated_prevalence"], mass["stated_prevalence"]) == (0.01, 0.5)
    at, own = effusion["ppv_at_stated"], effusion["ppv"]
    assert at["low"] < at["value"] < at["high"] < own["value"]
    assert re.findall(r"<b>Table (\d+)\.", page) == [str(number) for number in range(1, 9)]
    assert "at a stated prevalence" in page


def test_no_figure_is_empty(evaluate: Evaluate, tmp_path: Path) -> None:
    rows = [image(f"{n}.png", {"Mass": n / 40}) for n in range(40)]
    run = write_run(tmp_path / "run.jsonl", header(["Mass"]), rows)
    table = tmp_path / "labels.csv"
    for label, figures in (("1", 3), ("", 2)):
        table.write_text("\n".join(["image,Mass", *(f"{n},{label}" for n in range(40))]) + "\n")
        page = evaluate(run, "--labels", table)[1]
        assert page.count("<figure>") == page.count("<figure><svg") == figures


def test_an_image_without_a_patient_is_no_image_of_another_ones(cxr: Run, tmp_path: Path) -> None:
    """20 images of ten patients, and 20 images whose patients are not known."""
    rows = [image(f"{n}.png", {"Mass": n / 50}) for n in range(40)]
    run = write_run(tmp_path / "run.jsonl", header(["Mass"]), rows)
    blanks = ("", "nan", "NA", " None ")
    patients = [f"p{n // 2}" if n < 20 else blanks[n % 4] for n in range(40)]
    table = tmp_path / "labels.csv"
    lines = [f"{n},{patient},{int(n % 3 == 0)}" for n, patient in enumerate(patients)]
    table.write_text("\n".join(["image,patient,Mass", *lines]) + "\n")
    options = ("--labels", table, "--format", "csv", "--replicates", 20)
    output = ("--output", tmp_path / "page.html")
    assert cxr("evaluate", run, *options, *output)[::2] == (0, "")
    found = json.loads((tmp_path / "page.json").read_text())
    assert (found["patients"], found["findings"][0]["patients"]) == (30, 30)
    with (tmp_path / "page.films.csv").open(newline="") as films:
        numbers = [row["patient"] for row in csv.DictReader(films)]
    assert len(set(numbers)) == 30
    assert len({numbers[n] for n in range(20)}) == 10
    told = "states no patient for 20 of 40 images"
    assert any(told in each for each in found["cautions"])
    status = cxr("evaluate", run, run, *options, *output)[0]
    assert status == 0
    assert any(
        told in each for each in json.loads((tmp_path / "page.json").read_text())["cautions"]
    )


@pytest.mark.parametrize("mass", ["1", "0", ""])
def test_findings_of_one_kind_or_without_labels_are_reported(
    cxr: Run, tmp_path: Path, mass: str
) -> None:
    rows = [image(f"{n}.png", {"Effusion": n / 50, "Mass": n / 40}) for n in range(40)]
    run = write_run(tmp_path / "run.jsonl", header(["Effusion", "Mass"]), rows)
    table = tmp_path / "labels.csv"
    lines = [f"{n},{int(n > 20)},{mass if n < 30 else ''}" for n in range(40)]
    table.write_text("\n".join(["image,Effusion,Mass", *lines]) + "\n")
    options = ("--labels", table, "--format", "csv", "--replicates", 20)
    output = ("--output", tmp_path / "page.html")
    assert cxr("evaluate", run, *options, "--prevalence", "0.05", *output)[::2] == (0, "")
    found = json.loads((tmp_path / "page.json").read_text())["findings"][1]
    assert (found["n"], found["auroc"]["value"]) == (30 if mass else 0, None)
    assert cxr("evaluate", run, run, *options, *output)[::2] == (0, "")


def test_names_of_files_are_shown_only_by_choice(
    plain: Evaluated, evaluate: Evaluate, case: Case
) -> None:
    found, page, printed = plain
    assert found["findings"][0]["worst"]
    assert "films/" not in page + json.dumps(found) + printed
    lines = case[0].read_text().splitlines()
    worst = found["findings"][0]["worst"][0]
    row = json.loads(lines[worst["line"] - 1])
    assert worst["probability"] in [each["probability"] for each in row["findings"]]
    found, page, _ = evaluate(case[0], "--labels", case[1], "--names")
    assert found["findings"][0]["worst"][0]["file"] == row["file"]
    assert " ".join(found["command"]).endswith("--worst 5 --names --output page.html")
    assert row["file"] in page


def test_the_page_needs_no_other_file_and_runs_no_script(plain: Evaluated) -> None:
    page = plain[1]
    assert page.count("<svg") == 6
    assert "default-src 'none'" in page
    assert not re.search(r"<script|<link|<img|\son\w+=|@import|src=", page)
    ids = re.findall(r'\bid="([^"]+)"', page)
    assert len(ids) == len(set(ids))
    assert set(re.findall(r'(?:url\(|href=")#([^")]+)', page)) <= set(ids)


def test_the_same_command_gives_the_same_figures(
    plain: Evaluated, evaluate: Evaluate, case: Case
) -> None:
    first, second = plain[0], evaluate(case[0], "--labels", case[1])[0]
    assert first["findings"] == second["findings"]
    assert first["labels"]["sha256"] == second["labels"]["sha256"]


@pytest.mark.parametrize(
    ("options", "words"),
    [
        (["--subgroup", "site"], "the columns of the label file are Age, Sex, ward"),
        (["--prevalence", "Efusion=0.1"], "did you mean Effusion?"),
        (["--prevalence", "2"], "not a number between 0 and 1"),
        (["--map", "Effusion"], "is not NAME=VALUE"),
        (["--map", "ward=Fracture"], "the model has no finding Fracture"),
        (["--map", "ward=Mass", "--map", "ward=Effusion"], "ward can stand for one finding only"),
        (["--key-column", "file"], "has no column file"),
        (["--readers", "any"], "--format csv takes no --readers"),
        (["--metadata", "m.csv"], "--format csv takes no --metadata"),
        (["--seed", "-1"], '--seed: "-1" is not a whole number of at least 0'),
    ],
)
def test_a_wrong_option_ends_with_a_sentence(
    cxr: Run, case: Case, tmp_path: Path, options: list[str], words: str
) -> None:
    output = tmp_path / "page.html"
    status, _, errors = cxr(
        "evaluate", case[0], "--labels", case[1], "--format", "csv", "--output", output, *options
    )
    assert status == 2
    assert words in errors
    assert len(errors.splitlines()) == 1
    assert not output.exists()


@pytest.mark.parametrize("form", ["nih", "chexpert", "mimic", "padchest", "rsna", "vindr", "siim"])
def test_a_file_of_another_format_is_refused(
    cxr: Run, case: Case, tmp_path: Path, form: str
) -> None:
    output = tmp_path / "page.html"
    status, _, errors = cxr(
        "evaluate", case[0], "--labels", case[1], "--format", form, "--output", output
    )
    assert status == 2
    assert "is not of this format" in errors


def test_labels_of_other_images_are_refused(cxr: Run, case: Case, tmp_path: Path) -> None:
    other = write_run(
        tmp_path / "other.jsonl",
        header(["Effusion", "Mass", "Nodule"]),
        [image("y.png", rows_scores())],
    )
    output = tmp_path / "page.html"
    status, _, errors = cxr(
        "evaluate", other, "--labels", case[1], "--format", "csv", "--output", output
    )
    assert status == 2
    assert "none of the 1 images of the run is in the label file" in errors


def test_what_is_no_run_is_refused(cxr: Run, case: Case, tmp_path: Path) -> None:
    output = tmp_path / "page.html"
    table = tmp_path / "run.csv"
    table.write_text("file,label\n")
    (tmp_path / "run.csv.jsonl").touch()
    for run, words in (
        (case[1], "is not the journal"),
        (table, "the journal of this table is run.csv.jsonl"),
        (tmp_path / "absent", "No such file"),
    ):
        status, _, errors = cxr(
            "evaluate", run, "--labels", case[1], "--format", "csv", "--output", output
        )
        assert status == 2
        assert words in errors


@pytest.mark.parametrize("by", ["refit", "quantized_from"])
def test_a_model_made_of_another_was_trained_on_what_that_was(
    cxr: Run, tmp_path: Path, by: str
) -> None:
    first = header(["Pneumonia"], "ours")
    if by == "refit":
        first["refit"] = {
            "parent_name": "densenet121-res224-rsna",
            "parent_version": "1",
            "labels_title": "t",
            "labels_sha256": "",
            "calibration_method": "",
        }
    else:
        first["quantized_from"] = "densenet121-res224-rsna"
    run = write_run(tmp_path / "r.jsonl", first, [image("a.png", {"Pneumonia": 0.6})])
    table = tmp_path / "stage_2_train_labels.csv"
    table.write_text("patientId,x,y,width,height,Target\na,,,,,0\n")
    output = tmp_path / "e.html"
    assert cxr("evaluate", run, "--labels", table, "--format", "rsna", "--output", output)[0] == 0
    cautions = json.loads(output.with_suffix(".json").read_text())["cautions"]
    assert "densenet121-res224-rsna was trained on images of the RSNA" in cautions[0]
    assert not any("fitted with this label file" in each for each in cautions)


@pytest.mark.parametrize(
    ("stated", "precision"),
    [
        ({}, "float32"),
        ({"precision": "bfloat16"}, "bfloat16"),
        ({"quantized_from": "densenet121-res224-rsna"}, "int8"),
    ],
)
def test_reports_say_what_the_features_were_computed_in(
    cxr: Run, tmp_path: Path, stated: dict[str, str], precision: str
) -> None:
    first: Any = header(["Pneumonia"]) | stated
    run = write_run(tmp_path / "r.jsonl", first, [image("a.png", {"Pneumonia": 0.6})])
    table = tmp_path / "stage_2_train_labels.csv"
    table.write_text("patientId,x,y,width,height,Target\na,,,,,0\n")
    options = ("--labels", table, "--format", "rsna", "--output", output := tmp_path / "e.html")
    assert cxr("evaluate", run, *options)[0] == 0
    assert json.loads(output.with_suffix(".json").read_text())["run"]["precision"] == precision
    assert f"<dt>Precision</dt><dd>{precision}</dd>" in output.read_text()
    assert cxr("evaluate", run, run, *options)[0] == 0
    assert f" in {precision}, preprocessing " in output.read_text()
